"""The role ingest with a real ffmpeg: what it writes, exactly, and what it survives."""

import hashlib
import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from tests.media import kit
from tests.media.kit import wait_for
from tests.ports import free_port

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]

FRAME = 1 / 25


def check_index(instance, segments):
    """Every line tells the truth about its file."""
    for segment in segments:
        data = (instance.data / segment.name).read_bytes()
        assert len(data) == segment.size
        assert hashlib.sha256(data).hexdigest() == segment.sha256
        probe = kit.ffprobe(instance.data / segment.name, "stream=codec_type,nb_read_frames,start_time", count=True)
        video = next(stream for stream in probe["streams"] if stream["codec_type"] == "video")
        assert int(video["nb_read_frames"]) == segment.frames
        assert abs(float(video["start_time"]) - segment.pts) < 0.001
        assert abs(segment.duration - segment.frames * FRAME) < 1e-6


def check_clock(instance, segments):
    """The index's UTC agrees with the time in the picture, to a frame, in each unbroken run.

    A busy machine makes frames late, and they say so; none can be early, and
    the most punctual one of a run shows whether the index is right.
    """
    runs = []
    for segment in segments:
        errors = kit.errors_of_clock(instance.data, segment)
        assert len(errors) >= segment.frames - 1
        if segment.discontinuity or not runs:
            runs.append([])
        runs[-1] += errors
    for errors in runs:
        assert -FRAME < min(errors) < FRAME, errors


def test_segments_are_whole_exact_and_continuous(ingest):
    tracks = [{"label": "Room"}, {"label": "English", "language": "eng"}]
    instance = ingest(options={"audio": {"tracks": tracks}}, budget={})
    process = instance.start()
    # Another one at the same time, on the same station: neither minds.
    other = ingest(name="other", instance="other")
    other.start()
    assert all("_other_" in segment.name for segment in other.wait_segments(1))
    other.close()
    instance.wait_segments(3)
    assert (instance.data / "preview.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    status = instance.wait_state("running")
    assert [track["label"] for track in status["audio"]] == ["Room", "English"]
    assert status["audio"][0]["momentary"] > -40
    assert 20 <= wait_for(lambda: instance.status()["fps"]) <= 30
    assert process.stop() == 0
    segments = instance.segments()
    check_index(instance, segments)
    check_clock(instance, segments[:3])
    for before, after in itertools.pairwise(segments):
        assert after.seq == before.seq + 1
        assert abs(after.pts - before.pts - before.duration) < 0.001
        assert abs(after.start - before.end) < FRAME
        assert not after.discontinuity
    assert all(segment.frames == 50 for segment in segments[:-1])
    assert kit.ffprobe(instance.data / segments[1].name, "packet=flags", "-select_streams", "v")["packets"][0][
        "flags"
    ].startswith("K")
    check_labels(instance, segments[1])


def check_labels(instance, segment):
    """The track with the second label sounds like the source's second track, and has its language."""
    streams = kit.ffprobe(instance.data / segment.name, "stream=codec_type:stream_tags=language")["streams"]
    languages = [stream.get("tags", {}).get("language") for stream in streams if stream["codec_type"] == "audio"]
    assert languages == ["und", "eng"] or languages == [None, "eng"]
    for track, frequency in ((0, 400), (1, 600)):
        assert abs(kit.pitch(instance.data / segment.name, track) - frequency) < 40


def check_playlist(instance, before, segments):
    """The playlist goes on where it was: a player that stayed misses nothing, and an ordinary one reads it."""
    after = kit.playlist(instance.data / "live.m3u8")
    assert before["sequence"] >= segments[0].seq and after["sequence"] >= before["sequence"]
    gone = after["sequence"] - before["sequence"]
    kept = before["names"][gone:]
    assert after["names"][: len(kept)] == kept
    listed = segments[after["sequence"] - segments[0].seq :]
    assert [segment.name for segment in listed][: len(after["names"])] == after["names"]
    assert all(abs(a - b.start) < 0.002 for a, b in zip(after["times"], listed, strict=False))
    assert "#EXT-X-ENDLIST" not in after["text"]
    assert kit.ffprobe(instance.data / "live.m3u8", "stream=codec_type")["streams"]


@pytest.mark.pace
def test_killed_encoder_and_killed_supervisor_lose_one_segment_at_most(ingest):
    instance = ingest()
    process = instance.start()
    instance.wait_segments(2)
    (encoder,) = process.children()
    killed_at = time.time()
    os.kill(encoder, signal.SIGKILL)
    instance.wait_segments(5)
    assert process.alive()
    again = process.children()[0]
    assert again != encoder
    played = kit.playlist(instance.data / "live.m3u8")
    process.kill()
    wait_for(lambda: not Path(f"/proc/{again}").exists())
    # What a kill leaves behind: a file that no line names.
    stray = instance.data / instance.segments()[-1].name.replace("hall_a", "stray")
    stray.write_bytes(b"torn")
    before = instance.segments()
    with (instance.data / "index.jsonl").open("ab") as file:
        file.write(b'{"name": "2026')
    instance.start()
    instance.wait_segments(len(before) + 2)
    segments = instance.segments()
    check_playlist(instance, played, segments)
    assert not stray.exists()
    assert [segment.name for segment in segments[: len(before)]] == [segment.name for segment in before]
    assert len({segment.name for segment in segments}) == len(segments)
    assert [segment.seq for segment in segments] == list(range(segments[0].seq, segments[0].seq + len(segments)))
    assert sum(segment.discontinuity for segment in segments) == 2
    check_index(instance, segments)
    check_clock(instance, [segment for segment in segments if segment.frames == 25])
    # Frames up to the kill are there, to within the moment that was in the encoder.
    cut = next(number for number, segment in enumerate(segments) if segment.discontinuity)
    assert killed_at - segments[cut - 1].end < 1.0
    assert segments[cut].start - segments[cut - 1].end < 4.0


def test_bad_configuration_names_the_key_and_exits_78(ingest):
    for options, key in (
        ({"video": {"size": "big"}}, "options.video.size"),
        ({"video": {"rate": "0"}}, "options.video.rate"),
        ({"source": {"type": "vhs"}}, "options.source.type"),
        ({"audio": {"silence": "loud"}}, "options.audio.silence"),
    ):
        instance = ingest(name=key, options=options)
        process = instance.start()
        assert process.popen.wait(10) == 78
        assert key in instance.log()


def test_tells_systemd(ingest, closing, tmp_path):
    channel = closing(kit.NotifySocket(tmp_path))
    # A source that is away: READY all the same, and the watchdog is content.
    instance = ingest({"type": "tcp", "host": "127.0.0.1", "port": free_port()})
    process = instance.start({"NOTIFY_SOCKET": str(channel.path)})
    wait_for(lambda: channel.has("READY=1"))
    wait_for(lambda: channel.has("STATUS=waiting for its source: "))
    fed = [at for at, message in channel.messages if "WATCHDOG=1" in message]
    time.sleep(3)
    fed = [at for at, message in channel.messages if "WATCHDOG=1" in message]
    assert max(after - before for before, after in itertools.pairwise(fed)) < 2
    assert "refused" in instance.wait_state("waiting")["reason"]
    assert process.stop() == 0
    assert channel.has("STOPPING=1")
