"""The bus of several instances: a stream of RabbitMQ is the log of all, in one order for everybody.

What is sent goes to a fanout exchange to which the stream is bound: instances of the original on the same broker get
it too, and we get theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelLockedResource

from station.visuals import amqp_format
from station.visuals.amqp_link import LOST, Cluster, Node, alive, ensure_stream, guarded, offset_of, tail, words
from station.visuals.amqp_values import Values
from station.visuals.bus import Entry, Full
from station.visuals.remote import Remote
from station.visuals.store import State
from station.visuals.waiting import Item

log = logging.getLogger(__name__)
EXCHANGE = "amq.fanout"
STREAM = "stationmaster.visuals"
RETRY = 1.0
"""Seconds between two attempts to connect, or to get a lock."""
LOOK = 0.5
"""Seconds between two looks whether a consumer is still one."""
PREFETCH = 1000
ACKNOWLEDGE = 200
"""Deliveries that are acknowledged together while more are there."""
WINDOW = 256
"""Messages in flight."""
SETUP_TIMEOUT = 15.0
"""Seconds for the steps before the first message; a connection on which one gets no answer is given up."""
CONFIRM_TIMEOUT = 30.0
"""Seconds without any confirmation after which the connection is made anew and all is sent again."""
BACK = 3600.0
"""Seconds before the last known entry at which a log that was cut short is read again; covers clocks that differ."""
REPEAT_LOOK = 30.0
JITTER_MISSING, JITTER_OLD = 2.0, 60.0
"""Seconds at most that an instance waits before it repeats values: what another repeats meanwhile it need not."""


@dataclass(slots=True)
class Position:
    """How far a reader is: offset and mark of the last entry, and when (seconds since 1970) it came."""

    offset: int | None
    mark: str | None
    at: float = 0.0

    def start(self) -> int | str | datetime:
        """Return where to read from: the known entry itself, so that it can be compared."""
        if self.offset is not None:
            return self.offset
        return datetime.fromtimestamp(max(0.0, min(self.at, time.time()) - BACK), UTC) if self.at else "first"


class _Lost(Exception):
    """The log is not the one whose entry we know."""


class Broker(Remote):
    """The bus over RabbitMQ. Any number may `run`; the first is the instance's own."""

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        exchange: str = EXCHANGE,
        stream: str = STREAM,
        state: State | None = None,
        keep_values: bool = True,
    ) -> None:
        """Connect nowhere yet.

        Args:
            nodes: of one cluster.
            exchange: to which messages are sent; a fanout.
            stream: name of the log.
            state: what the store had at start.
            keep_values: repeat last values that the log loses, so that new instances have them too.

        Raises:
            ValueError: no node, or a certificate that is none.
        """
        super().__init__()
        self._cluster = Cluster(nodes)
        self._exchange, self._stream = exchange, stream
        self._state = state or State()
        self._values = Values(self._state.values) if keep_values else None
        self._lost = asyncio.Event()
        self._at_end = False

    async def run(self, after: int | None, deliver: Callable[[Entry], Awaitable[None]]) -> None:
        """See Bus; after a loss of the log, what it has is delivered again: dedupe by message-id."""
        first, self._began = not self._began, True
        known = self._state.last_id if after is not None and after == self._state.offset else None
        position = Position(after, known, self._state.at if known else 0.0)
        repeating = asyncio.create_task(self._repeat()) if first and self._values else None
        try:
            while True:
                try:
                    await guarded(self._read(position, deliver, first))
                except _Lost:
                    log.warning("the log of the broker was lost or cut short; it is read again")
                    position.offset = position.mark = None
                    if first and self._values:
                        self._values.lost()
                        self._lost.set()
                    self._at_end = self._at_end and not first
                    continue
                except LOST as error:
                    self._say("reading", error)
                finally:
                    self._connected = self._connected and not first
                await asyncio.sleep(RETRY)
        finally:
            if repeating is not None:
                repeating.cancel()

    async def _read(self, position: Position, deliver: Callable[[Entry], Awaitable[None]], first: bool) -> None:
        async with self._cluster.connection() as connection:
            inbox: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

            async def put(delivery: DeliveredMessage) -> None:
                inbox.put_nowait(delivery)

            async with asyncio.timeout(SETUP_TIMEOUT):
                made = await ensure_stream(connection, self._stream, self._exchange)
                goal = None if made else await tail(connection, self._stream)
                if position.offset is not None and (goal is None or goal < position.offset):
                    raise _Lost
                channel = await connection.channel(publisher_confirms=False)
                await channel.basic_qos(prefetch_count=PREFETCH)
                answer = await channel.basic_consume(self._stream, put, arguments={"x-stream-offset": position.start()})
            self._connected = self._connected or first
            compare = position.offset is not None
            unacknowledged = 0
            while True:
                if first and (goal is None or (position.offset is not None and position.offset >= goal)):
                    self._at_end = self._caught_up = True
                delivery = await _next(inbox, channel, str(answer.consumer_tag))
                entry = amqp_format.entry(delivery)
                offset = offset_of(delivery)
                known = compare and offset == position.offset
                compare = False
                if known and entry is not None and position.mark not in (None, entry.mark):
                    raise _Lost
                if entry is not None and not known:
                    position.at = time.time()
                    if first and self._values:
                        entry = self._values.seen(entry, position.at)
                    await deliver(entry)
                position.offset, position.mark = offset, entry.mark if entry else None
                unacknowledged += 1
                if unacknowledged >= ACKNOWLEDGE or inbox.empty():
                    await channel.basic_ack(delivery.delivery_tag or 0, multiple=True, wait=False)
                    unacknowledged = 0

    async def _send(self) -> None:
        while True:
            await self._waiting.filled()
            try:
                await guarded(self._send_all())
            except LOST as error:
                self._say("sending", error)
                await asyncio.sleep(RETRY)

    def _say(self, what: str, error: BaseException) -> None:
        if not self._cluster.away:  # else that was said
            log.warning("%s over the broker was interrupted: %s", what, words(error))

    async def _send_all(self) -> None:
        async with self._cluster.connection() as connection:
            async with asyncio.timeout(SETUP_TIMEOUT):
                await ensure_stream(connection, self._stream, self._exchange)
                channel = await connection.channel(publisher_confirms=True)
            while True:
                await self._waiting.filled()
                items = self._waiting.take(WINDOW)
                tasks = [asyncio.ensure_future(self._send_one(channel, item)) for item in items]
                try:
                    waiting = set(tasks)
                    while waiting:
                        done, waiting = await asyncio.wait(
                            waiting, timeout=CONFIRM_TIMEOUT, return_when=asyncio.FIRST_EXCEPTION
                        )
                        if not done or any(task.cancelled() or task.exception() for task in done):
                            raise ConnectionError("a message was not confirmed")
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    self._waiting.back([item for item in items if not item.confirmed])

    async def _send_one(self, channel: AbstractChannel, item: Item) -> None:
        # A repetition is for the log only: the original would show it.
        exchange, key = ("", self._stream) if item.refresh else (self._exchange, "")
        await channel.basic_publish(
            item.message.body,
            exchange=exchange,
            routing_key=key,
            properties=amqp_format.properties(item.message, item.refresh),
            mandatory=True,
        )
        self._waiting.confirmed(item)

    async def _repeat(self) -> None:
        """Send last values again that the log lacks, or will lack before long."""
        values = self._values
        if values is None:
            return
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_LOOK):
                    await self._lost.wait()
            if not self._at_end:
                await asyncio.sleep(LOOK)
                continue
            self._lost.clear()
            if not values.due(time.time()):
                continue
            await asyncio.sleep(random.uniform(0, JITTER_MISSING if values.missing() else JITTER_OLD))  # noqa: S311
            for message in values.due(time.time()):
                with contextlib.suppress(Full):
                    self.publish(message, refresh=True)
                    values.repeated(message, time.time())

    async def lock(self, name: str) -> AsyncGenerator[bool, None]:
        """See Bus: an exclusive queue, which the broker removes with the connection of the one who made it."""
        while True:
            held = False
            with contextlib.suppress(*LOST):
                async with self._cluster.connection() as connection:
                    channel = await guarded(_exclusive(connection, f"{self._stream}.lock.{name}"))
                    held = True
                    yield True
                    while not channel.is_closed:
                        await asyncio.sleep(LOOK)
            if held:
                yield False
            await asyncio.sleep(RETRY)


async def _next(inbox: asyncio.Queue[DeliveredMessage], channel: AbstractChannel, consumer: str) -> DeliveredMessage:
    """Return the next delivery. Raises ConnectionError when there will be none."""
    while inbox.empty():
        if not alive(channel, consumer):
            raise ConnectionError("the broker ended the reading")
        # asyncio.wait_for of Python 3.11 may swallow a cancellation; asyncio.timeout does not.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                return await inbox.get()
    return inbox.get_nowait()


async def _exclusive(connection: AbstractConnection, queue: str) -> AbstractChannel:
    """Try until the queue is ours alone; it goes with the connection."""
    while True:
        try:
            async with asyncio.timeout(SETUP_TIMEOUT):
                channel = await connection.channel(publisher_confirms=False)
                await channel.queue_declare(queue, exclusive=True)
            return channel
        except ChannelLockedResource:
            await asyncio.sleep(RETRY)
