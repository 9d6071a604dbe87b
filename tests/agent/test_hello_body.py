"""What a hello says: true, bounded, and as the manager understands it."""

import json
import os
import time
from pathlib import Path

import pytest

from api.hello import Hello
from api.station_state import state_of
from station import agent_machine, metrics
from station.agent_figures import figures, hours_left
from station.agent_generations import Generations
from station.agent_hello import Observer
from station.agent_integrity import Integrity
from station.applier import records

INGEST = "stationmaster-ingest@main.service"
BOOT = "11111111-2222-3333-4444-555555555555"


def observer(box):
    return Observer(box.layout, box.name, box.root / "run/metrics", lambda: None)


def body(box, watcher=None):
    """A hello as the manager has it after it was checked."""
    value = (watcher or observer(box)).body(BOOT, 5.0)
    return Hello.model_validate_json(json.dumps(value)).model_dump()


def state(box, wanted=None):
    return state_of(assigned=True, enrolled=True, said=body(box), wanted=wanted)


def test_a_station_that_has_nothing_yet_says_so(box):
    said = body(box)
    assert (said["applied"], said["generation"], said["units"], said["integrity"]) == (None, 0, None, None)
    assert said["station"] == "hall-a-cam"
    assert said["generations"] == []
    assert state(box) == "new"


def test_an_applied_station_tells_all_of_it(box):
    wanted = box.applied().manifest()["wanted"]
    said = body(box)
    assert (said["applied"], said["wanted"], said["generation"], said["integrity"]) == (wanted, wanted, 1, True)
    assert said["revision"] == "r1"
    assert said["roles"] == {
        "ingest": {"main": 1234567890123.0}, "encode": {"talks": None}, "upload": {"archive": None}
    }  # fmt: skip
    assert said["units"][INGEST]["healthy"] is True
    assert (said["units"][INGEST]["live"], said["units"]["stationmaster-encode@talks.service"]["live"]) == (True, False)
    assert len(said["load"]) == 3
    assert state(box, wanted) == "ready"
    assert "hunter2" not in json.dumps(said)


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}, "failed"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "7"}, "failed"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "drifted"),
        ({"ActiveState": "activating", "SubState": "start"}, "drifted"),
        ({"ActiveState": "inactive", "SubState": "dead", "Type": "oneshot"}, "ready"),
        ({"LoadState": "masked", "ActiveState": "inactive", "SubState": "dead"}, "held"),
        ({"ActiveState": "active", "SubState": "running"}, "ready"),
    ],
)
def test_units_are_as_systemd_says(box, properties, word):
    wanted = box.applied().manifest()["wanted"]
    box.unit_is(INGEST, **properties)
    assert state(box, wanted) == word


def test_a_unit_that_runs_with_another_configuration_is_not_healthy(box):
    box.applied()
    (box.root / "run/stationmaster/started" / INGEST).write_text("another hash\n")
    assert body(box)["units"][INGEST]["healthy"] is False


def test_systemd_that_does_not_answer_leaves_the_units_unknown_and_nothing_in_order(box):
    wanted = box.applied().manifest()["wanted"]
    (box.root / "usr/bin/systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert body(box)["units"] is None
    assert state(box, wanted) == "drifted"


def test_what_is_held_is_told(box):
    box.applied()
    box.verb("stop", role="encode", minutes=0)
    box.verb("on-air", minutes=30)
    held = body(box)["state"]
    assert list(held["stopped"]) == ["stationmaster-encode@talks.service"]
    assert held["stopped"]["stationmaster-encode@talks.service"]["who"] == "ada"
    assert abs(held["on_air_until"] - time.time() - 1800) < 60
    assert state(box) == "held"


def test_block_lists_and_noted_failures_are_told(box):
    box.applied()
    (box.root / "etc/stationmaster").mkdir()
    (box.root / "etc/stationmaster/blocked-roles").write_text("# by its owner\ningest\nstream # too slow\n\n")
    spool = box.root / "var/lib/stationmaster/spool"
    spool.mkdir()
    lines = [json.dumps({"unit": INGEST, "time": at, "result": "watchdog", "code": "killed", "status": "ABRT"})
             for at in range(100)]  # fmt: skip
    (spool / f"{INGEST}.jsonl").write_text("torn\n" + "\n".join(lines) + '\n{"unit": "x"')
    watcher = observer(box)
    for _ in range(2):
        said = body(box, watcher)
        assert said["blocked_roles"] == ["ingest", "stream"]
        assert [failure["time"] for failure in said["failures"]] == list(range(99, 80, -1))
    (spool / "other.service.jsonl").write_text('{"unit": "other.service", "time": 500, "result": "oom-kill"}\n')
    assert body(box, watcher)["failures"][0]["unit"] == "other.service"


def test_what_is_longer_than_the_manager_takes_is_cut(box):
    box.applied()
    box.unit_is(INGEST, ActiveState="active", SubState="running", StatusText="x" * 5000)
    held = [{"unit": "u" * 999, "reason": "r" * 9999}] * 500
    path = box.root / "var/lib/stationmaster/state.json"
    kept = json.loads(path.read_text())
    kept |= {"held": held, "failed": {"hash": "aa", "at": "t" * 99, "unit": "u" * 999, "why": "w" * 9999}}
    kept["pinned"] = {"generation": 1, "reason": "r" * 9999, "who": "w" * 999, "since": "s" * 99}
    path.write_text(json.dumps(kept))
    (box.root / "run/metrics/ingest-main.prom").write_text(
        "".join(f"stationmaster_ingest_{'x' * 99}{n} {n}\n" for n in range(500)) + "nonsense\n"
    )
    assert len(body(box)["state"]["held"]) == 200


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"held": 5}', '{"stopped": {"u": 1}}'])
def test_a_damaged_state_makes_no_hello_impossible(box, damage):
    box.applied()
    (box.root / "var/lib/stationmaster/state.json").write_text(damage)
    (box.root / "var/lib/stationmaster/on-air.json").write_text(damage)
    assert body(box)["generation"] == 1


# --- integrity


def test_files_are_read_again_only_when_something_about_them_changed(box):
    box.applied()
    manifest = records.load_manifest(box.layout, 1)
    integrity = Integrity(box.layout, (os.geteuid(), os.getegid()))
    assert all(integrity.look(1, manifest) for _ in range(5))
    assert integrity.readings == 1
    path = box.current / "etc/ingest/main/config.json"
    before, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(before[::-1])
    os.utime(path, ns=times)  # same size, same time of change
    assert not integrity.look(1, manifest)
    path.write_bytes(before)
    assert integrity.look(1, manifest)
    assert integrity.readings == 3


@pytest.mark.parametrize("edit", ["content", "missing", "extra", "mode", "link", "secret"])
def test_any_edit_of_the_applied_files_is_seen(box, edit):
    box.applied()
    watcher = observer(box)
    assert body(box, watcher)["integrity"] is True
    unit = box.current / "units" / INGEST
    if edit == "content":
        unit.write_text(unit.read_text() + "#")
    elif edit == "missing":
        unit.unlink()
    elif edit == "extra":
        (box.current / "units/mine.service").write_text("x")
    elif edit == "mode":
        unit.chmod(0o600)
    elif edit == "link":
        (box.current / "units/stationmaster.target.wants" / INGEST).unlink()
    else:
        (box.current / "secrets/ingest/main/secrets.json").write_text("other")
    assert body(box, watcher)["integrity"] is False


# --- generations


def test_the_generations_are_told_newest_first(box):
    bundle = box.applied()
    wanted = bundle.manifest()["wanted"]
    bundle.unit("encode", "talks", text="broken")
    assert box.apply(bundle)["failed"]["went_back_to"] == 1
    said = body(box)
    assert [(one["number"], one["good"]) for one in said["generations"]] == [(2, False), (1, True)]
    newest, first = said["generations"]
    assert (first["applied"], first["revision"]) == (wanted, "r1")
    assert newest["applied"] == bundle.manifest()["wanted"]
    assert newest["at"] >= first["at"]
    assert abs(first["at"] - time.time()) < 60


def test_a_manifest_is_read_once_and_forgotten_with_its_generation(box):
    bundle = box.applied()
    watched = Generations(box.layout)
    for number in range(8):
        bundle.unit("encode", "talks", config=str(number))
        box.apply(bundle)
        assert [one["number"] for one in watched.look([])] == list(range(number + 2, max(number - 3, 0), -1))
    assert watched.readings == 9
    assert watched.look([7]) == [{**one, "good": one["number"] == 7} for one in watched.look([])]
    assert watched.readings == 9
    gone = Path(box.layout.generation(9))
    gone.rename(box.root / "aside")
    assert 9 not in [one["number"] for one in watched.look([])]
    (box.root / "aside").rename(gone)
    assert watched.look([])[0]["number"] == 9
    assert watched.readings == 10


def test_no_more_generations_are_told_than_are_kept(box):
    box.applied()
    for number in range(8):
        Path(box.layout.generation(number + 2)).mkdir()
    assert [one["number"] for one in body(box)["generations"]] == [9, 8, 7, 6, 5]


@pytest.mark.parametrize("damage", ["", "[]", "{", "{}", None])
def test_a_generation_whose_manifest_cannot_be_read_is_told_all_the_same(box, damage):
    box.applied()
    Path(box.layout.generation(2)).mkdir()
    if damage is not None:
        Path(box.layout.generation(2), "bundle.json").write_text(damage)
    newest, first = body(box)["generations"]
    assert (newest["number"], newest["applied"], newest["revision"], newest["good"]) == (2, None, None, False)
    assert (newest["at"] is None) is (damage is None)
    assert first["good"] is True


# --- figures


def test_figures_come_from_the_metrics_of_any_role(tmp_path):
    written = metrics.Metrics(tmp_path / "ingest-main.prom", {"role": "ingest", "instance": "main"})
    written.set("stationmaster_ingest_last_segment_seconds", 1234.5, "x")
    written.set("stationmaster_ingest_loudness_lufs", -23, "x", track='Room "1"\\')
    written.set("stationmaster_ingest_loudness_lufs", -40, "x", track="Stage")
    written.set("stationmaster_ingest_speed", float("nan"), "x")
    written.write()
    metrics.Metrics(tmp_path / "lights-a-b.prom", {"role": "lights", "instance": "a-b"}).write()
    found = figures(tmp_path)
    assert found["ingest/main"].pop("age") < 60
    assert found == {
        "ingest/main": {"last_segment_seconds": 1234.5, 'loudness_lufs:Room "1"\\': -23, "loudness_lufs:Stage": -40},
        "lights/a-b": {"age": found["lights/a-b"]["age"]},
    }


def test_the_fewest_hours_of_any_instance_count(tmp_path):
    for name, text in (
        ("ingest/main", '{"disk": {"hours_left": 7.5}}'),
        ("record/copy", '{"disk": {"hours_left": 3}}'),
        ("encode/talks", '{"disk": {"free": 1}}'),
        ("script/x", "torn"),
        ("target/main", '{"disk": {"hours_left": null}}'),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "status.json").write_text(text)
    assert hours_left(tmp_path) == 3
    assert hours_left(tmp_path / "nothing") is None


# --- the machine


def interface(folder, name, address, device):
    (folder / name).mkdir(parents=True)
    (folder / name / "address").write_text(address + "\n")
    if device:
        (folder / name / "device").mkdir()


def test_virtual_interfaces_do_not_say_which_machine_it_is(tmp_path):
    interface(tmp_path, "lo", "00:00:00:00:00:00", False)
    interface(tmp_path, "docker0", "02:42:00:00:00:01", False)
    assert agent_machine.macs(tmp_path) == ["02:42:00:00:00:01"]
    interface(tmp_path, "eno1", "AA:BB:CC:00:00:01", True)
    assert agent_machine.macs(tmp_path) == ["aa:bb:cc:00:00:01"]


def test_addresses_are_those_that_others_can_reach(tmp_path):
    (tmp_path / "if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80 lo\n"
        "fe80000000000000000000fffe000001 02 40 20 80 eth0\n"
        "fd000000000000000000000000000017 02 40 00 80 eth0\n"
    )
    assert agent_machine.addresses(["lo", "nothing"], tmp_path / "if_inet6") == ["fd00::17"]
    assert all(not address.startswith(("127.", "fe80")) for address in agent_machine.addresses())


CHRONY = "C0A80001,ntp,3,1700000000.1,{offset},0.1,0.1,1,2,3,0.1,0.2,64.1,{leap}\n"


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({"chronyc": CHRONY.format(offset="0.250", leap="Normal")}, -0.25),
        ({"chronyc": CHRONY.format(offset="0.250", leap="Not synchronised")}, None),
        ({"chronyc": "506 Cannot talk to daemon\n"}, None),
        ({"timedatectl": "  Offset: +1.500ms\n"}, -0.0015),
        ({"timedatectl": "  Offset: -2s\n"}, 2.0),
        ({}, None),
    ],
)
def test_the_clocks_offset_is_what_its_keeper_says(tmp_path, monkeypatch, programs, expected):
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(agent_machine, "_ENVIRONMENT", {"PATH": f"{tmp_path}:/bin", "LC_ALL": "C"})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert agent_machine.clock_offset() == pytest.approx(expected) if expected else agent_machine.clock_offset() is None
