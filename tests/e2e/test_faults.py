"""What happens to real stations, done to these: recording goes on, and nothing listed or finished is lost."""

import contextlib
import os
import signal
import time

import pytest

from tests.e2e.stage import AGENT, CAM, CAM_B, ENC, ENC_B, unbroken, wait_for
from tests.labkit import until
from tests.media.kit import Process

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

MAIN = "ingest/main"
PORT = 11000


def test_a_killed_ffmpeg_is_a_break_and_no_more(stage):
    before = stage.invocations(CAM)
    old = stage.grown(CAM, MAIN, 1)
    (pid,) = wait_for(lambda: stage.ffmpeg(CAM, "ingest@main"))
    stage.run(CAM, ["kill", "-9", str(pid)])
    killed = time.time()
    new = after_a_break(stage, CAM, MAIN, old[-1].seq)
    assert new.start - killed < 20
    assert stage.invocations(CAM) == before
    assert stage.ffmpeg(CAM, "ingest@main") != [pid]
    assert not stage.broken(CAM, MAIN)


def test_a_killed_supervisor_takes_its_ffmpeg_along_and_comes_back(stage):
    before = stage.invocations(CAM)
    old = stage.grown(CAM, MAIN, 1)
    (pid,) = wait_for(lambda: stage.ffmpeg(CAM, "ingest@main"))
    stage.run(CAM, "systemctl kill --kill-whom=main --signal=KILL stationmaster-ingest@main")
    after_a_break(stage, CAM, MAIN, old[-1].seq)
    after = stage.invocations(CAM)
    assert [unit for unit in before if before[unit] != after.get(unit)] == ["ingest@main"]
    (now,) = wait_for(lambda: stage.ffmpeg(CAM, "ingest@main"))
    assert now != pid
    assert not stage.broken(CAM, MAIN)
    assert "ingest@main" in stage.out(CAM, "cat /var/lib/stationmaster/spool/*")
    stage.same((CAM, MAIN), (ENC, "record/copy"))


def after_a_break(stage, station, place, last):
    """Wait until recording goes on after segment `last`; return the segment that says it begins anew."""

    def begun():
        new = [segment for segment in stage.segments(station, place) if segment.seq > last]
        at = next((number for number, segment in enumerate(new) if segment.discontinuity), None)
        return at is not None and len(new) > at + 1 and new[at:]

    new = wait_for(begun, 60, f"a break after {last}, and recording after it")
    assert unbroken(new[:2])
    return new[0]


class Mixer:
    """A mixer's output over TCP on this machine; it can be switched on and off, and hang."""

    def __init__(self, stage, folder):
        self._address = f"{stage.address(CAM).rpartition('.')[0]}.1:{PORT}"
        self._log = folder / "mixer.log"
        self._process = None

    def on(self):
        """Serve one viewer after the other, as often as they come."""
        self.off()
        card = "testsrc2=size=320x180:rate=25[out0];sine[out1]"
        encode = "-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -c:a aac -f mpegts"
        one = f"nice ffmpeg -v error -nostdin -re -f lavfi -i '{card}' {encode} 'tcp://{self._address}?listen=1'"
        self._process = Process(["sh", "-c", f"while :; do {one}; sleep 0.1; done"], self._log)

    def hang(self):
        """Keep all connections and send nothing more."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def off(self):
        """Switch off."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.popen.wait()
            self._process = None


def without_agent(stage, station):
    """The units and their invocations, less the agent's: its order names its neighbours."""
    return {unit: one for unit, one in stage.invocations(station).items() if unit != AGENT}


def test_an_unplugged_source_fails_no_apply_and_a_stalled_one_is_noticed(stage, tmp_path):
    """Waiting, running, stalled, running again, and at last removed: each is shown, and others never feel it."""
    source = {"type": "tcp", "host": "controller", "port": PORT, "format": "mpegts"}
    stage.want({CAM: {"ingest": {"mixer": {"source": source}}}})
    before = without_agent(stage, CAM)
    main = stage.grown(CAM, MAIN, 1)[-1].seq
    play = stage.site(only=CAM)
    assert play.changed(CAM) == 1
    assert stage.out(CAM, "systemctl show --property=StatusText --value stationmaster-ingest@mixer").startswith(
        "waiting"
    )
    stage.state(CAM, "ingest/mixer", "waiting")
    with contextlib.ExitStack() as stack:
        mixer = Mixer(stage, tmp_path)
        stack.callback(mixer.off)
        mixer.on()
        stage.state(CAM, "ingest/mixer", "running")
        (last, *_) = reversed(stage.grown(CAM, "ingest/mixer", 2))
        mixer.hang()
        hung = time.monotonic()
        stage.state(CAM, "ingest/mixer", "waiting")
        assert time.monotonic() - hung < 30
        mixer.on()
        stage.state(CAM, "ingest/mixer", "running")
        after_a_break(stage, CAM, "ingest/mixer", last.seq)
        assert not stage.broken(CAM, "ingest/mixer")
    after = without_agent(stage, CAM)
    assert {unit: after[unit] for unit in before} == before
    assert unbroken(segment for segment in stage.segments(CAM, MAIN) if segment.seq >= main)
    stage.want()
    play = stage.site(only=CAM)
    assert "removed ingest@mixer" in play.stdout
    assert without_agent(stage, CAM) == before
    assert stage.ffmpeg(CAM, "ingest@mixer") == []
    assert "mixer" not in stage.out(CAM, "find -L /usr/local/lib/systemd /var/lib/stationmaster/current/")
    assert stage.out(CAM, "ls /srv/stationmaster/ingest/mixer/index.jsonl")
    stage.touched.clear()


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.soak)])
def test_a_copy_is_complete_again_after_a_cut(stage, seconds):
    stage.same((CAM, MAIN), (ENC, "record/copy"))
    stage.cut(ENC)
    cut = stage.segments(CAM, MAIN)[-1].seq
    time.sleep(seconds)
    assert len([segment for segment in stage.segments(CAM, MAIN) if segment.seq > cut]) > seconds / 2 / 3
    stage.restore(ENC)
    whole = stage.same((CAM, MAIN), (ENC, "record/copy"), 60 + seconds)
    assert whole[-1].seq > cut
    assert stage.grown(ENC, "record/copy", 1)


def test_a_camera_without_power_loses_only_the_segment_it_wrote(stage):
    listed = stage.grown(CAM_B, MAIN, 1)
    slides = stage.segments(CAM_B, "ingest/slides")
    stage.power_cut(CAM_B)
    stage.boot(CAM_B)
    first = after_a_break(stage, CAM_B, MAIN, listed[-1].seq)
    again = stage.segments(CAM_B, MAIN)
    assert {segment.name for segment in listed} <= {segment.name for segment in again}
    assert {segment.name for segment in slides} <= {segment.name for segment in stage.segments(CAM_B, "ingest/slides")}
    lost = [
        segment for segment in again if listed[-1].seq < segment.seq < first.seq and segment.boot_id == first.boot_id
    ]
    assert not lost
    assert first.boot_id != listed[-1].boot_id
    for place in (MAIN, "ingest/slides"):
        assert not stage.broken(CAM_B, place)
    files = stage.out(CAM_B, "cd /srv/stationmaster/ingest/main && find . -name '*.ts' -printf '%P\\n'").split()
    known = {segment.name for segment in stage.segments(CAM_B, MAIN)}
    assert len(set(files) - known) <= 1
    stage.same((CAM_B, MAIN), (ENC_B, "record/copy"))
    assert stage.site(only=CAM_B).changed(CAM_B) == 0


def test_an_encoder_without_power_loses_no_product_and_no_job(stage):
    when = stage.talk(CAM_B, MAIN, 4)
    before, during, after = (f"{name}-{time.time_ns()}" for name in ("before", "during", "after"))
    stage.job(ENC_B, when, before, formats=["audio"])
    manifest = stage.product(ENC_B, before)
    stage.run(ENC_B, "systemctl stop stationmaster-encode@talks")  # so that both jobs are there when the first begins
    stage.job(ENC_B, when, during)
    stage.job(ENC_B, when, after, formats=["audio"])
    stage.run(ENC_B, "systemctl start stationmaster-encode@talks")
    talks = "/srv/stationmaster/encode/talks"
    stage.wait(ENC_B, f"find {talks}/wip/{during}.work -type f -size +1k | grep -q .", 60)
    stage.power_cut(ENC_B)
    stage.boot(ENC_B)
    assert stage.product(ENC_B, before) == manifest
    made = stage.product(ENC_B, during, 120)
    assert sorted(file["format"] for file in made["files"]) == ["audio", "mp4", "webm"]
    stage.product(ENC_B, after)
    assert_products_whole(stage, ENC_B)
    wait_for(lambda: not stage.out(ENC_B, f"ls {talks}/wip"), 20, "an empty wip")
    assert not stage.out(ENC_B, f"cd {talks}; ls todo fail | grep -e {during} -e {after} || :")


def assert_products_whole(stage, station):
    """Every product that is listed has all its files, with their checksums."""
    for name in stage.json(station, "encode/talks/done/index.json"):
        manifest = stage.json(station, f"encode/talks/done/{name}/manifest.json")
        sums = "".join(f"{file['sha256']}  {file['name']}\n" for file in manifest["files"])
        done = stage.run(
            station, f"cd /srv/stationmaster/encode/talks/done/{name} && sha256sum --check --quiet", text=sums
        )
        assert not done.stdout


def test_a_full_disk_lists_nothing_broken_and_goes_on_when_there_is_room(stage):
    full = "grep -q 'code=\"disk_full\"' /run/stationmaster/metrics/ingest-main.prom"

    def stays_full():
        stage.fill(CAM_B)  # again: the ingest frees what has a copy, and goes on
        time.sleep(1)
        return stage.run(CAM_B, full, check=False).returncode == 0

    assert until(stays_full, 90)
    listed = stage.segments(CAM_B, MAIN)
    assert not stage.broken(CAM_B, MAIN)
    time.sleep(3)
    assert not stage.broken(CAM_B, MAIN)
    stage.free(CAM_B)
    stage.wait(CAM_B, f"! {full}", 60)
    new = stage.grown(CAM_B, MAIN, 2)
    gone = {segment.name for segment in listed} - {segment.name for segment in stage.segments(CAM_B, MAIN)}
    assert gone <= {segment.name for segment in stage.segments(ENC_B, "record/copy")}, "gone, and nobody has a copy"
    assert new
    for place in (MAIN, "ingest/slides"):
        assert not stage.broken(CAM_B, place)
    assert set(stage.invocations(CAM_B)) == {AGENT, "ingest@main", "ingest@slides", "web@station"}
    stage.same((CAM_B, MAIN), (ENC_B, "record/copy"))
