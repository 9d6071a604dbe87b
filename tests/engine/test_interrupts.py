"""Which live units an apply or a verb interrupts, or would."""

from __future__ import annotations

import pytest

from station.applier import records
from tests.engine.kit import Bundle

INGEST = "stationmaster-ingest@main.service"
ENCODE = "stationmaster-encode@talks.service"


@pytest.fixture
def changed(station, bundle):
    """A station whose live and whose other unit have another configuration in the bundle."""
    station.apply(bundle)
    bundle.unit("ingest", live=True, config="new")
    bundle.unit("encode", "talks", config="new")
    return station


@pytest.mark.parametrize("check", [True, False])
def test_a_live_unit_that_restarts_is_interrupted_and_no_other(changed, bundle, check):
    result = changed.apply(bundle, check=check)
    assert (result["restarted"], result["interrupts"]) == ([ENCODE, INGEST], [INGEST])


@pytest.mark.parametrize("check", [True, False])
def test_a_live_unit_that_is_removed_is_interrupted(station, bundle, check):
    station.apply(bundle)
    slim = Bundle()
    slim.unit("encode", "talks")
    result = station.apply(slim, check=check)
    assert INGEST in result["removed"]
    assert result["interrupts"] == [INGEST]


def test_what_changes_nothing_or_only_starts_interrupts_nothing(station, bundle):
    assert station.apply(bundle)["interrupts"] == []
    again = station.apply(bundle)
    assert (again["result"], again["interrupts"]) == ("unchanged", [])
    assert station.verb("on-air", minutes=5)["interrupts"] == []
    station.systemd.units[INGEST] = {}
    result = station.verb("start")
    assert (result["started"], result["interrupts"]) == ([INGEST], [])


@pytest.mark.parametrize(
    "status",
    [{"ActiveState": "failed", "SubState": "failed"}, {"ActiveState": "activating", "SubState": "auto-restart"}],
)
@pytest.mark.parametrize("verb", ["apply", "stop", "restart"])
def test_a_live_unit_that_does_not_run_is_not_interrupted(changed, bundle, verb, status):
    changed.systemd.units[INGEST] = status
    result = changed.apply(bundle) if verb == "apply" else changed.verb(verb)
    assert (result["result"], result["interrupts"]) == ("changed", [])


def test_on_air_nothing_is_interrupted_but_on_the_operators_word(changed, bundle):
    changed.verb("on-air", minutes=60)
    assert changed.apply(bundle, check=True)["interrupts"] == []
    assert changed.apply(bundle, check=True, interrupt=True)["interrupts"] == [INGEST]
    held = changed.apply(bundle)
    assert (held["restarted"], held["interrupts"]) == ([ENCODE], [])


def test_what_runs_decides_whether_a_unit_is_live(station, bundle):
    station.apply(bundle)
    bundle.unit("ingest", live=False, config="new")
    bundle.unit("encode", "talks", live=True, config="new")
    assert station.apply(bundle, check=True)["interrupts"] == [INGEST]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("verb", ["stop", "restart", "remove"])
def test_a_verb_tells_the_live_units_that_it_interrupts(station, bundle, verb, check):
    station.apply(bundle)
    assert station.verb(verb, check=check)["interrupts"] == [INGEST]


def test_a_verb_for_a_part_interrupts_only_that(station, bundle):
    station.apply(bundle)
    for verb in ("stop", "restart"):
        assert station.verb(verb, role="encode")["interrupts"] == []


def test_a_live_unit_that_is_masked_or_stopped_is_not_interrupted_by_a_restart(station, bundle):
    station.apply(bundle)
    station.systemd.units[INGEST].update(LoadState="masked", UnitFileState="masked")
    assert station.verb("restart")["interrupts"] == []


@pytest.mark.parametrize("check", [True, False])
def test_going_back_tells_what_it_interrupts(changed, bundle, check):
    changed.apply(bundle)
    assert changed.verb("rollback", check=check)["interrupts"] == [INGEST]


def test_a_failure_tells_what_was_interrupted_and_ran_before(changed, bundle):
    bundle.unit("encode", "talks", text="broken")
    second = bundle.unit("ingest", "second", live=True)
    result = changed.apply(bundle)
    assert (result["failed"]["went_back_to"], result["stopped"]) == (1, [second])
    assert result["interrupts"] == [INGEST]


def test_what_was_interrupted_is_what_was_done_and_not_what_was_foreseen(changed, bundle):
    def on_air():
        records.write_on_air(changed.layout, 60, "ada")

    changed.systemd.on_run = on_air
    result = changed.apply(bundle)
    assert (result["restarted"], result["interrupts"]) == ([ENCODE], [])
    assert result["held"] == [{"unit": INGEST, "reason": "on air"}]
