"""The demo's whole inventory on real stations: applied, at rest, media flowing, copies complete, nothing told."""

import subprocess

import pytest

from tests.e2e.stage import AGENT, CAM, CAM_B, ENC, ENC_B, SPARE, STORAGE, unbroken

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

UNITS = {
    CAM: {AGENT, "ingest@main", "web@station"},
    ENC: {AGENT, "record@copy", "encode@talks", "upload@archive", "web@station"},
    CAM_B: {AGENT, "ingest@main", "ingest@slides", "web@station"},
    ENC_B: {AGENT, "record@copy", "encode@talks", "upload@archive", "web@station"},
    STORAGE: {
        AGENT, "target@main", "visuals@main", "signage@main", "fallback@main", "stills@main", "catalogue@main",
        "web@station",
    },
    SPARE: {AGENT},
}  # fmt: skip


def test_every_station_runs_what_the_inventory_says(stage):
    assert stage.first.status == 0
    for station, units in UNITS.items():
        assert set(stage.invocations(station)) == units
        assert stage.first.changed(station) > 0
        assert not stage.first.recap[station]["failed"]


def test_a_second_run_changes_nothing(stage):
    before = {station: stage.invocations(station) for station in UNITS}
    play = stage.site()
    assert {station: play.changed(station) for station in UNITS} == dict.fromkeys(UNITS, 0)
    assert {station: stage.invocations(station) for station in UNITS} == before
    assert "unchanged" in play.stdout


def test_media_flow_and_every_listed_segment_is_whole(stage):
    for station, place in ((CAM, "ingest/main"), (CAM_B, "ingest/main"), (CAM_B, "ingest/slides")):
        new = stage.grown(station, place)
        assert unbroken(new)
        assert not stage.broken(station, place)
        assert stage.state(station, place, "running")["reason"] is not None
        playlist = stage.get(station, f"{place}/live.m3u8").decode()
        assert new[0].name in playlist
        assert (stage.get(station, f"{place}/preview.jpg") or b"")[:3] == b"\xff\xd8\xff"


def test_copies_equal_their_sources(stage):
    stage.same((CAM, "ingest/main"), (ENC, "record/copy"))
    stage.same((CAM_B, "ingest/main"), (ENC_B, "record/copy"))


def test_nothing_can_be_written_over_http(stage):
    name = stage.segments(CAM, "ingest/main")[0].name
    for method in ("PUT", "DELETE", "POST"):
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--data", "x"]
        done = subprocess.run([*command, stage.url(CAM, f"ingest/main/{name}")], capture_output=True, text=True)
        assert done.stdout[0] == "4", (method, done.stdout)
    assert not stage.broken(CAM, "ingest/main")


def test_secrets_are_told_to_nobody(stage):
    """In no output of Ansible with everything shown, unit, journal, process, and no file that others may read."""
    words = stage.secrets()
    said = stage.first.stdout + stage.first.stderr
    assert "secrets/target/main/secrets.json" in said
    for word in words:
        assert word not in said
    patterns = "".join(f"{word}\n" for word in words)
    for station in UNITS:
        stage.write(station, "/run/patterns", patterns, "0600")
        try:
            places = "/etc /var/lib /var/log /usr/local /run /srv /tmp /home /root /opt"
            found = stage.out(station, f"grep -rlF -f /run/patterns {places} 2>/dev/null || :").split()
            modes = {path: stage.out(station, ["stat", "-c", "%A", path]) for path in found if path != "/run/patterns"}
            assert all(mode[-3:] == "---" for mode in modes.values()), modes
            assert bool(modes) == (station in (STORAGE, ENC, ENC_B))
            for path in modes:
                assert stage.run(station, ["runuser", "-u", "nobody", "--", "cat", path], check=False).returncode
            told = "systemctl cat 'stationmaster-*'; systemctl show 'stationmaster-*'; journalctl -o export --no-pager"
            seen = f"({told}; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n') 2>/dev/null"
            assert stage.out(station, f"{seen} | grep -aF -f /run/patterns || :") == ""
        finally:
            stage.run(station, "rm /run/patterns")


def test_a_changed_secret_is_no_difference_to_show(stage):
    stage.want({STORAGE: {"target": {"main": {"password": "brand-new-password"}}}})
    play = stage.site("--check", "--diff", "-vvv", only=f"{STORAGE},{ENC}")
    assert play.changed(STORAGE) == play.changed(ENC) == 1
    assert "(secret changed)" in play.stdout
    for word in (*stage.secrets(), "brand-new-password"):
        assert word not in play.stdout + play.stderr


def test_a_misspelt_key_reaches_no_station(stage):
    before = {station: stage.out(station, "readlink /var/lib/stationmaster/current") for station in UNITS}
    stage.want({CAM: {"ingest": {"main": {"vidoe": {"size": "640x360"}}}}, ENC_B: {"encode": {"talks": {"mp4": {}}}}})
    play = stage.site(check=False)
    assert play.status
    told = play.stdout + play.stderr
    assert "InvalidConfiguration" in told
    assert "hall-a.yml" in told
    assert "'video'" in told
    assert {station: stage.out(station, "readlink /var/lib/stationmaster/current") for station in UNITS} == before
    assert not any(row["changed"] for row in play.recap.values())
