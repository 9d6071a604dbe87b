"""The bus of an instance without a broker: its log is a file of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from station.visuals import database
from station.visuals.bus import Entry
from station.visuals.message import Message
from station.visuals.waiting import Item, Waiting

log = logging.getLogger(__name__)
AGE = 86400.0
"""Seconds for which entries are kept; the last of each topic stays longer."""
COUNT = 100_000
"""Entries that are kept, besides the last of each topic."""
PRUNE = 600.0
"""Seconds between two looks for old entries."""
RECENT = 1024
"""Entries that readers get without asking the file."""
BATCH = 256
"""Entries that are committed or read together."""
RETRY = 1.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    offset INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, refresh INTEGER NOT NULL,
    topic TEXT NOT NULL, body BLOB NOT NULL, headers TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS log_topic ON log (topic, offset);
"""


class Alone:
    """A log in `log.sqlite`; what `publish` confirmed survives a power cut. Any number may `run`."""

    def __init__(self, folder: Path, *, age: float = AGE, count: int = COUNT) -> None:
        """Open the log in a folder that exists. `age` is in seconds. Raises sqlite3.Error."""
        self._database = database.connect(folder / "log.sqlite", SCHEMA, durable=True)
        self._age, self._count = age, count
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        # A log that is made anew begins above all offsets of the one that was lost, for readers know those.
        self._head: int = row[0] if row else int(time.time() * 1000)
        self._recent: deque[Entry] = deque(maxlen=RECENT)
        self._grown = asyncio.Event()
        self._waiting = Waiting()
        self._thread = ThreadPoolExecutor(1, "log")
        self._writer: asyncio.Task[None] | None = None
        self._pruned = 0.0
        self._began = self._caught_up = False
        self._working = True
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, after: int | None, deliver: Callable[[Entry], Awaitable[None]]) -> None:
        """See Bus; an offset above all that the log has is one of a lost log: then all is delivered."""
        first, self._began = not self._began, True
        goal = self._head
        at = 0 if after is None or after > goal else after
        while True:
            head = self._head
            entries = await self._after(at)
            for entry in entries:
                await deliver(entry)
            at = entries[-1].offset if entries else head
            if at >= goal:
                self._caught_up = self._caught_up or first
            grown = self._grown
            if self._head <= at:
                await grown.wait()

    def publish(self, message: Message, *, refresh: bool = False) -> asyncio.Future[None]:
        """See Bus; while the disk takes nothing, what was published waits."""
        done = self._waiting.add(message, refresh)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return done

    async def lock(self, name: str) -> AsyncGenerator[bool, None]:
        """See Bus; those who ask this process get it in turn."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            yield True
            await asyncio.get_running_loop().create_future()

    def connected(self) -> bool:
        """Return whether the disk took what was written last."""
        return self._working

    def caught_up(self) -> bool:
        """See Bus."""
        return self._caught_up

    async def close(self) -> None:
        """Close the file; what is being written is finished, what waits is given up."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _after(self, offset: int) -> list[Entry]:
        """Return the next entries, some hundred at most; without any there are none."""
        if self._head <= offset:
            return []
        if self._recent and self._recent[0].offset <= offset + 1:
            # Without gaps: each has the offset after the one before it.
            begin = offset + 1 - self._recent[0].offset
            return [self._recent[place] for place in range(begin, min(begin + BATCH, len(self._recent)))]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, offset)

    def _read(self, offset: int) -> list[Entry]:
        rows = self._database.execute(
            "SELECT offset, topic, body, headers, refresh FROM log WHERE offset > ? ORDER BY offset LIMIT ?",
            (offset, BATCH),
        )
        return [
            Entry(offset, Message(topic, bytes(body), json.loads(headers)), bool(refresh))
            for offset, topic, body, headers, refresh in rows
        ]

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._waiting.filled()
            items = self._waiting.take(BATCH)
            entries = [
                Entry(offset, item.message, item.refresh) for offset, item in enumerate(items, start=self._head + 1)
            ]
            try:
                await loop.run_in_executor(self._thread, self._commit, entries)
            except sqlite3.Error as error:
                if self._working:
                    log.error("cannot write the log: %s; it is tried again", error)
                self._working = False
                self._waiting.back(items)
                await asyncio.sleep(RETRY)
                continue
            self._committed(entries, items)

    def _committed(self, entries: list[Entry], items: list[Item]) -> None:
        self._working = True
        self._recent.extend(entries)
        self._head = entries[-1].offset
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        for item in items:
            self._waiting.confirmed(item)

    def _commit(self, entries: list[Entry]) -> None:
        now = time.time()
        rows = [
            (e.offset, now, e.refresh, e.message.topic, e.message.body, json.dumps(dict(e.message.headers)))
            for e in entries
        ]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        if time.monotonic() - self._pruned >= PRUNE:
            self._pruned = time.monotonic()
            self._prune(now - self._age, entries[-1].offset - self._count)

    def _prune(self, before: float, offset: int) -> None:
        """Remove entries that are old or too many; a failure harms nothing and is tried again."""
        with contextlib.suppress(sqlite3.Error):
            self._database.execute(
                "DELETE FROM log WHERE (at < ? OR offset <= ?)"
                " AND offset NOT IN (SELECT max(offset) FROM log GROUP BY topic)",
                (before, offset),
            )
