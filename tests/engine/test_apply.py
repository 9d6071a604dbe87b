"""The verb apply: files, units, drift, refusals."""

from __future__ import annotations

import copy
import errno
import json
import time
from pathlib import Path

import pytest

INGEST = "stationmaster-ingest@main.service"
ENCODE = "stationmaster-encode@talks.service"
UPLOAD = "stationmaster-upload@archive.service"


def test_first_apply_brings_files_and_units(station, bundle):
    result = station.apply(bundle)
    assert result["result"] == "changed", result
    assert result["started"] == sorted([INGEST, ENCODE, UPLOAD])
    assert station.tree() == {path: bundle.blobs[entry["sha256"]] for path, entry in bundle.files.items()}
    assert Path(station.layout.units).readlink() == station.current / "units"
    assert station.state["applied"] == station.state["wanted"] == bundle.manifest()["wanted"]
    assert station.pending is None


def test_secrets_are_for_root_only(station, bundle):
    station.apply(bundle)
    secret = station.current / "secrets/upload/archive/secrets.json"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in (secret.parent, secret.parent.parent))


def test_second_apply_changes_nothing(station, bundle):
    station.apply(bundle)
    before = {path: path.stat().st_mtime_ns for path in Path(station.layout.home).rglob("*")}
    result = station.apply(bundle)
    assert result["result"] == "unchanged"
    assert not any(result[key] for key in ("changed", "restarted", "started", "stopped", "drift", "held"))
    assert station.systemd.calls == []
    after = {path: path.stat().st_mtime_ns for path in Path(station.layout.home).rglob("*")}
    assert {path for path in before if before[path] != after.get(path)} <= {
        Path(station.layout.lock),
        Path(station.layout.converging),
    }


def test_a_changed_unit_alone_restarts(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="other")
    result = station.apply(bundle)
    assert result["restarted"] == [ENCODE]
    assert station.systemd.told("restart") == [ENCODE]
    assert result["changed"] == ["etc/encode/talks/config.json", f"units/{ENCODE}"]


def test_a_file_that_nobody_reads_restarts_nothing(station, bundle):
    bundle.add("etc/ingest/main/context.json", b"1")
    station.apply(bundle)
    bundle.add("etc/ingest/main/context.json", b"2")
    result = station.apply(bundle)
    assert (result["result"], result["restarted"]) == ("changed", [])
    assert (station.current / "etc/ingest/main/context.json").read_bytes() == b"2"


def test_a_removed_instance_is_stopped_before_its_files_go(station, bundle):
    station.apply(bundle)
    slim = copy.deepcopy(bundle)
    del slim.units[ENCODE], slim.files[f"units/{ENCODE}"], slim.files["etc/encode/talks/config.json"]
    del slim.links[f"units/stationmaster.target.wants/{ENCODE}"], slim.roles["encode"]
    seen = []
    real = station.systemd.tell

    def tell(verb, units=(), **more):
        if verb == "stop":
            seen.append((station.current / "units" / ENCODE).exists())
        return real(verb, units, **more)

    station.systemd.tell = tell
    result = station.apply(slim)
    assert (result["stopped"], result["removed"]) == ([ENCODE], [ENCODE])
    assert seen == [True]
    assert not (station.current / "units" / ENCODE).exists()
    assert station.apply(slim)["result"] == "unchanged"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda current: (current / f"units/{ENCODE}").write_text("[Service]\n"),
        lambda current: (current / f"units/{ENCODE}").unlink(),
        lambda current: (current / f"units/{ENCODE}").chmod(0o600),
        lambda current: (current / "units/extra.service").write_text("x"),
        lambda current: (current / f"units/stationmaster.target.wants/{ENCODE}").unlink(),
        lambda current: (current / "secrets/upload").chmod(0o755),
        lambda current: (current / "etc/encode").rename(current / "etc/encoder"),
    ],
)
def test_what_a_hand_changed_is_drift_and_repaired(station, bundle, break_it):
    station.apply(bundle)
    whole = station.tree()
    break_it(station.current.resolve())
    result = station.apply(bundle)
    assert result["result"] == "changed", result
    assert result["drift"]
    assert station.tree() == whole
    assert (station.current / "secrets/upload").stat().st_mode & 0o777 == 0o700
    assert station.apply(bundle)["result"] == "unchanged"


def test_a_unit_that_was_started_with_an_edit_is_restarted(station, bundle):
    station.apply(bundle)
    path = station.current / "etc/encode/talks/config.json"
    time.sleep(0.02)
    path.unlink()
    path.write_text("edited, and loaded")
    time.sleep(0.02)
    station.systemd._start(ENCODE)
    assert station.apply(bundle)["restarted"] == [ENCODE]
    assert station.apply(bundle)["result"] == "unchanged"
    path.unlink()
    path.write_text("edited, and not loaded")
    result = station.apply(bundle)
    assert (result["changed"], result["restarted"]) == (["etc/encode/talks/config.json"], [])


def test_an_edit_in_place_never_spreads_to_the_new_generation(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="two")
    station.apply(bundle)
    with (station.current / "etc/ingest/main/config.json").open("a") as file:
        file.write("tampered")  # the same inode as in generation 1
    station.apply(bundle)
    assert (station.current / "etc/ingest/main/config.json").read_text() == "c"


NOT_RUNNING = [
    {},
    {"ActiveState": "failed", "SubState": "failed", "Result": "signal"},
    {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "3"},
    {"ActiveState": "activating", "SubState": "start", "NRestarts": "7"},
]


@pytest.mark.parametrize("state", NOT_RUNNING)
def test_a_unit_that_does_not_run_is_drift_and_started(station, bundle, state):
    station.apply(bundle)
    station.systemd.units[ENCODE] = state
    result = station.apply(bundle)
    assert result["result"] == "changed"
    assert result["started"] == [ENCODE]
    assert [entry["unit"] for entry in result["drift"]] == [ENCODE]
    assert station.systemd.told("restart") == [ENCODE]


def test_a_unit_that_takes_its_time_to_start_is_left_alone(station, bundle):
    station.apply(bundle)
    station.systemd.units[ENCODE] = {"ActiveState": "activating", "SubState": "start", "NRestarts": "0"}
    assert station.apply(bundle)["result"] == "unchanged"


def test_a_unit_started_with_other_files_is_restarted(station, bundle):
    station.apply(bundle)
    Path(station.layout.started, ENCODE).write_text("something else")
    assert station.apply(bundle)["restarted"] == [ENCODE]


def test_a_masked_unit_is_held(station, bundle):
    station.apply(bundle)
    station.systemd.units[ENCODE] = {"LoadState": "masked", "UnitFileState": "masked"}
    result = station.apply(bundle)
    assert result["result"] == "held"
    assert result["held"][0]["unit"] == ENCODE
    assert "masked" in result["held"][0]["reason"]
    assert station.systemd.calls == []


def test_a_unit_replaced_in_etc_is_the_operators(station, bundle):
    station.apply(bundle)
    station.systemd.units[ENCODE]["FragmentPath"] = f"/etc/systemd/system/{ENCODE}"
    bundle.unit("encode", "talks", config="other")
    result = station.apply(bundle)
    assert result["restarted"] == []
    assert "/etc/systemd/system" in result["held"][0]["reason"]


def test_local_block_list_comes_first(station, bundle):
    station.stamp("another")
    blocked = Path(station.layout.blocked_roles[0])
    blocked.parent.mkdir(parents=True)
    blocked.write_text("# ours\nencode   # the fan is loud\n")
    before = sorted(Path(station.root).rglob("*"))
    result = station.apply(bundle)
    assert result["result"] == "refused"
    error = result["error"]
    assert (error["error"], error["role"], error["instance"], error["line"]) == ("BlockedRole", "encode", "talks", 2)
    assert sorted(Path(station.root).rglob("*")) == before


def test_other_stamp_asks_for_provision_and_touches_nothing(station, bundle):
    bundle.provision = "p2"
    before = sorted(Path(station.root).rglob("*"))
    assert station.apply(bundle)["result"] == "needs_provision"
    assert sorted(Path(station.root).rglob("*")) == before


def test_check_says_what_would_happen_and_writes_nothing(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="other")
    bundle.unit("record", "copy")
    before = {path: path.lstat().st_mtime_ns for path in Path(station.root).rglob("*")}
    result = station.apply(bundle, check=True, diff=True)
    assert result["result"] == "changed"
    assert result["restarted"] == [ENCODE]
    assert result["started"] == ["stationmaster-record@copy.service"]
    assert {path: path.lstat().st_mtime_ns for path in Path(station.root).rglob("*")} == before
    assert station.systemd.calls == []
    assert any("+other" in part["prepared"] for part in result["diff"])


def test_a_diff_shows_no_secret(station, bundle):
    station.apply(bundle)
    bundle.unit("upload", "archive", secret="tr0ub4dor")
    result = station.apply(bundle, diff=True)
    assert "(secret changed)" in json.dumps(result["diff"])
    assert "hunter2" not in json.dumps(result)
    assert "tr0ub4dor" not in json.dumps(result)


def test_a_foreign_unit_folder_is_refused(station, bundle):
    folder = Path(station.layout.units)
    folder.mkdir(parents=True)
    (folder / "theirs.service").write_text("x")
    result = station.apply(bundle)
    assert (result["result"], result["error"]["error"]) == ("refused", "ForeignUnitFolder")
    assert (folder / "theirs.service").exists()


def test_old_generations_are_dropped(station, bundle):
    for number in range(8):
        bundle.unit("encode", "talks", config=str(number))
        station.apply(bundle)
    assert station.layout.numbers() == [4, 5, 6, 7, 8]


def test_damaged_state_is_rebuilt_and_said(station, bundle):
    station.apply(bundle)
    wanted = station.state["wanted"]
    Path(station.layout.state).write_bytes(b"")
    result = station.apply(bundle)
    assert any("damaged" in note for note in result["notes"])
    assert station.state["wanted"] == wanted
    assert list(Path(station.layout.home).glob("state.json.damaged-*"))


def test_a_new_revision_alone_is_no_change(station, bundle):
    station.apply(bundle)
    manifest = {**bundle.manifest(), "revision": "r2"}
    result = station.do({**station.request("apply", manifest=manifest), "blobs": {}}, b"")
    assert result["result"] == "unchanged"
    assert station.state["revision"] == "r2"


def test_absent_contents_are_asked_for_before_anything_changes(station, bundle):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="other")
    result = station.do({**station.request("apply", manifest=bundle.manifest()), "blobs": {}}, b"")
    changed = [f"units/{ENCODE}", "etc/encode/talks/config.json"]
    assert result["result"] == "needs_contents"
    assert result["contents"] == sorted(bundle.files[path]["sha256"] for path in changed)
    assert station.layout.current_number() == 1
    assert station.apply(bundle)["result"] == "changed"


def test_a_full_disk_is_said_and_nothing_changes(station, bundle, monkeypatch):
    station.apply(bundle)
    bundle.unit("encode", "talks", config="other")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("station.applier.durable.create", full)
    result = station.apply(bundle)
    assert (result["result"], result["error"]["error"]) == ("refused", "DiskFull")
    assert station.layout.current_number() == 1
    monkeypatch.undo()
    assert station.apply(bundle)["restarted"] == [ENCODE]


def test_the_journal_is_for_root_only(station, bundle):
    bundle.unit("encode", "talks", text="broken")
    station.apply(bundle)
    assert "it hurts" in Path(station.layout.outcome).read_text()
    assert Path(station.layout.outcome).stat().st_mode & 0o777 == 0o600
    assert "it hurts" not in Path(station.layout.state).read_text()


def test_a_diff_of_what_is_no_text_says_so(station, bundle):
    station.apply(bundle)
    bundle.add("etc/encode/talks/files/logo.png", b"\x89PNG\0\xff")
    result = station.apply(bundle, check=True, diff=True)
    assert result["diff"] == [{"prepared": "etc/encode/talks/files/logo.png: other content\n"}]


def test_other_packages_alone_are_no_change(station, bundle):
    station.apply(bundle)
    bundle.provision = "p2"
    station.stamp("p2")
    result = station.apply(bundle)
    assert (result["result"], result["generation"]) == ("unchanged", 1)
    assert station.state["wanted"] == station.state["applied"] == bundle.manifest()["wanted"]
