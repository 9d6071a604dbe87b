"""Ingest, record and web as units of real stations, and what happens to such stations."""

import json
import time

import pytest

from tests.labkit import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NETWORK = "10.99.61"
VIDEO = {"size": "320x180", "bitrate": 400, "preset": "ultrafast"}
SECRET = "canary-passphrase"
PATTERN = "canary-[p]assphrase"
"""Finds the secret, but not the command that looks for it."""
LISTENER = {"source": {"type": "srt", "listen": 9000, "passphrase": SECRET}, "video": VIDEO}
STATIONS = {
    "cam": {"station_roles": {"ingest": {"main": {"source": {"type": "testcard"}, "video": VIDEO}, "guest": LISTENER}}},
    "enc": {"station_roles": {"record": {"copy": {"from": "cam/main"}}}},
}
INGEST, GUEST = "stationmaster-ingest@main", "stationmaster-ingest@guest"
MEDIA, COPY = "/srv/stationmaster/ingest/main", "/srv/stationmaster/record/copy"
LOOK = """
import hashlib, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
lines = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
def whole(line):
    path = folder / line["name"]
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == line["sha256"]
files = {path.relative_to(folder).as_posix() for path in folder.glob("2*/*/*")}
print(json.dumps({
    "lines": lines,
    "broken": [line["name"] for line in lines if not whole(line)],
    "unlisted": sorted(files - {line["name"] for line in lines}),
}))
"""


@pytest.fixture(scope="module")
def lab():
    with Lab.of(NETWORK, STATIONS) as lab:
        lab.playbook("site.yml")
        yield lab


def look(lab, station, folder):
    return json.loads(lab.out(station, ["python3", "-c", LOOK, folder]))


def seen(lab, station, folder):
    return [line["name"] for line in look(lab, station, folder)["lines"]]


def grown(lab, by=2, station="cam", folder=MEDIA, seconds=60):
    """Wait until so many more segments are listed."""
    count = len(seen(lab, station, folder))
    assert until(lambda: len(seen(lab, station, folder)) >= count + by, seconds, 1)


def status_text(lab, unit, station="cam"):
    return lab.out(station, f"systemctl show -P StatusText {unit}")


def test_they_run_as_units_and_wait_where_there_is_no_source(lab):
    grown(lab)
    assert until(lambda: "running" in status_text(lab, INGEST))
    assert "waiting for its source" in status_text(lab, GUEST)
    for unit in (INGEST, GUEST, "stationmaster-web@station"):
        assert lab.out("cam", f"systemctl is-active {unit}") == "active"
        assert lab.out("cam", f"systemctl show -P NRestarts {unit}") == "0"
    assert lab.out("cam", "ps -o user= -C ffmpeg | sort -u") == "sm-ingest"
    metrics = lab.out("cam", "cat /run/stationmaster/metrics/ingest-main.prom")
    assert 'stationmaster_ingest_running{instance="main",role="ingest"} 1' in metrics


def test_the_secret_is_nowhere_to_be_read(lab):
    places = "/proc/[0-9]*/cmdline /usr/local/lib/systemd/system /var/lib/stationmaster/current/etc /srv/stationmaster"
    assert lab.run("cam", f"grep -rl {PATTERN} {places} 2>/dev/null", check=False).stdout == ""
    assert lab.run("cam", f"journalctl | grep {PATTERN}", check=False).stdout == ""
    readable = lab.out("cam", f"grep -rl {PATTERN} /run /var/lib/stationmaster 2>/dev/null | xargs -r stat -c '%a %n'")
    assert readable and all(line.split()[0].lstrip("0") in ("400", "440", "600") for line in readable.splitlines())


def test_a_killed_supervisor_and_a_stopped_encoder_come_back(lab):
    grown(lab, 1)
    old = lab.out("cam", f"systemctl show -P MainPID {INGEST}")
    lab.run("cam", f"kill -KILL {old}")
    grown(lab)
    assert lab.out("cam", f"systemctl show -P MainPID {INGEST}") != old
    encoder = lab.out("cam", f"pgrep -P $(systemctl show -P MainPID {INGEST}) ffmpeg")
    lab.run("cam", f"kill -STOP {encoder}")
    assert until(lambda: lab.run("cam", f"kill -0 {encoder}", check=False).returncode, 25, 1)
    grown(lab)
    assert not look(lab, "cam", MEDIA)["broken"]


def test_a_supervisor_that_hangs_is_ended_by_the_watchdog(lab):
    old = lab.out("cam", f"systemctl show -P MainPID {INGEST}")
    lab.run("cam", f"kill -STOP {old}")
    assert until(lambda: lab.out("cam", f"systemctl show -P MainPID {INGEST}") not in (old, "0"), 60, 1)
    grown(lab)


def agree(lab):
    source = look(lab, "cam", MEDIA)
    copy = look(lab, "enc", COPY)
    return not copy["broken"] and copy["lines"][-5:] == source["lines"][-5:] and copy["lines"] == source["lines"]


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.soak)])
def test_the_copy_is_complete_again_after_a_cut(lab, seconds):
    assert until(lambda: agree(lab), 60, 1)
    lab.cut("enc")
    time.sleep(seconds)
    assert "waiting" in status_text(lab, "stationmaster-record@copy", "enc")
    missing = len(seen(lab, "cam", MEDIA)) - len(seen(lab, "enc", COPY))
    lab.restore("enc")
    assert missing >= seconds / 2 - 3
    assert until(lambda: agree(lab), 60, 1)


def test_an_honest_power_cut_costs_the_segment_being_written(lab):
    grown(lab, 3)
    before = seen(lab, "cam", MEDIA)
    lab.power_cut("cam")
    lab.boot("cam")
    lab.wait("cam", f"systemctl is-active {INGEST}", 60)
    after = look(lab, "cam", MEDIA)
    assert [line["name"] for line in after["lines"]][: len(before)] == before
    assert not after["broken"] and not after["unlisted"]
    grown(lab)
    new = look(lab, "cam", MEDIA)["lines"]
    first = next(line for line in new if line["boot_id"] != new[0]["boot_id"])
    assert first["discontinuity"] and first["seq"] == new[new.index(first) - 1]["seq"] + 1
    # Its copy goes on as well, and what it has is what the source has.
    assert until(lambda: agree(lab), 60, 1)


def test_a_full_disk_lists_nothing_broken_and_the_recording_goes_on(lab):
    grown(lab, 1)
    lab.fill("cam")
    assert until(lambda: "the disk takes no segment" in status_text(lab, INGEST), 30, 1)
    found = look(lab, "cam", MEDIA)
    assert not found["broken"] and not found["unlisted"]
    time.sleep(6)
    lab.free("cam")
    grown(lab, 4)
    lines = look(lab, "cam", MEDIA)["lines"][len(found["lines"]) - 1 :]
    # What waited in memory is there: the disk cost no frame.
    assert not any(line["discontinuity"] for line in lines[1:])
    assert not look(lab, "cam", MEDIA)["broken"]
