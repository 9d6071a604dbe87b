"""Which requests are one: equal queued runs, and an apply inside a larger one that is queued.

A run that waits in between and touches the same stations is a barrier: an apply behind a stop
is not the apply before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar


class Work(Protocol):
    """What matters of a run here."""

    action: Any
    parameters: Any
    stations: Any
    body_hash: Any


T = TypeVar("T", bound=Work)


def body_hash(action: str, parameters: Mapping[str, Any], stations: Sequence[str]) -> str:
    """Return what equal runs have in common."""
    return hashlib.sha256(json.dumps([action, dict(parameters), sorted(stations)], sort_keys=True).encode()).hexdigest()


def covers(one: Work, other: Work) -> bool:
    """Tell whether a run does all that another one asks for."""
    if one.body_hash == other.body_hash:
        return True
    if one.action != "apply" or other.action != "apply" or not set(other.stations) <= set(one.stations):
        return False
    ours, theirs = one.parameters, other.parameters
    same = all(bool(ours.get(name)) == bool(theirs.get(name)) for name in ("interrupt", "dry_run"))
    forced = bool(ours.get("force")) >= bool(theirs.get("force"))
    # an automatic apply is refused by a station where the bundle failed before; a person's is not
    person = bool(ours.get("automatic")) <= bool(theirs.get("automatic"))
    return same and forced and person


def fold_into(queue: Sequence[T], new: Work) -> T | None:
    """Return the queued run (in the order of coming) that a new one becomes part of, or None."""
    for queued in reversed(queue):
        if covers(queued, new):
            return queued
        if set(queued.stations) & set(new.stations):
            return None
    return None


def absorbed(queue: Sequence[T], new: Work) -> list[T]:
    """Return the queued runs (in the order of coming) that become part of a new one behind them."""
    found: list[T] = []
    barrier: set[str] = set()
    for queued in reversed(queue):
        if covers(new, queued) and not barrier & set(queued.stations):
            found.append(queued)
        else:
            barrier |= set(queued.stations)
    return found


def names(stations: Iterable[str], most: int = 4) -> str:
    """Return some names for a sentence."""
    known = sorted(stations)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
