"""Connections to the nodes of a RabbitMQ cluster, and the stream that is the log of all instances.

Measured with RabbitMQ 3.10: a stream wants a prefetch and acknowledgements; a consumer that asks for an offset
beyond the end silently gets nothing until the log has grown that far; the count of a passive declaration is 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity
from yarl import URL

from station.config import Config, ConfigError, typed
from station.visuals.tls import trusting

log = logging.getLogger(__name__)
# It reports each loss several times over, and we say it ourselves.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
Result = TypeVar("Result")

LOST = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What aiormq raises when a connection is lost or was not made."""
HEARTBEAT = 5
"""Seconds, after which either side may find the other gone."""
CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 2.0
MAX_AGE = "24h"
MAX_BYTES = 256 << 20
SEGMENT_BYTES = 16 << 20
"""Retention removes whole segments only, so they must be much smaller than the log."""
TAIL_QUIET = 0.2
"""Seconds without a delivery after which the last chunk of the log has been read: it comes in one go."""
TAIL_EMPTY = 1.0
"""Seconds without any delivery after which a log is empty."""
TAIL_MESSAGES = 5000


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster; a `certificate` (see tls.trusting) means TLS."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = "/"
    certificate: str | None = None


def nodes(config: Config, references: Sequence[str]) -> list[Node]:
    """Return the nodes behind the `station/instance` names of brokers.

    Raises:
        ConfigError: one of them is unknown.
    """
    found = []
    for name in references:
        source = config.sources.get(f"{name}:broker") or config.sources.get(name)
        if source is None:
            raise ConfigError("options.brokers", f"names {name!r}, which is not among `sources`")
        prefix = f"sources.{name}.options."
        secure = isinstance(source.options.get("tls"), dict)
        found.append(
            Node(
                host=source.address or "127.0.0.1",
                port=typed(source.options, "tls.port" if secure else "port", int, 5671 if secure else 5672),
                user=typed(source.options, "user", str, "stationmaster"),
                password=typed(source.options, "password", str, prefix=prefix),
                certificate=typed(source.options, "tls.certificate", str, prefix=prefix) if secure else None,
            )
        )
    return found


async def guarded(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work on a connection: aiormq cancels its callers when a connection is lost, here that is an error.

    Raises:
        ConnectionError: the work was cancelled, but not by our own caller.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():  # once may be too little: a library may swallow it
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
    if task.cancelled():
        raise ConnectionError("the connection was lost")
    return task.result()


class Cluster:
    """The nodes, of which each connection takes the first that answers, beginning with the last that did."""

    def __init__(self, members: Sequence[Node]) -> None:
        """Raises ValueError: no node, or a certificate that is none."""
        if not members:
            raise ValueError("needed is one node at least")
        self._nodes = [(node, trusting(node.certificate) if node.certificate else None) for node in members]
        self._turn = 0
        self.away = False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AbstractConnection]:
        """Connect and close. Raises one of LOST when no node answers."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            with contextlib.suppress(*LOST):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await guarded(_close(connection))

    async def _connect(self) -> AbstractConnection:
        failure: BaseException = ConnectionError("no node")
        for _ in self._nodes:
            node, context = self._nodes[self._turn % len(self._nodes)]
            url = URL.build(
                scheme="amqps" if context else "amqp",
                user=node.user,
                password=node.password,
                host=node.host,
                port=node.port,
                path="/" if node.vhost == "/" else f"/{node.vhost}",
                query={"heartbeat": str(HEARTBEAT)},
            )
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    connection = await guarded(aiormq.connect(url, context=context))
            except LOST as error:
                failure = error
                self._turn += 1
                if not self.away:
                    log.warning("the broker %s:%d cannot be reached: %s", node.host, node.port, words(error))
                continue
            if self.away:
                log.info("the broker %s:%d is reached again", node.host, node.port)
            self.away = False
            return connection
        self.away = True
        raise failure


def words(error: BaseException) -> str:
    """Say what is wrong; no text of an AMQP error holds a password."""
    return " ".join(str(error).split()) or type(error).__name__


async def _close(connection: AbstractConnection) -> None:
    await connection.close()


async def ensure_stream(connection: AbstractConnection, stream: str, exchange: str) -> bool:
    """Make the stream unless it is there, bound to the exchange; return whether it was made."""
    made = False
    channel = await connection.channel(publisher_confirms=False)
    try:
        await channel.exchange_declare(exchange, passive=True)
    except ChannelNotFoundEntity:
        channel = await connection.channel(publisher_confirms=False)
        await channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
    try:
        # Passive first: an operator may have given it other limits, and a declaration must agree with them.
        await channel.queue_declare(stream, passive=True)
    except ChannelNotFoundEntity:
        channel = await connection.channel(publisher_confirms=False)
        arguments: dict[str, Any] = {
            "x-queue-type": "stream",
            "x-max-age": MAX_AGE,
            "x-max-length-bytes": MAX_BYTES,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }
        await channel.queue_declare(stream, durable=True, arguments=arguments)
        made = True
    await channel.queue_bind(stream, exchange)
    await channel.close()
    return made


async def tail(connection: AbstractConnection, stream: str) -> int | None:
    """Return the offset of the newest entry of a stream, None of an empty one."""
    newest: int | None = None
    came = asyncio.Event()

    async def look(message: DeliveredMessage) -> None:
        nonlocal newest
        newest = max(newest or 0, offset_of(message))
        came.set()

    channel = await connection.channel(publisher_confirms=False)
    await channel.basic_qos(prefetch_count=TAIL_MESSAGES)
    await channel.basic_consume(stream, look, arguments={"x-stream-offset": "last"})
    try:
        while True:
            async with asyncio.timeout(TAIL_EMPTY if newest is None else TAIL_QUIET):
                await came.wait()
            came.clear()
    except TimeoutError:
        pass
    await channel.close()
    return newest


def offset_of(message: DeliveredMessage) -> int:
    """Return the place of a delivery in its stream."""
    headers: dict[str, Any] = message.header.properties.headers or {}
    return int(headers["x-stream-offset"])


def alive(channel: AbstractChannel, consumer: str) -> bool:
    """Return whether a consumer still is one: the broker cancels it when the stream goes away."""
    return not channel.is_closed and consumer in getattr(channel, "consumers", {consumer})
