"""Whether a station is pushed to: pure decisions over its last hello and what became of earlier pushes.

None of them may become an endless loop: what is held, stopped, pinned or failed is a person's to
change, and a hash is tried again only after it was reached, or after a growing pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

FRESH = 2
"""Intervals within which a hello must have come: who is silent cannot be reached, and says hello when it is back."""
FIRST_PAUSE = 30.0
"""Seconds after which a station that said hello and could not be reached is tried again; doubled each time."""
REPEAT_PAUSE = 60.0
"""Seconds before the same hash may be pushed a second time, to a station that had it and lost it; doubled each time."""
LONGEST_PAUSE = 3600.0
TEMPORARY = frozenset({"Locked"})
"""Refusals of a station that need nobody to change anything."""


class Reason(StrEnum):
    """Why a station is pushed to."""

    NEVER_APPLIED = "it has nothing yet"
    NEW_WANTED = "the inventory wants something else since"
    NOT_AS_WANTED = "it does not have what the inventory wants"


class Outcome(StrEnum):
    """What became of a push."""

    SUCCEEDED = "succeeded"
    HELD = "held"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELED = "canceled"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


FINAL = frozenset({Outcome.REFUSED, Outcome.FAILED, Outcome.CANCELED})
"""Not tried again without a person or a new hash."""
RETRIED = frozenset({Outcome.UNREACHABLE, Outcome.UNKNOWN})


@dataclass(frozen=True)
class Memory:
    """What is remembered of the pushes to a station. Times are seconds since 1970."""

    hash: str | None = None
    """What was pushed last."""
    run: str | None = None
    """The run that does it, while it has not ended."""
    outcome: Outcome | None = None
    ended_at: float = 0.0
    not_before: float = 0.0
    attempts: int = 0
    """Pushes of this hash."""
    misses: int = 0
    """Pushes in a row, of whatever hash, of which nothing is known or that did not arrive."""
    reached: bool = False
    """Whether a hello showed the hash as applied since."""


class View(Protocol):
    """What is needed of a station's view."""

    @property
    def name(self) -> str | None:
        """The station of the inventory."""

    @property
    def enrolment(self) -> str:
        """`enrolled`, or something else."""

    @property
    def seen_at(self) -> float | None:
        """When the last hello came."""

    @property
    def said(self) -> Mapping[str, Any]:
        """The last hello."""


def needs_push(view: View, wanted: str | None, memory: Memory, at: float, interval: float) -> Reason | None:
    """Decide whether a run is started for a station.

    Args:
        view: the station as it is.
        wanted: hash that the inventory in force wants it to have, None while that is not known.
        memory: of the pushes before.
        at: now.
        interval: seconds between two hellos.

    Returns:
        The reason for a push, None for leaving the station alone.
    """
    said = view.said
    if wanted is None or view.enrolment != "enrolled" or view.seen_at is None or not said:
        return None
    if said.get("shutdown") or at - view.seen_at > FRESH * interval or view.seen_at <= memory.ended_at:
        return None
    if has(said, wanted) or left_alone(said, wanted, at) or memory.run is not None:
        return None
    if at < memory.not_before and (memory.hash == wanted or memory.outcome in RETRIED):
        return None
    again = memory.outcome in RETRIED or (memory.outcome == Outcome.HELD and is_let_go(said, at))
    if memory.hash == wanted and not again and not memory.reached:
        return None  # it failed, was refused, or succeeded and yet did not come to this hash
    if not said.get("applied"):
        return Reason.NEVER_APPLIED
    return Reason.NOT_AS_WANTED if said.get("wanted") == wanted else Reason.NEW_WANTED


def has(said: Mapping[str, Any], wanted: str) -> bool:
    """Return whether a station has a bundle and was told nothing newer."""
    return said.get("applied") == wanted and said.get("wanted") in (wanted, None)


def is_let_go(said: Mapping[str, Any], at: float) -> bool:
    """Return whether all that a station holds waited for the end of on air, which has come."""
    state = said.get("state") or {}
    until = state.get("on_air_until")
    held = state.get("held") or ()
    return bool(held) and (until is None or until < at) and all("on air" in one.get("reason", "") for one in held)


def left_alone(said: Mapping[str, Any], wanted: str, at: float) -> bool:
    """Return whether what is missing is a person's to bring: held, stopped, pinned, or failed with this hash.

    A hash that the station has not heard of lets go of stops and of a pin, and is tried whatever is held.
    """
    state = said.get("state") or {}
    if (state.get("failed") or {}).get("hash") == wanted:
        return True
    held = state.get("held") and not is_let_go(said, at)
    kept = held or state.get("stopped") or state.get("pinned")
    return bool(kept) and said.get("wanted") == wanted


def after_hello(memory: Memory, said: Mapping[str, Any]) -> Memory:
    """Return the memory after a hello: whether the pushed hash was seen on the station."""
    if not memory.reached and memory.hash is not None and said.get("applied") == memory.hash:
        return replace(memory, reached=True)
    return memory


def after_submit(memory: Memory, wanted: str, run: str) -> Memory:
    """Return the memory after a run was asked for."""
    again = memory.hash == wanted
    return replace(
        memory, hash=wanted, run=run, outcome=None, reached=False, attempts=memory.attempts + 1 if again else 1
    )


def after_end(memory: Memory, outcome: Outcome, at: float) -> Memory:
    """Return the memory after the run ended."""
    missed = memory.misses + 1 if outcome in RETRIED else 0
    first, times = (FIRST_PAUSE, missed) if missed else (REPEAT_PAUSE, memory.attempts)
    pause = min(first * 2 ** min(max(times - 1, 0), 16), LONGEST_PAUSE)
    return replace(memory, run=None, outcome=outcome, ended_at=at, not_before=at + pause, misses=missed)


def by_a_person(wanted: str | None, outcome: Outcome | None, at: float) -> Memory:
    """Return the memory after a person had something done: earlier pushes count no more, a refusal does."""
    if outcome is None or outcome in RETRIED:
        return Memory(ended_at=at)
    return after_end(Memory(hash=wanted), outcome, at)


def outcome_of(state: str, result: Mapping[str, Any], name: str) -> tuple[Outcome, dict[str, Any] | None]:
    """Return what became of one station in a run, and the typed error if it is one.

    Args:
        state: the run's last state.
        result: the run's result, with an entry for each station.
        name: the station.
    """
    entry = (result.get("stations") or {}).get(name) or {}
    apply, error = entry.get("apply") or {}, entry.get("error") or {}
    if entry.get("state") in ("ok", "changed", "skipped") or apply.get("result") in ("changed", "unchanged", "held"):
        return (Outcome.HELD if apply.get("result") == "held" else Outcome.SUCCEEDED), None
    if state in ("canceled", "cancel_unverified"):
        return Outcome.CANCELED, None
    findings = error.get("findings") or (result.get("error") or {}).get("findings")
    if findings:
        mine = next((one for one in findings if name in (one.get("stations") or ())), findings[0])
        return Outcome.REFUSED, dict(mine)
    if apply.get("error"):
        told = dict(apply["error"])
        return (Outcome.UNKNOWN if told.get("error") in TEMPORARY else Outcome.REFUSED), told
    if apply.get("failed"):
        return Outcome.FAILED, {"error": "UnitFailed", "message": apply["failed"].get("why"), **apply["failed"]}
    if entry.get("state") == "failed":
        return Outcome.FAILED, {"error": "RunFailed", "message": error.get("message"), "task": error.get("task")}
    if entry.get("state") == "unreachable":
        return Outcome.UNREACHABLE, {"error": "Unreachable", "message": error.get("message")}
    return Outcome.UNKNOWN, None
