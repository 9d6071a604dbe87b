"""Products, made for real: exact to the frame, in step with the sound, loud enough, described."""

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from tests.encode.recording import Recording, loudness, numbers, onsets

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]


def probe(path):
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def exact(path: Path, first: int, last: int, card: int = 25) -> None:
    """The film shows a card, then each frame from `first` up to `last` once, then a card."""
    seen = numbers(path)
    assert len(seen) == last - first + 2 * card
    assert seen[card : len(seen) - card] == list(range(first, last))
    assert not {*seen[:card], *seen[len(seen) - card :]} & {*range(max(1, first), last + 1)}


def test_a_talk_is_cut_to_the_frame_in_all_formats(instance, recording):
    """From inside one segment to inside another; 0.56 s after the first frame, frame 75 brings the tone."""
    one = instance(recording)
    one.put(one.job(title="It's 100% [real]: \\ 'yes', really", description="About; things", language="eng"))
    one.start()
    manifest = one.finished()
    done = one.data / "done" / "talk"
    assert sorted(path.name for path in done.iterdir()) == ["manifest.json", "talk.mp4", "talk.opus", "talk.webm"]
    for name in ("talk.mp4", "talk.webm"):
        exact(done / name, 61, 161)
        assert onsets(done / name) == pytest.approx([1.56, 2.56, 3.56, 4.56], abs=0.011)
        assert loudness(done / name) == pytest.approx(-23, abs=1)
        facts = probe(done / name)
        assert [stream["codec_type"] for stream in facts["streams"]] == ["video", "audio"]
        assert float(facts["format"]["duration"]) == pytest.approx(6, abs=0.04)
    assert onsets(done / "talk.opus") == pytest.approx([0.56, 1.56, 2.56, 3.56], abs=0.011)
    assert loudness(done / "talk.opus") == pytest.approx(-23, abs=1)
    mp4, webm = probe(done / "talk.mp4"), probe(done / "talk.webm")
    assert [stream["codec_name"] for stream in mp4["streams"]] == ["h264", "aac"]
    assert [stream["codec_name"] for stream in webm["streams"]] == ["vp9", "opus"]
    tags = mp4["format"]["tags"]
    assert tags["title"] == "It's 100% [real]: \\ 'yes', really"
    assert (tags["artist"], tags["album"], tags["date"]) == ("Ann", "A Conference", "2026-03-01")
    assert tags["description"] == "About; things"
    assert mp4["streams"][1]["tags"]["language"] == "eng"
    data = (done / "talk.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert manifest["frames"] == 100 and manifest["gaps"] == []
    (part,) = manifest["ranges"]
    assert (part["first_seq"], part["last_seq"], part["source"]) == (1, 3, "hall-a-cam/main")
    assert part["segments"][0]["sha256"] == recording.lines[1]["sha256"]
    assert {row["name"]: row["size"] for row in manifest["files"]} == {
        path.name: path.stat().st_size for path in done.iterdir() if path.name != "manifest.json"
    }
    assert "ffmpeg" in manifest["tools"]["ffmpeg"]
    one.wait(lambda: not list((one.data / "wip").iterdir()))
    assert json.loads((one.data / "done" / "index.json").read_text()) == ["talk"]
    assert (one.data / "done" / "talk.json").exists()


def test_cuts_at_the_edges_of_segments(instance, recording):
    one = instance(recording, title={"seconds": 0}, credits={"seconds": 0}, formats=["mp4"])
    edges = [(0, 50), (50, 100), (49, 51), (200, 250), (99, 101)]
    for first, last in edges:
        one.put(one.job(f"from{first}", first, last))
    one.start()
    for first, last in edges:
        one.finished(f"from{first}")
        exact(one.data / "done" / f"from{first}" / f"from{first}.mp4", first, last, card=0)


def test_restart_wrap_and_odd_rate(instance, tmp_path):
    """29.97 frames a second; time stamps wrap within the talk, then begin anew after a restart of the ingest."""
    rate = Fraction(30000, 1001)
    source = Recording(tmp_path / "main", rate)
    source.add(0, 120, pts=2**33 / 90000 - 2.5)
    source.add(120, 120, pts=5)
    one = instance(source)
    one.put(one.job(first=30, last=210, formats=["mp4"]))
    one.start()
    manifest = one.finished()
    exact(one.data / "done" / "talk" / "talk.mp4", 30, 210, card=30)
    assert manifest["rate"] == "30000/1001"
    assert [part["frames"] for part in manifest["ranges"]] == [90, 90]
    # The card lasts as long as what comes before the talk; frame 30 lies a thousandth within the second's tone.
    assert onsets(one.data / "done" / "talk" / "talk.mp4") == pytest.approx([1.001, 2, 3, 4, 5, 6, 7], abs=0.012)


def test_missing_media_is_reported_to_the_frame_and_can_be_left_out(instance, tmp_path):
    source = Recording(tmp_path / "main")
    source.add(0, 100)
    source.add(137, 113, pts=700)
    one = instance(source)
    one.put(one.job(first=60, last=240, formats=["mp4"]))
    one.start()
    reason = one.failed()
    gap = {"from": "2026-03-01T09:00:04.000Z", "to": "2026-03-01T09:00:05.480Z", "seconds": 1.48}
    assert reason["gaps"] == [gap]
    assert "1.480 s of media are missing from hall-a-cam/main" in reason["reason"]
    assert "allow_gaps" in reason["what_to_do"]
    (one.data / "fail" / "talk.json").unlink()
    one.put(one.job(first=60, last=240, formats=["mp4"], allow_gaps=True))
    one.wait(lambda: not (one.data / "fail" / "talk.reason.json").exists())
    manifest = one.finished()
    seen = numbers(one.data / "done" / "talk" / "talk.mp4")
    assert seen[25:-25] == [*range(60, 100), *range(137, 240)]
    assert manifest["gaps"] == [gap]


def test_options_for_everything_around_the_talk(instance, recording, tmp_path):
    """Intro with sound, outro without, a picture behind the title, AV1, MP3, -16 LUFS, two tracks, and no sound."""
    common = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=160x120:r=30:d=1"]
    tone = ["-f", "lavfi", "-i", "sine=d=1"]
    subprocess.run([*common, *tone, str(tmp_path / "intro.mp4")], check=True)
    subprocess.run([*common, str(tmp_path / "outro.mp4")], check=True)
    subprocess.run([*common[:-1], "color=red:s=64x64", "-frames:v", "1", str(tmp_path / "bg.png")], check=True)
    source = Recording(tmp_path / "main", tracks=2)
    source.add(0, 100)
    files = {"intro": str(tmp_path / "intro.mp4"), "outro": str(tmp_path / "outro.mp4")}
    title = {"seconds": 1, "background": str(tmp_path / "bg.png")}
    more = {"webm": {"codec": "av1", "speed": 13}, "audio": {"format": "mp3"}, "loudness": {"target": -16}}
    one = instance(source, **files, title=title, **more)
    one.put(one.job(first=10, last=90))
    one.start()
    one.finished()
    done = one.data / "done" / "talk"
    for name in ("talk.mp4", "talk.webm"):
        exact(done / name, 10, 90, card=50)
        assert [s["codec_type"] for s in probe(done / name)["streams"]] == ["video", "audio", "audio"]
    assert probe(done / "talk.webm")["streams"][0]["codec_name"] == "av1"
    assert probe(done / "talk.mp3")["streams"][0]["codec_name"] == "mp3"
    assert loudness(done / "talk.mp3") == pytest.approx(-16, abs=1)
    assert loudness(done / "talk.mp4") == pytest.approx(-16, abs=1)


def test_a_silent_camera_still_makes_a_film_but_no_audio_file(instance, tmp_path):
    source = Recording(tmp_path / "main", tracks=0)
    source.add(0, 100)
    one = instance(source)
    one.put(one.job("film", first=10, last=90, formats=["mp4"]))
    one.put(one.job("sound", first=10, last=90, formats=["audio"]))
    one.start()
    one.wait(lambda: (one.data / "done" / "film" / "manifest.json").exists())
    exact(one.data / "done" / "film" / "film.mp4", 10, 90)
    assert "no sound" in one.failed("sound")["reason"]


@pytest.mark.parametrize(
    ("level", "lufs"), [(0.9, -23), (0.01, -23), (0.001, -67)], ids=["loud", "faint", "an open line, left as it is"]
)
def test_loudness(instance, tmp_path, level, lufs):
    source = Recording(tmp_path / "main", level=level)
    source.add(0, 150)
    one = instance(source)
    one.put(one.job(first=0, last=150, formats=["audio"]))
    one.start()
    one.finished()
    assert loudness(one.data / "done" / "talk" / "talk.opus") == pytest.approx(lufs, abs=1)
