"""A run's events as they come: by long poll, which is the truth, and as a stream, which is comfort."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from api.clock import told
from api.problems import not_found
from api.run_states import ENDED
from api.run_views import RunEventEntry, RunEvents
from api.tables import Run, RunEvent

LOOK = 0.4
"""Seconds between two looks for new events; supervisors write three times a second."""
PAGE = 500
"""Events in one answer."""
ALIVE = 15.0
"""Seconds after which a stream without events says that it lives, for proxies that cut what is silent."""


def read(manager: Any, identity: str, after: int) -> RunEvents:
    """Return the events behind a number, a page at most; Problem 404 for an unknown run."""
    with manager.database.reading() as session:
        run = session.get(Run, identity)
        if run is None:
            raise not_found("run", identity)
        source = run if run.folded_into is None else session.get(Run, run.folded_into) or run
        asked = select(RunEvent).where(RunEvent.run == source.id, RunEvent.number > after)
        events = [
            RunEventEntry(number=one.number, at=told(one.at), kind=one.kind, station=one.station, data=one.data)
            for one in session.scalars(asked.order_by(RunEvent.number).limit(PAGE))
        ]
        last = events[-1].number if events else after
        total = source.events if source.state in ENDED else None
        return RunEvents(run=identity, state=run.state, events=events, last=last, total=total)


async def poll(manager: Any, identity: str, after: int, seconds: float) -> RunEvents:
    """Return the events behind a number as soon as there are some, the run has ended, or the seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        page = await run_in_threadpool(read, manager, identity, after)
        left = deadline - time.monotonic()
        if page.events or page.total is not None or left <= 0 or manager.ending.is_set():
            return page
        await asyncio.sleep(min(LOOK, left))


async def stream(manager: Any, identity: str, after: int) -> AsyncIterator[str]:
    """Yield server-sent events: each event of the run under its number, until the last or until the manager ends."""
    silent = time.monotonic()
    yield "retry: 2000\n\n"
    while not manager.ending.is_set():
        page = await poll(manager, identity, after, LOOK * 2)
        for event in page.events:
            data = json.dumps(event.model_dump(mode="json"))
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n"
            silent = time.monotonic()
        after = page.last
        if page.total is not None and after >= page.total:
            return
        if time.monotonic() - silent > ALIVE:
            yield ": alive\n\n"
            silent = time.monotonic()
