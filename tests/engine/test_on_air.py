"""On air: what the audience sees keeps its text and files; the rest is applied."""

from __future__ import annotations

import copy
import json
import random
import time
from pathlib import Path

import pytest

from tests.engine.kit import Bundle

INGEST = "stationmaster-ingest@main.service"
ENCODE = "stationmaster-encode@talks.service"


@pytest.fixture
def on_air(station, bundle):
    station.apply(bundle)
    assert station.verb("on-air", minutes=60)["result"] == "changed"
    return station


def change_both(bundle):
    bundle.unit("ingest", live=True, config="new")
    bundle.unit("encode", "talks", config="new")


def test_live_units_keep_text_and_files(on_air, bundle):
    change_both(bundle)
    result = on_air.apply(bundle)
    assert result["result"] == "changed"
    assert result["restarted"] == [ENCODE]
    assert result["held"] == [{"unit": INGEST, "reason": "on air"}]
    assert (on_air.current / "etc/ingest/main/config.json").read_text() == "c"
    assert (on_air.current / "etc/encode/talks/config.json").read_text() == "new"
    assert on_air.state["wanted"] != on_air.state["applied"]
    assert on_air.state["held"] == result["held"]


def test_the_held_state_is_stable(on_air, bundle):
    change_both(bundle)
    on_air.apply(bundle)
    again = on_air.apply(bundle)
    assert again["result"] == "held"
    assert again["held"] == [{"unit": INGEST, "reason": "on air"}]
    assert on_air.systemd.calls == []


def test_off_air_the_next_apply_brings_the_rest(on_air, bundle):
    change_both(bundle)
    on_air.apply(bundle)
    on_air.verb("on-air", minutes=0)
    result = on_air.apply(bundle)
    assert (result["restarted"], result["held"]) == ([INGEST], [])
    assert on_air.state["wanted"] == on_air.state["applied"]


def test_the_operators_word_overrides(on_air, bundle):
    change_both(bundle)
    result = on_air.apply(bundle, interrupt=True)
    assert sorted(result["restarted"]) == [ENCODE, INGEST]


def test_a_live_unit_is_not_removed(on_air, bundle):
    slim = Bundle()
    slim.unit("encode", "talks")
    result = on_air.apply(slim)
    assert result["held"] == [{"unit": INGEST, "reason": "on air, to be removed"}]
    assert (on_air.current / "units" / INGEST).exists()
    assert (on_air.current / "etc/ingest/main/config.json").exists()
    assert (on_air.current / "units/stationmaster.target.wants" / INGEST).is_symlink()
    assert INGEST not in result["stopped"] + result["removed"]


def test_a_new_live_unit_starts(on_air, bundle):
    bundle.unit("ingest", "second", live=True)
    result = on_air.apply(bundle)
    assert result["started"] == ["stationmaster-ingest@second.service"]


def test_a_live_unit_that_is_down_gets_the_new_text(on_air, bundle):
    change_both(bundle)
    on_air.systemd.units[INGEST] = {"ActiveState": "failed", "SubState": "failed", "Result": "signal"}
    result = on_air.apply(bundle)
    assert result["held"] == []
    assert INGEST in result["started"]


def test_a_unit_that_shares_a_file_with_a_held_one_waits_too(station, bundle):
    shared = bundle.add("etc/shared", b"1")
    bundle.unit("ingest", live=True, shared=(shared,))
    bundle.unit("encode", "talks", shared=(shared,))
    station.apply(bundle)
    station.verb("on-air", minutes=60)
    bundle.add("etc/shared", b"2")
    bundle.unit("ingest", live=True, shared=(shared,))
    bundle.unit("encode", "talks", shared=(shared,))
    new = bundle.unit("upload", "second", shared=(shared,))
    result = station.apply(bundle)
    assert {entry["unit"] for entry in result["held"]} == {INGEST, ENCODE, new}
    assert (station.current / "etc/shared").read_bytes() == b"1"
    assert not (station.current / "units" / new).exists()
    assert result["restarted"] == result["started"] == []


def test_a_hand_edited_file_of_a_held_unit_is_mended_without_restart(on_air, bundle):
    change_both(bundle)
    on_air.apply(bundle)
    path = on_air.current / "etc/ingest/main/config.json"
    path.unlink()
    path.write_text("tampered")
    result = on_air.apply(bundle)
    # its text is not in the new bundle, but older generations have it
    assert (result["result"], result["restarted"]) == ("changed", [])
    assert path.read_text() == "c"


@pytest.mark.parametrize("text", ["", "{", '{"until": "soon"}', "[]", '{"by": "ada"}'])
def test_an_unreadable_record_counts_as_on_air(station, bundle, text):
    station.apply(bundle)
    Path(station.layout.on_air).write_text(text)
    change_both(bundle)
    result = station.apply(bundle)
    assert result["held"][0]["unit"] == INGEST
    assert any("on-air.json" in note for note in result["notes"])


def test_the_wall_clock_decides_after_a_boot(station, bundle):
    station.apply(bundle)
    change_both(bundle)
    record = {"until": time.time() - 1, "boot_id": "another", "until_uptime": 1e12}
    Path(station.layout.on_air).write_text(json.dumps(record))
    assert station.apply(bundle)["held"] == []


def test_within_a_boot_a_clock_step_ends_nothing(station, bundle):
    boot = Path(station.layout.boot_id)
    boot.parent.mkdir(parents=True)
    boot.write_text("b1\n")
    station.apply(bundle)
    station.verb("on-air", minutes=60)
    record = json.loads(Path(station.layout.on_air).read_text())
    Path(station.layout.on_air).write_text(json.dumps({**record, "until": 0}))
    change_both(bundle)
    assert station.apply(bundle)["held"]


def test_stop_and_restart_of_live_units_are_refused(on_air):
    for verb in ("stop", "restart"):
        result = on_air.verb(verb, role="ingest")
        assert (result["result"], result["error"]["error"]) == ("refused", "OnAir")
        assert on_air.systemd.calls == []
    assert on_air.verb("restart", role="encode")["restarted"] == [ENCODE]
    assert on_air.verb("restart", role="ingest", interrupt=True)["restarted"] == [INGEST]


def test_a_failure_takes_no_live_unit_back(on_air, bundle):
    bundle.unit("encode", "talks", text="broken")
    second = bundle.unit("ingest", "second", live=True)
    result = on_air.apply(bundle)
    assert result["failed"]["unit"] == ENCODE
    assert {"unit": second, "reason": "on air, to be removed"} in result["held"]
    assert on_air.systemd.units[second]["ActiveState"] == "active"


def test_twenty_random_changes_never_touch_a_running_live_unit(on_air, bundle):
    choose = random.Random(7)  # noqa: S311 - the same changes each time
    for number in range(20):
        change = copy.deepcopy(bundle)
        if choose.random() < 0.3:
            change = Bundle()
        if choose.random() < 0.7:
            change.unit("ingest", live=choose.random() < 0.8, config=str(number))
        for role in ("encode", "record"):
            if choose.random() < 0.5:
                change.unit(role, "talks", config=str(number), text=choose.choice(["x", "y", "broken"]))
        on_air.apply(change)
        touched = {
            unit for verb, units in on_air.systemd.calls if verb in ("stop", "restart", "start") for unit in units
        }
        assert INGEST not in touched
        assert (on_air.current / "units" / INGEST).exists()
