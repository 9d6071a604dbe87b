"""The words for how a station is, from its enrolment, its last hello and what is wanted."""

from __future__ import annotations

from typing import Any, Literal

from station import times

State = Literal["unassigned", "waiting", "new", "ready", "held", "drifted", "failed"]
Presence = Literal["awaited", "present", "late", "lost", "rebooted", "shutdown"]

LATE_AFTER = times.LATE_AFTER / times.HELLO_INTERVAL
"""Intervals without a hello after which a station is late."""
LOST_AFTER = times.LOST_AFTER / times.HELLO_INTERVAL
"""Intervals after which it is lost."""
REBOOTED_FOR = 12
"""Intervals that a reboot is shown: a minute, as long as somebody looks for the reason of a gap."""
FRESH_FOR = 2
"""Intervals that a hello is good enough to leave out an apply (DESIGN: the manager)."""


def state_of(*, assigned: bool | None, enrolled: bool, said: dict[str, Any], wanted: str | None) -> State:
    """Return how a station's configuration is.

    Args:
        assigned: whether the inventory has the station; None if it cannot be asked.
        enrolled: whether it has its secret.
        said: its last hello, `{}` before the first.
        wanted: hash of the bundle that the inventory wants, None if it is not known; then the
            last one that the station was given counts.
    """
    if assigned is False:
        return "unassigned"
    if not enrolled:
        return "waiting"
    if said.get("applied") is None:
        return "failed" if _failed_for(said, wanted) else "new"
    if _failed_for(said, wanted) or any(_broken(unit) for unit in (said["units"] or {}).values()):
        return "failed"
    if said.get("integrity") is False:
        return "drifted"
    if is_held(said):
        return "held"
    if said["applied"] != (wanted or said.get("wanted") or said["applied"]) or not healthy(said):
        return "drifted"
    return "ready"


def _failed_for(said: dict[str, Any], wanted: str | None) -> bool:
    failed = said.get("state", {}).get("failed")
    return bool(failed and failed.get("hash") in (None, wanted or said.get("wanted")))


def _broken(unit: dict[str, Any]) -> bool:
    looping = unit["sub"] == "auto-restart" or (unit["active"] == "activating" and unit["restarts"] > 1)
    return bool(unit["active"] == "failed" or looping)


def is_held(said: dict[str, Any]) -> bool:
    """Return whether something waits: for the end of on air, or because a person masked, stopped or pinned."""
    state = said["state"]
    masked = any(unit["masked"] for unit in (said["units"] or {}).values())
    return bool(state["held"] or state["stopped"] or state["pinned"] or masked)


def healthy(said: dict[str, Any]) -> bool:
    """Return whether all units of a hello are as they should be; not if it does not say."""
    return said["units"] is not None and all(unit["healthy"] for unit in said["units"].values())


def in_order(said: dict[str, Any], wanted: str, age: float, interval: float) -> bool:
    """Return whether an apply of `wanted` has nothing to do, from a hello that is `age` seconds old.

    Hash, unit states and the files' integrity must all agree, and the hello be fresh.
    """
    return (
        0 <= age <= FRESH_FOR * interval
        and not said.get("shutdown", True)
        and said.get("applied") == wanted
        and said.get("wanted") == wanted
        and said.get("integrity") is True
        and not is_held(said)
        and healthy(said)
    )


def presence_of(
    *,
    now: float,
    interval: float,
    seen_at: float | None,
    rebooted_at: float | None,
    shutdown_at: float | None,
    started_at: float,
    hold: float,
) -> Presence:
    """Return how a station's hellos come.

    All times are seconds since 1970. Within `hold` seconds of the manager's own start (`started_at`)
    nobody is called late or lost: it was the manager that did not listen.
    """
    if seen_at is None:
        return "awaited"
    if shutdown_at is not None and shutdown_at >= seen_at:
        return "shutdown"
    silent = now - seen_at
    if silent >= LATE_AFTER * interval:
        if now - started_at < hold:
            return "awaited"
        return "lost" if silent >= LOST_AFTER * interval else "late"
    if rebooted_at is not None and now - rebooted_at < REBOOTED_FOR * interval:
        return "rebooted"
    return "present"
