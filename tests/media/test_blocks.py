"""The parts that need no ffmpeg, one rule at a time."""

import itertools
import json
import os
import socket
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station import exits, facts, files, index, levels, notify, supervisor, testcard, utc
from station.config import Config, ConfigError, load, merge
from station.ffmpeg_args import Track
from station.index import Index, reader
from station.media import MediaFolder
from station.metrics import Metrics
from station.playlist import WINDOW, Playlist
from station.receipts import Witnesses
from station.retention import Policy
from station.segmenter import Job, Segmenter
from station.supervisor import Advance, Backoff, Child
from station.tie import Tie
from station.transport import CLOCK, WRAP, Cut, Cutter, StreamError
from tests.media import kit


class Clock:
    def __init__(self):
        self.now = 1000.0
        self.wall = 1_772_355_600.0

    def tie(self):
        return Tie(0.04, lambda: self.wall + self.now, lambda: self.now)


def test_tie_takes_the_earliest_arrival():
    clock = Clock()
    tie = clock.tie()
    for frame in range(100):
        late = 0.0 if frame % 10 == 3 else 0.03
        clock.now = 1000 + frame * 0.04 + late
        tie.see(frame * 0.04, clock.now)
    assert tie.utc(0) == pytest.approx(clock.wall + 1000, abs=0.001)


def test_tie_rests_within_a_quarter_of_a_frame_and_follows_drift_and_steps():
    clock = Clock()
    tie = clock.tie()

    def run(begin, seconds, drift=0.0):
        for frame in range(round(seconds * 25)):
            position = begin + frame * 0.04
            clock.now = 1000 + position * (1 + drift)
            tie.see(position, clock.now)

    run(0, 5)
    first = tie.utc(0)
    run(5, 5, drift=1e-5)
    assert tie.utc(0) == first and tie.moves == 0
    # 100 ppm over 200 s are 20 ms: the source's clock is slow, and the tie follows.
    run(10, 200, drift=1e-4)
    assert tie.utc(209.96) == pytest.approx(clock.wall + clock.now, abs=0.012) and tie.moves > 0
    clock.wall += 1.5
    assert tie.utc(209.96) == pytest.approx(clock.wall + clock.now, abs=0.012)


def test_tie_is_settled_when_the_frames_of_a_start_have_caught_up():
    clock = Clock()
    tie = clock.tie()
    assert not tie.settled
    settled = []
    for frame in range(150):
        position = frame * 0.04
        # The start is 1.5 s late, and made good at twice the speed.
        clock.now = 1000 + max(position, 1.5 + position / 2)
        tie.see(position, clock.now)
        settled.append(tie.settled)
    assert 3 < settled.index(True) * 0.04 < 4.3 and all(settled[settled.index(True) :])


def test_tie_is_not_moved_by_a_gap_and_its_burst():
    clock = Clock()
    tie = clock.tie()
    for frame in range(250):
        position = frame * 0.04
        clock.now = 1000 + (position if not 4 <= position < 8 else 8.0)
        tie.see(position, clock.now)
    assert tie.utc(0) == pytest.approx(clock.wall + 1000, abs=0.001)


@pytest.mark.parametrize(
    ("status", "errors", "asked", "kind"),
    [
        (255, [], True, "stopped"),
        (-9, [], True, "stopped"),
        (0, [], False, "ended"),
        (1, ["[error] tcp://mixer:11000: Connection refused"], False, "absent"),
        (1, ["[error] /dev/video0: No such file or directory"], False, "absent"),
        (0, ["[error] tcp://mixer:11000: Connection timed out"], False, "absent"),
        (1, ["[error] av_interleaved_write_frame(): No space left on device"], False, "full"),
        (1, ["[fatal] Unknown encoder 'libx265'"], False, "failed"),
        (228, [], False, "full"),
        (254, [], False, "absent"),
        (145, [], False, "absent"),
        (146, [], False, "absent"),
        (-11, ["[error] x"], False, "killed"),
        (255, [], False, "killed"),
        (77, [], False, "failed"),
    ],
)
def test_exit_codes_of_old_and_new_ffmpeg(status, errors, asked, kind):
    ending = exits.judge(status, errors, asked=asked)
    assert ending.kind == kind and ending.reason


def test_backoff_grows_to_its_limit_and_forgives():
    backoff = Backoff(1, 5)
    assert [backoff.after(0) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert backoff.after(supervisor.STEADY_AFTER) == 1


def test_only_a_higher_value_is_an_advance():
    advance = Advance(8, 0)
    advance.see(10, 1)
    for now in range(2, 10):
        advance.see(10, now)
    assert not advance.stalled(8.9) and advance.stalled(9.5)
    advance.see(10.04, 9.6)
    assert not advance.stalled(17)


def test_a_child_hands_over_pipes_dies_with_us_and_keeps_secrets(tmp_path):
    script = "echo '[error] url with hunter2' >&2; echo out; echo extra > /proc/self/fd/$1; exit 3"
    child = Child(
        lambda fds: ["sh", "-c", script, "sh", str(fds["more"])], ("stdout", "stderr", "more"), secrets=["hunter2"]
    )
    kit.wait_for(child.ended)
    assert child.read("stdout") == b"out\n" and child.read("more") == b"extra\n"
    assert child.read("stdout") == b""
    child.take_errors(child.read("stderr"))
    ending = child.ending()
    child.close()
    assert list(child.errors) == ["[error] url with ***"] and ending.kind == "failed"


def test_a_bound_program_ends_with_who_started_it(tmp_path, closing):
    script = (
        "import subprocess, time; from station import bound; "
        "print(subprocess.Popen(bound.command(['sleep', '60'])).pid, flush=True); time.sleep(60)"
    )
    process = closing(kit.Process([sys.executable, "-c", script], tmp_path / "log.txt"))
    pid = int(kit.wait_for(process.text))
    name = kit.wait_for(lambda: (text := Path(f"/proc/{pid}/comm").read_text()) == "sleep\n" and text)
    process.kill()
    kit.wait_for(lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/comm").read_text() != name)


def test_progress_keeps_the_newest():
    text = b"frame=1\nout_time_us=40000\nprogress=continue\nframe=2\nout_time_us=80000\nspeed=1.01x\n"
    assert supervisor.progress(text) == {"frame": "2", "out_time_us": "80000", "speed": "1.01x", "progress": "continue"}


def packet(pid, *, begin=False, key=False, pts=None, counter=0, fill=0):
    """One TS packet as ffmpeg writes it."""
    body = bytes([7, 0x50 if key else 0x10]) + bytes(6) if begin else b""
    head = bytes([0x47, (0x40 if begin or pid < 0x100 or pid == 0x1000 else 0) | pid >> 8, pid & 0xFF])
    head += bytes([(0x30 if begin else 0x10) | counter])
    if pts is not None:
        mark = [
            0x21 | (pts >> 29) & 0xE,
            pts >> 22 & 0xFF,
            (pts >> 14 & 0xFE) | 1,
            pts >> 7 & 0xFF,
            (pts << 1 & 0xFE) | 1,
        ]
        body += bytes([0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, *mark])
    return (head + body).ljust(188, bytes([fill]))


def stream(first, frames, gop=5):
    out = packet(0) + packet(0x1000)
    for number in range(frames):
        pts = (first + number * 3600) % WRAP
        out += packet(0x100, begin=True, key=number % gop == 0, pts=pts) + packet(0x100, fill=number) + packet(0x101)
    return out


@given(st.integers(1, 2000), st.integers(0, WRAP - 1))
@settings(deadline=None, max_examples=50)
def test_cutter_cuts_at_keyframes_wherever_the_reads_end(size, first):
    data = stream(first, 23)
    cutter = Cutter()
    cuts = []
    for at in range(0, len(data), size):
        cuts += cutter.feed(data[at : at + size])
    cuts.append(cutter.finish(clean=True))
    assert [cut.frames for cut in cuts] == [5, 5, 5, 5, 3]
    for before, after in itertools.pairwise(cuts):
        # The position goes on where the 33 bits of the stream wrap.
        assert after.position - before.position == pytest.approx(0.2)
        assert (after.pts - before.pts) % (WRAP / CLOCK) == pytest.approx(0.2)
    for cut in cuts:
        assert len(cut.data) % 188 == 0 and cut.data[:3] == b"\x47\x40\x00" and cut.data[189:191] == b"\x50\x00"


def test_cutter_leaves_out_a_frame_that_may_be_torn():
    cutter = Cutter()
    cutter.feed(stream(0, 3)[:-100])
    assert cutter.finish(clean=False).frames == 2
    assert Cutter().finish(clean=False) is None


def test_cutter_refuses_what_is_no_stream():
    with pytest.raises(StreamError):
        Cutter().feed(stream(0, 2)[:188] + b"\x00\xff" + stream(0, 2)[:186])


def test_facts_in_any_pieces():
    text = b"frame:0    pts:0       pts_time:0\nstation=v\nframe:1 pts:-40 pts_time:1\na.b=c=d\nstation=a0\n"
    for size in range(1, len(text)):
        parser = facts.Parser()
        found = [fact for at in range(0, len(text), size) for fact in parser.feed(text[at : at + size])]
        assert [(fact.who, fact.pts, fact.values) for fact in found] == [("v", 0, {}), ("a0", -40, {"a.b": "c=d"})]


def measured(*rms):
    return {"lavfi.r128.M": "-23.0", **{f"lavfi.astats.{at + 1}.RMS_level": str(level) for at, level in enumerate(rms)}}


def test_silence_and_a_missing_channel_after_their_time():
    level = levels.Level(Track("Room", "und", 0, (), 0.0))
    level.see(measured(-20, -25), 0, -50)
    for now in range(1, 31):
        level.see(measured(-20, "-inf"), now, -50)
    assert [warning["code"] for warning in levels.warnings([level], 30, 20)] == ["channel_missing"]
    for now in range(31, 61):
        level.see(measured(-60, "-inf"), now, -50)
    assert [warning["code"] for warning in levels.warnings([level], 60, 20)] == ["silence"]
    assert json.dumps(level.report(0, 60), allow_nan=False)
    level.see(measured(-20, -30), 61, -50)
    assert levels.warnings([level], 61, 20) == []


def write_config(tmp_path, **values):
    value = {"role": "ingest", "instance": "main", **values}
    (tmp_path / "config.json").write_text(json.dumps(value))
    return tmp_path / "config.json"


def test_secrets_are_laid_over_the_options(tmp_path, monkeypatch):
    path = write_config(tmp_path, options={"source": {"type": "srt", "port": 1}}, targets={"archive": {"host": "h"}})
    secret = {"options": {"source": {"passphrase": "p"}}, "targets": {"archive": {"password": "w"}}}
    (tmp_path / "secrets.json").write_text(json.dumps(secret))
    assert "passphrase" not in load(path).options["source"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    config = load(path)
    assert config.options["source"] == {"type": "srt", "port": 1, "passphrase": "p"}
    assert config.targets == {"archive": {"host": "h", "password": "w"}}
    assert config.paths.data == tmp_path / "data" and config.context() == {}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"instance": None}, "instance"),
        ({"schema": 2}, "schema"),
        ({"options": []}, "options"),
        ({"paths": {"date": "x"}}, "paths.date"),
        ({"sources": {"a/b": 1}}, "sources.a/b"),
        ({"budget": {"watchdog": "long"}}, "budget.watchdog"),
    ],
)
def test_a_bad_configuration_names_its_key(tmp_path, values, key):
    with pytest.raises(ConfigError) as caught:
        load(write_config(tmp_path, **values))
    assert caught.value.key == key and key in str(caught.value)


def test_options_are_checked_for_their_type(tmp_path):
    config: Config = load(write_config(tmp_path, options={"a": {"b": 1, "flag": True}}))
    assert config.option("a.b", int) == 1 and config.option("a.b", float) == 1.0
    assert config.option("a.c", str, "x") == "x"
    for key, kind in (("a.b", str), ("a.c", int), ("a.flag", int), ("a.flag", float)):
        with pytest.raises(ConfigError, match=key):
            config.option(key, kind)


def test_merge_replaces_lists_and_null():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}, "d": None}) == {
        "a": {"b": 1, "c": [2]},
        "d": None,
    }


def test_index_survives_a_torn_end_and_rubbish_in_the_middle(tmp_path):
    media = kit.recording(tmp_path / "data", 3)
    path = media.index.path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 50 + b"\n" + lines[1] + lines[2][:40])
    follow = reader(tmp_path / "data")
    assert [segment.seq for segment in follow.poll()] == [0, 1]
    Index(tmp_path / "data").append(media.index.segments[2])
    assert [segment.seq for segment in follow.poll()] == [2] and follow.restarts == 0


def test_index_reader_notices_a_rewrite_also_one_of_the_same_length(tmp_path):
    media = kit.recording(tmp_path / "data", 3)
    follow = reader(tmp_path / "data")
    follow.poll()
    other = replace(media.index.segments[2], sha256="f" * 64)
    media.index.rewrite([*media.index.segments[:2], other])
    assert follow.poll()[2] == other and follow.restarts == 1
    media.index.rewrite([])
    assert follow.poll() == [] and follow.restarts == 2


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "20260301/09/../../x.ts", "20260301/09/a/b.ts", "x.ts"]
)
def test_index_refuses_names_that_lead_elsewhere(tmp_path, name):
    line = replace(kit.recording(tmp_path / "data", 1).index.segments[0], name=name).line()
    with pytest.raises(ValueError, match="name"):
        index.parse(line)


def test_opening_a_folder_drops_what_the_index_lacks_and_unlists_what_is_cut_short(tmp_path):
    media = kit.recording(tmp_path / "data", 4)
    stray = media.folder / "20260301" / "09" / "stray.ts"
    stray.write_bytes(b"")
    cut = media.folder / media.index.segments[1].name
    cut.write_bytes(b"")
    again = MediaFolder(media.folder, 2)
    assert [segment.seq for segment in again.index.segments] == [0, 2, 3]
    assert not stray.exists() and not cut.exists() and again.removed == set()


def test_playlist_counts_discontinuities_that_leave_also_over_restarts(tmp_path):
    media = kit.recording(tmp_path / "data", 1)
    numbers = []
    for number in range(1, 30):
        if number % 7 == 0:
            media = MediaFolder(media.folder, 2)
        segment = replace(
            media.index.segments[0], seq=number, name=f"20260301/09/{number}.ts", discontinuity=number % 4 == 0
        )
        (media.folder / segment.name).write_bytes(b"")
        media.add(segment, b"x" * segment.size)
        found = kit.playlist(media.folder / "live.m3u8")
        numbers.append((found["sequence"], found["discontinuities"]))
        first = 1 + number - len(found["names"])
        assert found["sequence"] == first
        assert found["discontinuities"] == sum(at % 4 == 0 for at in range(1, first))
        assert len(found["names"]) <= WINDOW
    assert numbers == sorted(numbers)


def test_playlist_goes_on_behind_a_lost_recording(tmp_path):
    media = kit.recording(tmp_path / "data", 12)
    before = kit.playlist(media.folder / "live.m3u8")
    playlist = Playlist(media.folder, 2, [])
    playlist.add(media.index.segments[0])
    after = kit.playlist(media.folder / "live.m3u8")
    assert after["sequence"] == before["sequence"] + len(before["names"])


def test_metrics_are_escaped_and_atomic(tmp_path):
    metrics = Metrics(tmp_path / "x.prom", {"instance": "main"})
    metrics.set("a_total", 3, "Counts\nthings", kind="counter")
    metrics.set("level", -23.5, "Level", track='a "b" \\ c\n')
    metrics.set("level", float("-inf"), "Level", track="d")
    metrics.write()
    assert (tmp_path / "x.prom").read_text() == (
        "# HELP a_total Counts\\nthings\n# TYPE a_total counter\n"
        'a_total{instance="main"} 3\n'
        "# HELP level Level\n# TYPE level gauge\n"
        'level{instance="main",track="a \\"b\\" \\\\ c\\n"} -23.5\n'
        'level{instance="main",track="d"} -Inf\n'
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
    metrics.path = tmp_path / "absent" / "x.prom"
    metrics.write()


def test_notify_speaks_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.send("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0stationmaster-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@stationmaster-test-{os.getpid()}")
        notify.ready("two\nlines")
        assert channel.recv(1000) == b"READY=1\nWATCHDOG=1\nSTATUS=two lines"
    assert not notify.send("READY=1")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write(tmp_path / "a", "old")
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a", object())
    with pytest.raises(OSError, match="directory"):
        files.write(tmp_path, "x")
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@given(st.floats(0, 4e9))
def test_times_go_through_text(seconds):
    assert utc.from_text(utc.to_text(seconds)) == pytest.approx(seconds, abs=2e-6)
    assert utc.to_stamp(seconds)[:8] == utc.to_text(seconds)[:10].replace("-", "")


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        utc.from_text("2026-03-01T09:00:00")


@given(st.integers(1, 2**42 - 1))
def test_strip_reads_back(milliseconds):
    bits = f"{milliseconds:042b}{milliseconds % testcard.CHECK_MODULUS:06b}"
    row = [235 if bits[x * testcard.CELLS // 320] == "1" else 16 for x in range(320)]
    assert testcard.decode(row) == milliseconds / 1000
    row[int(3.5 * 320 / testcard.CELLS)] ^= 0xFF
    assert testcard.decode(row) is None


def test_segment_of_2997_frames_a_second_is_sixty_frames(tmp_path):
    from station import ffmpeg_args

    config = load(write_config(tmp_path, options={"source": {"type": "testcard"}, "video": {"rate": "30000/1001"}}))
    made = ffmpeg_args.plan(config)
    assert made.gop == 60 and made.rate == Fraction(30000, 1001) and made.tick == pytest.approx(2.002)


def test_names_follow_the_clock_over_midnight_and_are_never_used_twice(tmp_path):
    config = load(write_config(tmp_path))
    media = MediaFolder(kit.make(tmp_path / "data"), 2)
    writer = Segmenter(media, "hall_a_main", Fraction(25), Policy(72, 0.0, 4), Witnesses(config), lambda error: None)
    midnight = utc.from_text("2026-03-02T00:00:00Z")
    writer.start()
    for second in (-3, -1, 1, 1):  # the clock may stand, or go back
        writer.put(Job(Cut(b"x" * 188, 50, 10.0, 10.0), midnight + second, discontinuity=False))
    assert writer.stop(5)
    names = [segment.name for segment in reader(media.folder).poll()]
    assert [name[:11] for name in names] == ["20260301/23", "20260301/23", "20260302/00", "20260302/00"]
    assert len(set(names)) == 4 and all((media.folder / name).exists() for name in names)
    first = names[0].rpartition("_")[2].removesuffix(".ts")
    # With no history the sequence begins at the clock.
    assert int(first) == int(midnight - 3) // 2
