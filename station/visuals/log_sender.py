"""Brings the message log to the manager: all of it, in order, as soon as the manager takes it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Protocol

from station.manager_link import Away, LinkError, ManagerLink, Refused, pause
from station.visuals.directory_legacy import Absent, Legacy
from station.visuals.message_log import Logged, MessageLog

log = logging.getLogger(__name__)
BATCH = 500
"""Messages that the manager takes at once."""
BYTES = 512 << 10
"""Bytes of bodies and headers in one batch, unless one message alone has more."""
LOOK = 1.0
"""Seconds between two looks for new messages."""


class Taker(Protocol):
    """Somebody who keeps messages."""

    async def take(self, messages: list[Logged]) -> None:
        """Take messages, of which it may know some already.

        Raises:
            LinkError: none of them was taken.
        """


class ManagerTaker:
    """Our manager, which knows a message that it has by topic and message-id."""

    def __init__(self, link: ManagerLink, source: str) -> None:
        """`source` is our `station/instance`."""
        self._link = link
        self._source = source

    async def take(self, messages: list[Logged]) -> None:
        """See Taker."""
        rows = [
            {
                "topic": message.topic,
                "body": message.body.decode("utf-8", "replace"),
                "headers": message.headers,
                "when": message.at,
                "source": self._source,
            }
            for message in messages
        ]
        await self._link.post("/v1/visuals/log", {"messages": rows})


class LegacyTaker:
    """The original's manager, which would keep a message twice: only the active watchdog hands them in."""

    def __init__(self, api: Legacy) -> None:
        self._api = api

    async def take(self, messages: list[Logged]) -> None:
        """See Taker; it gets one message at a time."""
        for message in messages:
            try:
                text = message.body.decode("utf-8", "replace")
                await self._api.add_log(message.topic, text, message.headers, message.at)
            except Absent as error:
                raise Away(str(error)) from None


class LogSender:
    """Sends what the log has and nobody took."""

    def __init__(
        self,
        memory: MessageLog,
        taker: Taker,
        *,
        batch: int = BATCH,
        mine: Callable[[], bool] = lambda: True,
        overlap: float = 0.0,
    ) -> None:
        """Take what to send from and to.

        Args:
            memory: the log.
            taker: who takes.
            batch: messages at once.
            mine: whether it is on us to send; if not, somebody else does.
            overlap: seconds of messages that are kept while somebody else sends, for when we take over.
        """
        self._memory = memory
        self._taker = taker
        self._batch = batch
        self._mine = mine
        self._overlap = overlap

    async def run(self) -> None:
        """Send until cancelled; what fails is tried again."""
        failures, told = 0, ""
        while True:
            try:
                if not self._mine():
                    await asyncio.to_thread(self._memory.presume_taken, time.time() - self._overlap)
                    await asyncio.sleep(LOOK)
                    continue
                rows = _bounded(await asyncio.to_thread(self._memory.waiting, self._batch))
                if not rows:
                    await asyncio.sleep(LOOK)
                    continue
                await self._send(rows)
                failures, told = 0, ""
            except LinkError as error:
                if str(error) != told:
                    log.warning("the message log waits for the manager: %s", error)
                    told = str(error)
                await asyncio.sleep(pause(failures, error))
                failures += 1
            except sqlite3.Error as error:
                if str(error) != told:
                    log.error("the message log cannot be sent: %s", error)
                    told = str(error)
                await asyncio.sleep(pause(3, Away()))

    async def _send(self, rows: list[Logged]) -> None:
        try:
            await self._taker.take(rows)
        except Refused as error:
            # Of what it cannot take one message is to blame; a token that is wrong is no message's fault.
            if error.status not in (400, 413, 422):
                raise
            if len(rows) > 1:
                middle = len(rows) // 2
                await self._send(rows[:middle])
                await self._send(rows[middle:])
                return
            log.warning("the manager does not take message %s of %s: %s", rows[0].id, rows[0].topic, error)
        await asyncio.to_thread(self._memory.taken, [row.number for row in rows])


def _bounded(rows: list[Logged]) -> list[Logged]:
    size = 0
    for number, row in enumerate(rows):
        size += len(row.body) + sum(len(key) + len(value) for key, value in row.headers.items())
        if number and size > BYTES:
            return rows[:number]
    return rows
