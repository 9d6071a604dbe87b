"""The words for a station, from pure data."""

import itertools

import pytest

from api.station_state import LATE_AFTER, LOST_AFTER, REBOOTED_FOR, in_order, presence_of, state_of
from station import times

GOOD = {"active": "active", "sub": "running", "restarts": 0, "healthy": True, "masked": False}
SAID = {
    "applied": "aa", "wanted": "aa", "integrity": True, "shutdown": False, "units": {"u": GOOD},
    "state": {"held": [], "stopped": {}, "pinned": None, "failed": None},
}  # fmt: skip
HOLDS = {
    "held": [{"unit": "u", "reason": "on air"}],
    "stopped": {"u": {"who": "crew"}},
    "pinned": {"generation": 2},
}


def said(unit=None, state=None, **more):
    return {**SAID, "units": {"u": {**GOOD, **(unit or {})}}, "state": {**SAID["state"], **(state or {})}, **more}


def word(value, wanted="aa", *, assigned=True, enrolled=True):
    return state_of(assigned=assigned, enrolled=enrolled, said=value, wanted=wanted)


@pytest.mark.parametrize(
    ("value", "more", "expected"),
    [
        ({}, {"assigned": False, "enrolled": False}, "unassigned"),
        (said(), {"assigned": False}, "unassigned"),
        ({}, {"enrolled": False}, "waiting"),
        ({}, {"assigned": None, "enrolled": False}, "waiting"),
        ({}, {}, "new"),
        (said(applied=None), {}, "new"),
        (said(applied=None, wanted=None, state={"failed": {"hash": "aa"}}), {}, "failed"),
        (said(), {}, "ready"),
        (said(), {"wanted": None}, "ready"),
        (said(wanted="bb"), {"wanted": None}, "drifted"),
        (said(), {"wanted": "bb"}, "drifted"),
        (said(integrity=False), {}, "drifted"),
        (said(integrity=None), {}, "ready"),
        (said(unit={"healthy": False, "active": "inactive", "sub": "dead"}), {}, "drifted"),
        (said(unit={"healthy": False, "active": "failed", "sub": "failed"}), {}, "failed"),
        (said(unit={"healthy": False, "active": "activating", "sub": "auto-restart"}), {}, "failed"),
        (said(unit={"healthy": False, "active": "activating", "sub": "start", "restarts": 3}), {}, "failed"),
        (said(unit={"healthy": False, "active": "activating", "sub": "start"}), {}, "drifted"),
        (said(state={"failed": {"hash": "aa"}}), {}, "failed"),
        (said(state={"failed": {"hash": "old"}}), {}, "ready"),
        *[(said(state={key: value}, applied="zz"), {}, "held") for key, value in HOLDS.items()],
        (said(unit={"masked": True, "healthy": False, "active": "inactive"}), {}, "held"),
        (said(state={"held": HOLDS["held"]}, integrity=False), {}, "drifted"),
    ],
)
def test_a_state(value, more, expected):
    assert word(value, more.pop("wanted", "aa"), **more) == expected


@pytest.mark.parametrize(
    ("ago", "expected"), [(0, "present"), (9.9, "present"), (10, "late"), (19.9, "late"), (20, "lost"), (9999, "lost")]
)
@pytest.mark.parametrize("interval", [5, 1, 30])
def test_late_and_lost_follow_from_the_one_interval(ago, expected, interval):
    seen = 100_000 - ago * interval / 5
    assert presence(seen_at=seen, interval=interval) == expected


def presence(**more):
    given = {
        "now": 100_000.0, "interval": 5, "seen_at": 100_000.0, "rebooted_at": None, "shutdown_at": None,
        "started_at": 0.0, "hold": 90,
    }  # fmt: skip
    return presence_of(**{**given, **more})


def test_after_the_managers_own_start_nobody_is_called_late_or_lost():
    for seen in (100_000 - 12, 100_000 - 60, 0.0):
        assert presence(seen_at=seen, started_at=100_000 - 89) == "awaited"
    assert presence(seen_at=100_000 - 60, started_at=100_000 - 91) == "lost"


def test_a_reboot_is_shown_for_a_while_and_hides_no_loss():
    assert presence(rebooted_at=100_000.0) == "rebooted"
    assert presence(rebooted_at=100_000 - REBOOTED_FOR * 5) == "present"
    assert presence(rebooted_at=99_970, seen_at=99_975) == "lost"


def test_a_planned_shutdown_is_never_a_loss():
    assert presence(seen_at=90_000.0, shutdown_at=90_000.0) == "shutdown"
    assert presence(seen_at=90_100.0, shutdown_at=90_000.0) == "lost"


def test_never_heard_is_awaited():
    assert presence(seen_at=None) == "awaited"


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (10, True), (10.1, False), (-1, False)])
def test_only_a_fresh_hello_spares_an_apply(age, fresh):
    assert in_order(SAID, "aa", age, 5) is fresh


def test_the_order_of_the_time_budget():
    assert (LATE_AFTER, LOST_AFTER) == (2, 4)
    order = [times.MEDIA_TICK, times.INPUT_TIMEOUT, times.STALL_LIMIT, times.WATCHDOG, times.LOST_AFTER]
    assert all(before < after for before, after in itertools.pairwise(order))
    assert times.STOP_TIMEOUT < times.WATCHDOG
    assert (times.LATE_AFTER, times.LOST_AFTER) == (2 * times.HELLO_INTERVAL, 4 * times.HELLO_INTERVAL)
