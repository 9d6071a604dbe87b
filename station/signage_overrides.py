"""Words of the crew on a room's signs, for a time: from the manager, kept on disk so that they end without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from station import files, utc
from station.signage_plan import web_link
from station.signage_words import clean

log = logging.getLogger(__name__)
LONGEST = 500
"""Characters of an override's text, as the manager takes them."""
MOST = 1000
"""Overrides that are looked at: one for each room of an event."""
RETRY = 5.0
"""Seconds until a failed acknowledgement is sent again."""


@dataclass(frozen=True, slots=True)
class Override:
    """A message of the crew for a room, until a time in seconds since 1970."""

    id: str
    room: str
    text: str
    until: float
    link: str = ""


class Manager(Protocol):
    """What is needed of the link to the manager; see station.manager_link."""

    def directory(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the directory whenever it changes, for ever."""

    async def post(self, path: str, value: Mapping[str, Any]) -> Any:
        """Send a JSON object; raises an exception with `status` where it is refused."""


class Overrides:
    """All overrides that are known, newest word of the manager first, else what is on disk."""

    def __init__(self, path: Path, source: str, manager: Manager | None, wake: Callable[[], None]) -> None:
        """Read what was kept.

        Args:
            path: the file to keep them in.
            source: `station/instance`, told to the manager.
            manager: where they come from; None: there are none but those on disk.
            wake: called when they changed.
        """
        self._path = path
        self._source = source
        self._manager = manager
        self._wake = wake
        self._by_room = _by_room(_kept(path))
        self._telling: dict[str, asyncio.Task[None]] = {}

    def active(self, room: str, now: float) -> Override | None:
        """Return what is to be shown in a room at a time."""
        found = self._by_room.get(room)
        return found if found is not None and now < found.until else None

    async def run(self) -> None:
        """Follow the manager until cancelled."""
        if self._manager is None:
            return
        try:
            async for directory in self._manager.directory():
                rows = directory.get("overrides")
                await self._take(_by_room(rows if isinstance(rows, list) else []))
        finally:
            for task in self._telling.values():
                task.cancel()

    async def _take(self, found: dict[str, Override]) -> None:
        if found == self._by_room:
            return
        self._by_room = found
        self._wake()
        try:
            await asyncio.to_thread(files.write_json, self._path, [asdict(one) for one in found.values()], durable=True)
        except OSError as error:
            log.warning("overrides are not kept over a restart: %s", error)

    def shown(self, override: Override) -> None:
        """Tell the manager that an override is on the signs: once, and again until it has heard."""
        if self._manager is not None and override.id not in self._telling:
            for done in [key for key, task in self._telling.items() if task.done()]:
                if all(one.id != done for one in self._by_room.values()):
                    del self._telling[done]
            self._telling[override.id] = asyncio.create_task(self._tell(override))

    async def _tell(self, override: Override) -> None:
        assert self._manager is not None  # noqa: S101 - `shown` asked
        told = False
        while self._by_room.get(override.room) == override:
            try:
                await self._manager.post(f"/v1/visuals/overrides/{override.id}/shown", {"source": self._source})
                return
            except Exception as error:  # the link's own, and whatever a foreign answer causes
                if 400 <= getattr(error, "status", 0) < 500:
                    log.info("the manager does not want to know that %s shows an override: %s", override.room, error)
                    return
                if not told:
                    log.warning("the manager cannot be told that %s shows an override: %s", override.room, error)
                told = True
            await asyncio.sleep(RETRY)


def _kept(path: Path) -> list[Any]:
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text("utf-8"))
        if isinstance(value, list):
            return value
    return []


def _by_room(rows: list[Any]) -> dict[str, Override]:
    found: dict[str, Override] = {}
    for row in rows[:MOST]:
        one = _override(row)
        if one is not None:
            found[one.room] = one
    return found


def _override(row: Any) -> Override | None:
    try:
        until = utc.from_text(row["until"]) if isinstance(row["until"], str) else float(row["until"])
        text = clean(str(row["text"]))[:LONGEST]
        name, room = str(row["id"]), str(row["room"])
        fits = text and len(name) <= 200 and all(one.isalnum() or one in "-_." for one in name)
        return Override(name, room, text, until, web_link(row.get("link"))) if fits else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
