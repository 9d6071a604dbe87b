"""Monitoring events of the original server, to an exchange of a RabbitMQ: who came and went, and what was sent.

JSON objects `{type: "log", label, timestamp, server, metadata}` with the labels of `LABELS`. Nothing here ever
holds up a subscriber: events wait in a bounded buffer while the broker is away, and the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from station.config import ConfigError

log = logging.getLogger(__name__)

LABELS = ("servers", "connections", "disconnections", "subscriptions", "unsubscriptions", "messages")
"""What follows `radiovis.global.` in an event's label, as in the original."""
PAUSE = 30.0
"""Seconds between two tries to reach the broker, as in the original."""
WAITING = 10_000
"""Events that wait at most; the original's buffer had no bound, and took the memory while the broker was away."""
BODY = 200
"""Characters of a message's body that an event tells; a text has 128 at most, an address may be long."""
_BATCH = 100
_TIMEOUT = 10.0
_LOST = (AMQPError, OSError, asyncio.TimeoutError, RuntimeError)
"""What a lost connection looks like; aiormq raises RuntimeError for a channel that closes while it is used."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the events go; the defaults are those of the original's `MONITORING_…` variables."""

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    exchange: str = "monitoring.buffer"
    queue: str = "radiovis"
    server: tuple[str, ...] = ("rabbit@radiodnsrabbitmq",)
    tls: ssl.SSLContext | None = None


class Events:
    """The events of one process.

    Args:
        target: the broker; None switches events off.
        pause: seconds between two tries.
        waiting: how many events wait at most.
    """

    def __init__(self, target: Target | None, *, pause: float = PAUSE, waiting: int = WAITING) -> None:
        self._target = target
        self._pause = pause
        self._limit = waiting
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.sent = 0
        self.dropped = 0

    def note(self, label: str, metadata: Mapping[str, Any]) -> None:
        """Note that something happened (a Listener of the service); it is sent by `run`. Never waits.

        Args:
            label: one of LABELS.
            metadata: what is known of it: `session_id`, `ip` (with the port), `topic`, `body`. Never a passcode.
        """
        if self._target is None:
            return
        told = {key: shortened(str(value)) if key == "body" else value for key, value in metadata.items()}
        event = {
            "type": "log",
            "label": f"radiovis.global.{label}",
            "timestamp": int(time.time()),
            "server": list(self._target.server),
            "metadata": told,
        }
        self._waiting.append(json.dumps(event).encode())
        self._trim()
        self._wake.set()

    def _trim(self) -> None:
        while len(self._waiting) > self._limit:
            self._waiting.popleft()
            self.dropped += 1

    async def run(self) -> None:
        """Send what is noted until cancelled; tries again after a pause, for ever. Returns at once if switched off."""
        if self._target is None:
            return
        told = ""
        while True:
            try:
                await self._send_all(self._target)
            except _LOST as error:
                text = str(error) or type(error).__name__
                if text != told:
                    log.warning("monitoring events wait for %s:%d: %s", self._target.host, self._target.port, text)
                told = text
            await asyncio.sleep(self._pause)

    async def _send_all(self, target: Target) -> None:
        connection = await aio_pika.connect(
            host=target.host,
            port=target.port,
            login=target.user,
            password=target.password,
            virtualhost=target.vhost,
            ssl=target.tls is not None,
            ssl_context=target.tls,
            timeout=_TIMEOUT,
        )
        async with connection:
            exchange = await _declared(await connection.channel(), target)
            log.info("monitoring events go to %s:%d", target.host, target.port)
            while not connection.is_closed:
                if not self._waiting:
                    self._wake.clear()
                    # a connection that ends while there is nothing to send is noticed at the next event
                    await self._wake.wait()
                await self._send_some(exchange)
        raise ConnectionError("the connection was closed")

    async def _send_some(self, exchange: AbstractExchange) -> None:
        some = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        try:
            messages = [aio_pika.Message(body, content_type="application/json") for body in some]
            sending = [exchange.publish(one, routing_key="", mandatory=False) for one in messages]
            await asyncio.wait_for(asyncio.gather(*sending), _TIMEOUT)
        except BaseException:
            # some of them may have arrived: an event told twice is better than one that is missing
            self._waiting.extendleft(reversed(some))
            self._trim()
            raise
        self.sent += len(some)


async def _declared(channel: AbstractChannel, target: Target) -> AbstractExchange:
    """Return the exchange, made with its queue where they are missing. What is there is used as it is."""
    try:
        exchange = await channel.get_exchange(target.exchange)
        queue = await channel.get_queue(target.queue)
    except ChannelNotFoundEntity:
        await channel.reopen()
        exchange = await channel.declare_exchange(target.exchange, aio_pika.ExchangeType.FANOUT, durable=True)
        queue = await channel.declare_queue(target.queue, durable=True)
    await queue.bind(exchange)
    return exchange


def shortened(body: str) -> str:
    """Return the beginning of a body, with an ellipsis where something is missing."""
    return body if len(body) <= BODY else body[: BODY - 1] + "…"


def make_target(options: Mapping[str, Any], tls: ssl.SSLContext | None = None) -> Target:
    """Return where events go by the option `events`: its keys are those of `Target`, `server` is a list.

    Raises:
        ConfigError: an unknown key, or a value of another type than the default's.
    """
    told = dict(options)
    for key, value in told.items():
        default = getattr(Target(), key, None) if key in Target.__slots__ and key != "tls" else None
        if default is None:
            raise ConfigError(f"options.events.{key}", "is unknown; known are " + ", ".join(Target.__slots__[:-1]))
        if key == "server" and isinstance(value, list) and all(isinstance(name, str) for name in value):
            told[key] = tuple(value)
        elif not isinstance(value, type(default)):
            raise ConfigError(f"options.events.{key}", f"needed is a value of type {type(default).__name__}")
    return Target(**told, tls=tls)
