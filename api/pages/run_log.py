"""The log of a run: Ansible's own words, event by event, each with a number by which it can be linked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from api.clock import told
from api.run_views import RunEventEntry
from api.tables import Run, RunEvent

SHOWN = 500
"""Lines on one page of the log."""
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
BAD = ("runner_on_failed", "runner_on_unreachable", "runner_item_on_failed", "error")


@dataclass(frozen=True)
class Line:
    """What one event said."""

    number: int
    at: str | None
    station: str | None
    text: str
    bad: bool


def line_of(event: RunEventEntry) -> Line | None:
    """Return what an event says, None if it is nothing to read."""
    text = COLOUR.sub("", str(event.data.get("text") or "")).strip("\r\n")
    if not text.strip():
        return None
    return Line(event.number, event.at, event.station, text, event.kind in BAD)


def lines_of(events: Iterable[RunEventEntry]) -> list[Line]:
    """Return what events say."""
    return [line for line in map(line_of, events) if line is not None]


def search(manager: Any, identity: str, text: str, station: str, after: int) -> dict[str, Any]:
    """Return a page of the log.

    Args:
        manager: whose run.
        identity: the run.
        text: to be in a line, whatever its case; empty for all lines.
        station: of which the lines are; empty for all.
        after: the number behind which the page begins.

    Returns:
        `lines`, and `next`, where the next page begins, None at the end.
    """
    found: list[Line] = []
    with manager.database.reading() as session:
        run = session.get(Run, identity)
        source = (run.folded_into or run.id) if run is not None else identity
        asked = select(RunEvent).where(RunEvent.run == source, RunEvent.number > after).order_by(RunEvent.number)
        if station:
            asked = asked.where(RunEvent.station == station)
        for one in session.scalars(asked.execution_options(yield_per=500)):
            line = line_of(
                RunEventEntry(number=one.number, at=told(one.at), kind=one.kind, station=one.station, data=one.data)
            )
            if line is not None and text.casefold() in line.text.casefold():
                found.append(line)
            if len(found) > SHOWN:
                break
    return {"lines": found[:SHOWN], "next": found[SHOWN - 1].number if len(found) > SHOWN else None}
