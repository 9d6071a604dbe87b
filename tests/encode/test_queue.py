"""Jobs coming and going, the real program: bad ones, waiting ones, doubles, kills, full disks, sources that go away."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from station import utc
from station.notify import send
from tests.encode.conftest import CAMERA
from tests.encode.recording import T0, Recording, numbers
from tests.encode.test_parts import Server

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]
QUICK = {"formats": ["mp4"], "title": {"seconds": 0}, "credits": {"seconds": 0}}


def test_bad_jobs_fail_with_their_reason_and_good_ones_go_on(instance, recording):
    one = instance(recording, **QUICK)
    one.put('{"id": "half", "ti', "half")
    one.put("[]", "list")
    one.put({**one.job("nobody"), "source": "hall-b-cam/main"})
    one.put({**one.job("typo"), "presenter": "Ann"})
    one.put({**one.job("long"), "title": ""})
    one.put({**one.job("early"), "start": utc.to_text(T0 - 3600), "end": utc.to_text(T0 - 3500)})
    one.put(one.job("good"))
    one.start()
    one.wait(lambda: (one.data / "done" / "good" / "manifest.json").exists())
    reasons = {name: one.failed(name)["reason"] for name in ("half", "list", "nobody", "typo", "long", "early")}
    assert "no JSON" in reasons["half"]
    assert "a job is a JSON object" in reasons["list"]
    assert f"this instance reads {CAMERA}" in reasons["nobody"]
    assert "presenter: unknown" in reasons["typo"]
    assert "title: is empty" in reasons["long"]
    assert "no media at all from 2026-03-01T08:00:00.000Z" in reasons["early"]
    assert all(reason["what_to_do"] for reason in one.reasons())
    one.wait(lambda: one.status()["failed"] == 6)
    # Corrected and moved back, it is done; its old reason goes.
    path = one.data / "fail" / "typo.json"
    path.write_text(json.dumps(one.job("typo")))
    path.rename(one.data / "todo" / "typo.json")
    one.wait(lambda: (one.data / "done" / "typo" / "manifest.json").exists())
    assert not (one.data / "fail" / "typo.reason.json").exists()
    one.wait(lambda: json.loads((one.data / "done" / "index.json").read_text()) == ["good", "typo"])


def test_a_double_is_refused_unless_it_replaces(instance, recording):
    one = instance(recording, **QUICK)
    one.put(one.job("a", 0, 50), "first")
    one.start()
    one.finished("a")
    one.put(one.job("a", 50, 100), "second")
    assert "done/a/ is finished already" in one.failed("second")["reason"]
    film = one.data / "done" / "a" / "a.mp4"
    assert numbers(film) == list(range(0, 50))
    one.put(one.job("a", 50, 100, replace=True), "third")
    one.wait(lambda: film.exists() and numbers(film) == list(range(50, 100)))
    (old,) = (one.data / "replaced").glob("a-*/a.mp4")
    assert numbers(old) == list(range(0, 50))


NONE = "none"
SLOW = "talk.mp4"
ANALYSE = "print_format"


@pytest.mark.parametrize(
    ("pattern", "step"),
    [
        (SLOW, "mp4"),
        pytest.param(ANALYSE, "analyse", marks=pytest.mark.soak),
        pytest.param("talk.webm", "webm", marks=pytest.mark.soak),
    ],
)
def test_killed_at_each_step_it_is_done_after_the_next_start(instance, recording, pattern, step):
    """kill -9 while analysing and encoding: never a half product, no ffmpeg left over, done in the end."""
    one = instance(recording, formats=["mp4", "webm"])
    one.put(one.job(first=0, last=250))
    one.slow(pattern)
    one.start()
    one.wait(lambda: one.step(step))
    one.end(signal.SIGKILL)
    time.sleep(0.2)
    assert not (one.data / "done" / "talk").exists()
    assert (one.data / "wip" / "talk.json").exists()
    assert not subprocess.run(["pgrep", "-f", f"ffmpeg .*{pattern}"], capture_output=True).stdout
    one.slow(NONE)
    one.start()
    one.finished()
    assert numbers(one.data / "done" / "talk" / "talk.mp4")[25:-25] == list(range(250))
    assert "queued again" in one.said()


def test_a_job_that_always_crashes_the_encoder_is_put_aside(instance, recording):
    one = instance(recording, formats=["mp4"], max_crashes=2)
    one.slow(ANALYSE)
    one.put(one.job(first=0, last=250))
    for _ in range(2):
        one.start()
        one.wait(lambda: one.step("analyse"))
        one.end(signal.SIGKILL)
    one.start()
    assert "was cut off 2 times" in one.failed()["reason"]
    one.wait(lambda: not list((one.data / "wip").iterdir()))


@pytest.mark.pace
def test_stopping_the_unit_puts_the_job_back_and_does_not_count(instance, recording):
    one = instance(recording, formats=["mp4"], max_crashes=1)
    one.slow(SLOW)
    one.put(one.job(first=0, last=250))
    one.start()
    one.wait(lambda: one.step("mp4"))
    begun = time.monotonic()
    assert one.end() == 0
    assert time.monotonic() - begun < 9
    assert (one.data / "todo" / "talk.json").exists()
    one.slow(NONE)
    one.start()
    one.finished()


def test_a_stalled_ffmpeg_is_ended_and_the_job_tried_again(instance, recording):
    one = instance(recording, formats=["mp4"])
    # A minute is too long for a test: the limit is shortened in the program under test.
    patch = "import station.ffmpeg_task as t\nt.run.__defaults__ = (*t.run.__defaults__[:2], 2.0, 'error')\n"
    (one.root / "sitecustomize.py").write_text(patch)
    one.slow(SLOW)
    one.put(one.job(first=0, last=250))
    one.start()
    one.wait(lambda: one.step("mp4"))
    children = subprocess.run(["pgrep", "-P", str(one.process.pid)], capture_output=True, text=True).stdout.split()
    for pid in children:
        os.kill(int(pid), signal.SIGSTOP)
    one.waits("neither progress nor work for 2 s")
    assert (one.data / "todo" / "talk.json").exists()


def test_two_jobs_and_two_instances_at_once(instance, recording):
    first = instance(recording, "first", **QUICK, parallel_jobs=2)
    second = instance(recording, "second", **QUICK)
    for one in (first, second):
        for id_, begin in (("a", 0), ("b", 100)):
            one.put(one.job(id_, begin, begin + 100))
    first.start()
    second.start()
    first.wait(lambda: len(first.status()["jobs"]) == 2)
    for one in (first, second):
        for id_, begin in (("a", 0), ("b", 100)):
            one.wait(lambda one=one, id_=id_: (one.data / "done" / id_ / "manifest.json").exists())
            assert numbers(one.data / "done" / id_ / f"{id_}.mp4") == list(range(begin, begin + 100))
    assert "begins (b.json" in second.said()


def test_the_future_is_waited_for_and_a_running_recording_too(instance, tmp_path):
    """A talk that has not ended waits; one whose last seconds are not there yet waits for them, within its grace."""
    source = Recording(tmp_path / "main")
    source.add(0, 100)
    lines, source.lines = source.lines, source.lines[:1]
    now = time.time()
    for number, line in enumerate(lines):
        line["utc"] = utc.to_text(now - 4 + number * 2)
    source.write()
    one = instance(source, **QUICK, grace=60)
    one.put({**one.job("future"), "start": utc.to_text(now), "end": utc.to_text(now + 500)})
    one.put({**one.job("now"), "start": utc.to_text(now - 3), "end": utc.to_text(now)})
    one.start()
    one.waits("waits for the talk's end")
    one.waits(f"waits for {CAMERA} to bring")
    source.lines = lines
    source.write()
    manifest = one.finished("now")
    assert manifest["frames"] == 75
    assert (one.data / "todo" / "future.json").exists()


def test_a_source_that_is_away_is_waited_for(instance, recording, tmp_path):
    """Over HTTP: away before the job begins, then there; a segment that is gone is a gap to the frame."""
    server = Server({str(p.relative_to(recording.folder)): p.read_bytes() for p in recording.folder.rglob("*.*")})
    server.status = 503
    one = instance(server.source.url, **QUICK)
    one.recordings["x"] = recording
    one.put(one.job("a"))
    one.start()
    one.waits("HTTP 503")
    server.status = 200
    one.finished("a")
    assert numbers(one.data / "done" / "a" / "a.mp4") == list(range(61, 161))
    lost = recording.lines[2]["name"]
    server.files[lost] = b"\0" + server.files[lost][1:]
    one.put(one.job("b"))
    reason = one.failed("b")
    assert [gap["seconds"] for gap in reason["gaps"]] == [2.0]
    assert reason["gaps"][0]["from"] == "2026-03-01T09:00:04.000Z"
    assert "not as its index says" in reason["segments"][0]
    server.server.shutdown()
    server.server.server_close()


@contextlib.contextmanager
def small_disk(path, megabytes):
    path.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("needs to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("filled", [4_050_000, 3_900_000], ids=["too little to begin with", "ffmpeg runs into it"])
def test_a_full_disk_leaves_no_half_product_and_the_job_goes_on_later(instance, recording, tmp_path, filled):
    with small_disk(tmp_path / "one" / "data", 4):
        options = {**QUICK, "formats": ["mp4", "audio"], "audio": {"format": "m4a", "bitrate": 256}}
        one = instance(recording, **options, mp4={"audio_bitrate": 256, "crf": 1}, keep_free=0)
        one.put(one.job(first=0, last=250))
        filler = one.data / "filler"
        filler.write_bytes(b"x" * filled)
        one.start()
        one.waits("waits for room on the disk")
        assert not (one.data / "done" / "talk").exists()
        assert (one.data / "todo" / "talk.json").exists()
        assert one.end() == 0
        filler.unlink()
        one.start()
        one.finished()
        assert numbers(one.data / "done" / "talk" / "talk.mp4") == list(range(250))
        one.end()


def test_a_disk_that_fills_while_it_encodes(instance, recording, tmp_path):
    """The estimate was wrong: the recording on the same disk keeps its room, the job gives up its own."""
    with small_disk(tmp_path / "one" / "data", 6):
        one = instance(recording, formats=["mp4"], keep_free=0.5)
        one.slow(SLOW)
        one.put(one.job(first=0, last=250))
        one.start()
        one.wait(lambda: one.step("mp4"))
        (one.data / "filler").write_bytes(b"x" * 5_900_000)
        one.waits("waits for room on the disk")
        assert not (one.data / "done" / "talk").exists()
        assert not list((one.data / "wip").glob("*/product"))
        one.end()


def test_status_and_metrics_tell_progress_and_eta(instance, recording):
    one = instance(recording, formats=["mp4"])
    one.slow(SLOW)
    one.put(one.job(first=0, last=250))
    one.start()
    job = one.wait(lambda: next((j for j in one.status()["jobs"] if j["eta_seconds"] is not None), None))
    assert set(job["steps"]) == {"fetch", "analyse", "mp4"}
    sample = 'stationmaster_encode_progress_ratio{instance="talks",job="talk",role="encode",step="mp4"}'
    one.wait(lambda: sample in (one.root / "run" / "metrics.prom").read_text())
    assert send() is False, "no systemd here"
