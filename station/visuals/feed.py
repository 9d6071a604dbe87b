"""The bus of fallback and signage where there is no broker: they feed on an instance of visuals that is alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from station.visuals.bus import Entry
from station.visuals.message import Message
from station.visuals.remote import Remote
from station.visuals.stomp_client import Connection, Frame, Place
from station.visuals.waiting import Item

log = logging.getLogger(__name__)
FEED, LOCK = "/feed", "/lock/"
RETRY, RETRY_LATEST = 1.0, 15.0
"""Seconds between two attempts to connect: doubled with each that failed, up to the second."""
WINDOW = 64
"""Messages in flight."""
CONFIRM_TIMEOUT = 30.0
QUIET = 0.3
"""Seconds without a message after which all that the log had was read."""
OWN = frozenset({"destination", "subscription", "offset", "refresh", "content-length", "content-type", "ack"})
"""Headers of a MESSAGE that are not the message's."""


class Feed(Remote):
    """The bus over STOMP. Any number may `run`; the first is the program's own."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Connect nowhere yet. Raises ValueError: no place."""
        super().__init__()
        if not places:
            raise ValueError("needed is one place at least")
        self._places = list(places)
        self._turn = 0
        self._away = False

    async def run(self, after: int | None, deliver: Callable[[Entry], Awaitable[None]]) -> None:
        """See Bus."""
        first, self._began = not self._began, True
        async for connection in self._connections():
            try:
                self._connected = self._connected or first
                headers = {"destination": FEED, "id": "feed", "ack": "auto"}
                connection.send(Frame("SUBSCRIBE", headers if after is None else headers | {"since": str(after)}))
                async for entry in _entries(connection):
                    if entry is not None:
                        await deliver(entry)
                        after = entry.offset
                    elif first:
                        self._caught_up = True
            except (OSError, TimeoutError) as error:
                log.warning("the feed of visuals was interrupted: %s", str(error) or "silence")
            finally:
                self._connected = self._connected and not first

    async def _send(self) -> None:
        await self._waiting.filled()
        async for connection in self._connections():
            with contextlib.suppress(OSError, TimeoutError):
                await self._send_all(connection)
            await self._waiting.filled()

    async def _send_all(self, connection: Connection) -> None:
        """Send all that waits, and end when the connection is idle too long to be trusted."""
        number = 0
        while True:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                await self._waiting.filled()
            flight: dict[str, Item] = {}
            for item in self._waiting.take(WINDOW):
                number += 1
                flight[str(number)] = item
            try:
                for receipt, item in flight.items():
                    headers = {"destination": item.message.topic, **item.message.headers, "receipt": receipt}
                    connection.send(
                        Frame("SEND", headers | ({"refresh": "1"} if item.refresh else {}), item.message.body)
                    )
                await connection.drain()
                async with asyncio.timeout(CONFIRM_TIMEOUT):
                    while flight:
                        frame = await connection.receive()
                        if frame.command == "ERROR":
                            raise ConnectionError(frame.headers.get("message", "error"))
                        confirmed = flight.pop(frame.headers.get("receipt-id", ""), None)
                        if frame.command == "RECEIPT" and confirmed is not None:
                            self._waiting.confirmed(confirmed)
            finally:
                self._waiting.back(list(flight.values()))

    async def lock(self, name: str) -> AsyncGenerator[bool, None]:
        """See Bus: the instance says when it is ours, and it is lost with the connection."""
        connections = self._connections()
        async with contextlib.aclosing(connections):
            async for connection in connections:
                held = False
                with contextlib.suppress(OSError, TimeoutError):
                    connection.send(Frame("SUBSCRIBE", {"destination": LOCK + name, "id": "lock", "ack": "auto"}))
                    while (frame := await connection.receive()).command != "ERROR":
                        if frame.command == "MESSAGE" and not held:
                            held = True
                            yield True
                if held:
                    yield False

    async def _connections(self) -> AsyncGenerator[Connection, None]:
        """Yield a connection whenever the last one was lost, for ever."""
        pause = RETRY
        while True:
            place = self._places[self._turn % len(self._places)]
            try:
                connection = await Connection.connect(place)
            except (OSError, TimeoutError) as error:
                if not self._away:
                    log.warning(
                        "visuals at %s:%d cannot be reached: %s", place.host, place.port, str(error) or "silence"
                    )
                self._away = True
                self._turn += 1
                # All of them are tried before there is a pause.
                if self._turn % len(self._places) == 0:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, RETRY_LATEST)
                continue
            if self._away:
                log.info("visuals at %s:%d is reached again", place.host, place.port)
            self._away, pause = False, RETRY
            try:
                yield connection
            finally:
                connection.drop()
            await asyncio.sleep(RETRY)


async def _entries(connection: Connection) -> AsyncIterator[Entry | None]:
    """Yield the entries of the feed, and None after a moment of silence. Raises OSError."""
    receiving: asyncio.Task[Frame] | None = None
    try:
        while True:
            receiving = receiving or asyncio.create_task(connection.receive())
            done, _ = await asyncio.wait({receiving}, timeout=QUIET)
            if not done:
                yield None
                await asyncio.wait({receiving})
            frame, receiving = receiving.result(), None
            if frame.command == "ERROR":
                raise ConnectionError(frame.headers.get("message", "error"))
            if frame.command == "MESSAGE":
                yield _entry(frame)
    finally:
        if receiving is not None:
            receiving.cancel()


def _entry(frame: Frame) -> Entry:
    """Raises ConnectionError for a message without what the feed promises."""
    headers = {key: value for key, value in frame.headers.items() if key not in OWN}
    headers.setdefault("when", "0")
    try:
        offset = int(frame.headers["offset"])
        message = Message(frame.headers["destination"], frame.body, {**headers, "message-id": headers["message-id"]})
    except (KeyError, ValueError) as error:
        raise ConnectionError(f"the feed lacks {error}") from error
    return Entry(offset, message, frame.headers.get("refresh") == "1")
