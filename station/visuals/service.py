"""One instance of visuals: the hub, the bus, the directory and who is connected; every door uses this."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from station.visuals import message as messages
from station.visuals import topics
from station.visuals.bus import Bus, Entry
from station.visuals.counters import Counters
from station.visuals.directory import Directory
from station.visuals.frames import Shapes
from station.visuals.hub import Hub, Subscription
from station.visuals.message import Message
from station.visuals.outbox import Flusher
from station.visuals.settings import Settings

log = logging.getLogger(__name__)
SUBSCRIPTIONS = 1000
"""Of one client, at most."""
OWN = frozenset(("destination", "receipt", "content-length", "content-type", "transaction", "refresh"))
"""Headers of a SEND of our own programs that concern the SEND itself; all others go on to the subscribers."""
INTERNAL = "stationmaster"
"""Login of the other programs of the event; its passcode is the option `token`."""


class NotAllowed(Exception):
    """Somebody may not do what was asked."""


class Refused(Exception):
    """A login that is refused; the text says why and is for the log only."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who logged in: a broadcaster's user (`station` is the broadcaster's id) or one of our own programs."""

    login: str
    station: str | None
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """What was published: its message-id, when it is confirmed, and whether it went to one topic only.

    A broadcast has the same message-id in all channels.
    """

    id: str
    done: asyncio.Future[None]
    single: bool = True


class Connection(Protocol):
    """A client of any kind. `session_id` is told in events, `address` and `port` are the peer's."""

    session_id: str
    address: str
    port: int

    def stop(self) -> None:
        """Close it soon: the instance ends."""


Listener = Callable[[str, Mapping[str, Any]], None]


class Service:
    """The parts of an instance, and what clients may do.

    `listeners` are called with a label (`connections`, `disconnections`, `subscriptions`, `unsubscriptions`,
    `messages`, `servers`) and metadata (`session_id`, `ip`, `topic`, `body`); they must not block.
    """

    def __init__(self, settings: Settings, bus: Bus, directory: Directory) -> None:
        self.settings = settings
        self.bus = bus
        self.directory = directory
        self.counters = Counters()
        self.flusher = Flusher(settings.limits)
        self.hub = Hub(self.flusher.pace)
        self.shapes = Shapes()
        self.connections: set[Connection] = set()
        self.listeners: list[Listener] = []
        self._addresses: Counter[str] = Counter()
        self._token = (settings.token or "").encode()

    def tell(self, label: str, **metadata: Any) -> None:
        """Tell the listeners of an event; one that fails is logged and asked again at the next."""
        for listener in self.listeners:
            try:
                listener(label, metadata)
            except Exception:
                log.exception("a listener of events failed")

    def admit(self, connection: Connection) -> str | None:
        """Count a new connection, or return why there is no place for it."""
        if len(self.connections) >= self.settings.total:
            reason = "total"
        elif self._addresses[connection.address] >= self.settings.per_address:
            reason = "per_address"
        else:
            self.connections.add(connection)
            self._addresses[connection.address] += 1
            self.counters.connections += 1
            self.tell("connections", session_id=connection.session_id, ip=f"{connection.address}:{connection.port}")
            return None
        self.counters.refused[reason] += 1
        return reason

    def leave(self, connection: Connection) -> None:
        """Forget a connection; one that was not admitted is no error."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        self.counters.disconnections += 1
        self.tell("disconnections", session_id=connection.session_id, ip=f"{connection.address}:{connection.port}")

    def subscribed(self, connection: Connection, subscription: Subscription) -> None:
        """Count a new subscription of a client, and tell of it."""
        self.counters.subscriptions += 1
        self._tell_of("subscriptions", connection, subscription)

    def subscribe(self, connection: Connection, subscription: Subscription) -> Message | None:
        """Register a subscription of a client with the hub; returns the last value of its topic."""
        self.subscribed(connection, subscription)
        return self.hub.subscribe(subscription)

    def unsubscribe(self, connection: Connection, subscription: Subscription) -> None:
        """Forget a subscription of a client, whether the hub knows it or not."""
        self.hub.unsubscribe(subscription)
        self.counters.unsubscriptions += 1
        self._tell_of("unsubscriptions", connection, subscription)

    def _tell_of(self, label: str, connection: Connection, subscription: Subscription) -> None:
        peer = f"{connection.address}:{connection.port}"
        self.tell(label, session_id=connection.session_id, ip=peer, topic=subscription.topic)

    async def login(self, login: str, passcode: str, address: str, *, encrypted: bool) -> Principal | None:
        """Return who logs in; None for nobody (both empty), who may subscribe only.

        Raises:
            Refused: the login is wrong, or would go over the network in clear although there is TLS.
        """
        if not login and not passcode:
            return None
        if self.settings.tls and not encrypted:
            raise self._refused("a login over an unencrypted connection", address)
        if login == INTERNAL:
            if self._token and hmac.compare_digest(passcode.encode(), self._token):
                return Principal(login, None, internal=True)
            raise self._refused("Wrong password", address)
        verdict = await self.directory.check(login, passcode, address)
        if not verdict.ok:
            raise self._refused(verdict.error or "refused", address)
        return Principal(login, verdict.station or login.partition(".")[0])

    def _refused(self, reason: str, address: str) -> Refused:
        self.counters.refused["login"] += 1
        log.warning("a login from %s was refused: %s", address, reason)
        return Refused(reason)

    async def resolve(self, destination: str) -> str | None:
        """Return the topic that a subscription to a destination is matched by; None for an FM topic of a wrong form."""
        return await topics.resolve(destination, self.directory.known, self.directory.gcc)

    async def publish(
        self, principal: Principal | None, destination: str, headers: Mapping[str, str], body: bytes
    ) -> Sent:
        """Send a message to a topic, or to every channel of the broadcaster (`/topic/*/…`).

        Args:
            principal: who sends.
            destination: as the client wrote it.
            headers: of these `trigger-time`, `link` and `message-id` go on (from our own programs all).
            body: the message.

        Raises:
            NotAllowed: nobody, or not one of the channels.
            station.visuals.bus.Full: too much waits for the broker.
        """
        goals = await self.goals(principal, destination)
        refresh = False
        if principal is not None and principal.internal:
            refresh = headers.get("refresh") == "1"
            headers = {key: value for key, value in headers.items() if key not in OWN}
        else:
            headers = {key: headers[key] for key in messages.FORWARDED if key in headers}
        first = messages.new(goals[0], body, headers) if goals else messages.new(destination, body, headers)
        futures = [self.bus.publish(messages.Message(topic, body, first.headers), refresh=refresh) for topic in goals]
        self.counters.published += len(futures)
        if len(futures) == 1:
            return Sent(first.id, futures[0])
        return Sent(first.id, asyncio.ensure_future(_all(futures)), single=False)

    async def goals(self, principal: Principal | None, destination: str) -> list[str]:
        """Return the topics that a SEND to a destination goes to. Raises NotAllowed."""
        if principal is None:
            raise NotAllowed
        if principal.internal:
            return [await topics.convert(destination, self.directory.gcc)]
        channels = await self.directory.channels(principal.station or "")
        channels = [await topics.convert(channel, self.directory.gcc) for channel in channels]
        if destination.startswith(topics.BROADCAST):
            rest = destination[len(topics.BROADCAST) :]
            return list(dict.fromkeys(channel + rest for channel in channels))
        topic = await topics.convert(destination, self.directory.gcc)
        if not any(channel and topic.startswith(channel) for channel in channels):
            raise NotAllowed
        return [topic]

    async def deliver(self, entry: Entry) -> None:
        """Take an entry of the bus: count it and hand it to the hub."""
        if not entry.refresh:
            self.counters.message(entry.message.topic)
        await self.hub.deliver(entry)


async def _all(futures: list[asyncio.Future[None]]) -> None:
    await asyncio.gather(*futures)
