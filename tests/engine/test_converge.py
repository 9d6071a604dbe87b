"""Failure, rollback, and what a cut left."""

from __future__ import annotations

import json
from pathlib import Path

from station.applier import converge as converging
from station.applier.lock import Lock

INGEST = "stationmaster-ingest@main.service"
ENCODE = "stationmaster-encode@talks.service"
UPLOAD = "stationmaster-upload@archive.service"


def test_a_unit_that_fails_takes_the_files_back(station, bundle):
    station.apply(bundle)
    good = station.tree()
    bundle.unit("encode", "talks", text="broken")
    bundle.unit("upload", "archive", config="new")
    result = station.apply(bundle)
    assert result["result"] == "failed"
    assert result["failed"]["unit"] == ENCODE
    assert result["failed"]["journal"] == [f"{ENCODE}: it hurts"]
    assert result["failed"]["went_back_to"] == 1
    assert station.tree() == good
    assert station.layout.current_number() == 1
    assert INGEST not in station.systemd.told("restart")
    assert station.systemd.units[ENCODE]["ActiveState"] == "active"
    assert station.state["failed"]["hash"] == bundle.manifest()["wanted"]
    assert station.pending is None


def test_a_person_may_try_a_failed_bundle_again_and_nobody_else(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", text="broken")
    station.apply(bundle)
    refused = station.apply(bundle, automatic=True)
    assert (refused["result"], refused["error"]["error"]) == ("refused", "FailedBefore")
    assert station.systemd.calls == []
    assert station.apply(bundle)["result"] == "failed"
    bundle.unit("encode", "talks", text="mended")
    assert station.apply(bundle, automatic=True)["result"] == "changed"
    assert station.state["failed"] is None


def test_a_failing_first_apply_leaves_the_others_running(station, bundle):
    bundle.unit("encode", "talks", text="broken")
    result = station.apply(bundle)
    assert result["failed"]["unit"] == ENCODE
    assert station.systemd.units[INGEST]["ActiveState"] == "active"
    assert station.pending is None


def test_a_drifted_unit_that_cannot_start_is_told_and_files_stay(station, bundle):
    station.apply(bundle)
    station.systemd.units[ENCODE] = {}
    station.systemd.broken.add(ENCODE)
    result = station.apply(bundle)
    assert (result["result"], result["failed"]["unit"], result["generation"]) == ("failed", ENCODE, 1)
    assert "went_back_to" not in result["failed"]


def test_a_cut_before_converge_is_finished_by_the_next_boot(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="new")
    station.systemd.run_apart = lambda unit, command, timeout: False
    assert station.apply(bundle)["result"] == "failed"
    assert station.pending
    station.reboot()
    outcome = converging.converge(station.layout, station.systemd)
    assert outcome["result"] == "changed"
    assert station.layout.current_number() == 2
    assert station.pending is None
    assert all(unit["ActiveState"] == "active" for unit in station.systemd.units.values())


def test_a_cut_is_finished_by_the_next_apply(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="new")
    run = station.systemd.run_apart
    station.systemd.run_apart = lambda unit, command, timeout: False
    station.apply(bundle)
    station.systemd.run_apart = run
    result = station.apply(bundle)
    assert result["failed"] is None
    assert station.pending is None
    assert station.systemd.told("restart").count(ENCODE) == 1
    assert station.apply(bundle)["result"] == "unchanged"


def test_a_cut_while_going_back_goes_on_going_back(station, bundle):
    station.apply(bundle)
    good = station.tree()
    bundle.unit("encode", "talks", text="broken")
    real = converging.save_pending

    def cut(layout, pending):
        real(layout, pending)
        raise KeyboardInterrupt

    converging.save_pending = cut
    try:
        station.apply(bundle)
    except KeyboardInterrupt:
        pass
    finally:
        converging.save_pending = real
    assert station.pending["failed"]["unit"] == ENCODE
    station.reboot()
    outcome = converging.converge(station.layout, station.systemd)
    assert outcome["failed"]["unit"] == ENCODE
    assert station.tree() == good


def test_a_second_verb_says_who_holds_the_lock(station, bundle):
    station.apply(bundle)
    for path in (station.layout.lock, station.layout.converging):
        lock = Lock(path, {"author": "grace", "run": "r-9", "verb": "apply"})
        lock.take(0)
        result = station.apply(bundle)
        lock.release()
        assert (result["result"], result["error"]["error"]) == ("refused", "Locked")
        assert "grace (apply, run r-9)" in result["error"]["message"]
    assert station.apply(bundle)["result"] == "unchanged"


def test_the_lock_is_kept_while_converge_runs(station, bundle):
    seen = []
    station.systemd.on_run = lambda: seen.append(station.state if Path(station.layout.state).exists() else None)
    station.apply(bundle)
    held = json.loads(Path(station.layout.lock).read_text() or "null")
    assert held is None  # signed only while held


def test_stop_holds_over_apply_and_boot_until_start(station, bundle):
    station.apply(bundle)
    result = station.verb("stop", role="encode")
    assert result["stopped"] == [ENCODE]
    assert Path(station.layout.stopped, ENCODE).exists()
    again = station.apply(bundle)
    assert again["result"] == "held"
    assert again["held"][0]["unit"] == ENCODE
    assert "ada" in again["held"][0]["reason"]
    assert station.verb("stop", role="encode")["result"] == "unchanged"
    assert station.verb("start", unit=ENCODE)["started"] == [ENCODE]
    assert not Path(station.layout.stopped, ENCODE).exists()
    assert station.apply(bundle)["result"] == "unchanged"


def test_a_new_wanted_hash_clears_a_stop(station, bundle):
    station.apply(bundle)
    station.verb("stop", role="encode")
    bundle.unit("upload", "archive", config="new")
    result = station.apply(bundle)
    assert ENCODE in result["started"]
    assert not Path(station.layout.stopped, ENCODE).exists()
    assert station.state["stopped"] == {}


def test_a_stop_for_a_time_ends(station, bundle):
    station.apply(bundle)
    station.verb("stop", role="encode", minutes=0.0001)
    import time

    time.sleep(0.02)
    assert station.apply(bundle)["started"] == [ENCODE]


def test_an_unknown_target_is_refused_with_what_there_is(station, bundle):
    station.apply(bundle)
    for verb in ("start", "stop", "restart"):
        error = station.verb(verb, role="encoder")["error"]
        assert error["error"] == "NoSuchUnit"
        assert ENCODE in error["message"]


def test_rollback_pins_until_the_inventory_changes(station, bundle):
    station.apply(bundle)
    first = station.tree()
    bundle.unit("encode", "talks", config="new")
    station.apply(bundle)
    result = station.verb("rollback", reason="worse picture")
    assert (result["result"], result["generation"], result["restarted"]) == ("changed", 1, [ENCODE])
    assert station.tree() == first
    again = station.apply(bundle)
    assert again["result"] == "held"
    assert "pinned to generation 1 by ada" in again["held"][0]["reason"]
    assert "worse picture" in again["held"][0]["reason"]
    bundle.unit("encode", "talks", config="third")
    assert station.apply(bundle)["result"] == "changed"
    assert station.state["pinned"] is None


def test_a_pinned_station_still_repairs_drift(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="new")
    station.apply(bundle)
    station.verb("rollback")
    station.systemd.units[UPLOAD] = {}
    result = station.apply(bundle)
    assert result["started"] == [UPLOAD]
    assert (station.current / "etc/encode/talks/config.json").read_text() == "c"
    assert station.state["pinned"]["generation"] == 1


def test_start_of_all_lets_a_pin_go(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="new")
    station.apply(bundle)
    station.verb("rollback")
    station.verb("start")
    assert station.apply(bundle)["restarted"] == [ENCODE]


def test_rollback_skips_what_failed_and_refuses_what_is_damaged(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", text="broken")
    station.apply(bundle)
    bundle.unit("encode", "talks", text="fine")
    station.apply(bundle)
    assert station.layout.current_number() == 3
    damaged = Path(station.layout.generation(1), "etc/encode/talks/config.json")
    damaged.unlink()
    error = station.verb("rollback")["error"]
    assert (error["error"], "etc/encode/talks/config.json" in error["message"]) == ("DamagedGeneration", True)
    error = station.verb("rollback", generation="9")["error"]
    assert error["error"] == "NoSuchGeneration"
    assert station.layout.current_number() == 3


def test_rollback_on_air_keeps_live_units(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="new")
    bundle.unit("ingest", live=True, config="new")
    station.apply(bundle)
    station.verb("on-air", minutes=60)
    result = station.verb("rollback")
    assert (result["restarted"], result["held"]) == ([ENCODE], [{"unit": INGEST, "reason": "on air"}])
    assert (station.current / "etc/ingest/main/config.json").read_text() == "new"
    assert (station.current / "etc/encode/talks/config.json").read_text() == "c"


def test_remove_takes_all_but_the_media(station, bundle):
    station.apply(bundle)
    media = Path(station.layout.data, "ingest/main")
    media.mkdir(parents=True)
    (media / "a.ts").write_bytes(b"x")
    result = station.verb("remove")
    assert sorted(result["removed"]) == sorted([INGEST, ENCODE, UPLOAD])
    assert not Path(station.layout.units).is_symlink()
    assert list(Path(station.layout.home).iterdir()) == []
    assert (media / "a.ts").exists()
    station.verb("remove", purge=True)
    assert not media.exists()


def test_status_tells_units_files_and_guard(station, bundle):
    station.apply(bundle)
    status = station.verb("status")
    assert status["units"][ENCODE] == {
        "state": "active",
        "sub": "running",
        "text": "",
        "restarts": 0,
        "live": False,
        "masked": False,
        "as_wanted": True,
    }
    assert status["files_intact"] is True
    assert (status["on_air"], status["lock"], status["pending"]) == (None, None, False)
    (station.current / "units/stationmaster.target").write_text("x")
    assert station.verb("status")["files_intact"] is False


def test_verbs_before_the_first_apply_are_refused(station):
    Path(station.layout.provision).unlink()
    Path(station.layout.home).rmdir()
    assert station.verb("stop")["error"]["error"] == "NeverApplied"


def test_check_of_a_verb_writes_nothing(station, bundle):
    station.apply(bundle)
    before = {path: path.lstat().st_mtime_ns for path in Path(station.root).rglob("*")}
    assert station.verb("stop", check=True)["result"] == "changed"
    assert station.verb("on-air", minutes=5, check=True)["result"] == "changed"
    assert station.verb("remove", check=True)["result"] == "changed"
    assert {path: path.lstat().st_mtime_ns for path in Path(station.root).rglob("*")} == before
    assert station.systemd.calls == []
