"""A run as it goes on: its head, a row for each station and the end of its log, first as a page, then as changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from api import run_stream
from api.pages import render, run_log, run_plan
from api.pages.changes import ALIVE, LIFE, event
from api.problems import not_found
from api.run_views import RunDetail, RunEventEntry, detail
from api.tables import Run
from stationmaster.follow import Progress

RECENT = 200
"""Events at the end of the log that the page of a run begins with."""
LOOK = 0.5
"""Seconds between two looks for events."""
May = Callable[[list[str]], bool]
"""Tells whether who looks may change stations."""


def _read(manager: Any, identity: str) -> RunDetail:
    with manager.database.reading() as session:
        run = session.get(Run, identity)
        if run is None:
            raise not_found("run", identity)
        return detail(run)


class Stations:
    """How far each station is, from the run's events and at its end from its result."""

    def __init__(self, names: list[str]) -> None:
        self._all = {name: Progress() for name in names}

    def see(self, events: list[RunEventEntry]) -> None:
        """Take events into account."""
        for one in events:
            if one.station in self._all:
                self._all[one.station].see(one.kind, one.data)

    def rows(self, run: RunDetail) -> list[dict[str, Any]]:
        """Return what the row of each station shows."""
        found = []
        for name, progress in self._all.items():
            result = run.results.get(name)
            if result is not None:
                progress.end(result.model_dump())
            row = {"name": name, "progress": progress, "result": result, "unproven": run.unproven.get(name)}
            found.append(row)
        return found


def _head(manager: Any, run: RunDetail, may: May) -> dict[str, Any]:
    """Return what the head of the page shows."""
    dry = bool(run.parameters.get("dry_run"))
    shown = run_plan.shown_by(manager, run) if dry and run.ended else None
    return {
        "run": run,
        "dry": dry,
        "may_change": may(run.stations),
        "again": any(one.state in ("failed", "unreachable") for one in run.results.values()),
        "shown": shown,
        "outdated": run_plan.outdated(manager, run) if dry and run.ended else "",
    }


async def now(manager: Any, identity: str, may: May) -> dict[str, Any]:
    """Return what the page of a run shows as it is now."""

    def look() -> dict[str, Any]:
        run = _read(manager, identity)
        stations, after = Stations(run.stations), 0
        lines: list[run_log.Line] = []
        while True:
            page = run_stream.read(manager, identity, after)
            stations.see(page.events)
            lines += run_log.lines_of(page.events)
            lines = lines[-RECENT:]
            if not page.events:
                break
            after = page.last
        run = _read(manager, identity)
        return {**_head(manager, run, may), "rows": stations.rows(run), "lines": lines, "last": after}

    return await run_in_threadpool(look)


async def stream(manager: Any, identity: str, after: int, may: May, word: str) -> AsyncIterator[str]:
    """Yield server-sent events with the parts of the page that changed, numbered as the run's events.

    Args:
        manager: whose run.
        identity: the run.
        after: number of the last event that the page has.
        may: whether who looks may change stations.
        word: of the session, for the forms.
    """
    run = await run_in_threadpool(_read, manager, identity)
    stations, told = Stations(run.stations), dict[str, str]()
    begun = silent = time.monotonic()
    known = 0
    while known < after:  # how far each station is, is in what the page has already
        page = await run_in_threadpool(run_stream.read, manager, identity, known)
        stations.see([one for one in page.events if one.number <= after])
        if not page.events:
            break
        known = page.last
    yield "retry: 1000\n\n"
    while not manager.ending.is_set() and time.monotonic() - begun < LIFE:
        page = await run_in_threadpool(run_stream.read, manager, identity, after)
        run = await run_in_threadpool(_read, manager, identity)
        stations.see(page.events)
        parts = await run_in_threadpool(_parts, manager, run, stations, may, word)
        texts = [text for name, text in parts.items() if told.get(name) != text]
        told = parts
        if lines := run_log.lines_of(page.events):
            texts.append(render.fragment("run-lines", lines=lines, run=run, swap=True))
        after = page.last
        if texts or page.events:
            yield event("\n".join(texts), after)
            silent = time.monotonic()
        elif time.monotonic() - silent > ALIVE:
            yield "event: alive\ndata: yes\n\n"
            silent = time.monotonic()
        if page.total is not None and after >= page.total and run.ended:
            yield "event: done\ndata: yes\n\n"
            return
        if len(page.events) < run_stream.PAGE:
            await asyncio.sleep(LOOK)


def _parts(manager: Any, run: RunDetail, stations: Stations, may: May, word: str) -> dict[str, str]:
    """Return the head and the rows of a run, by name."""
    dry = bool(run.parameters.get("dry_run"))
    rows = {row["name"]: render.fragment("run-row", row=row, dry=dry, swap=True) for row in stations.rows(run)}
    return {"": render.fragment("run-head", **_head(manager, run, may), word=word, swap=True), **rows}
