"""The hub: who is subscribed to what, the last value of every topic, and the fan-out.

Everything happens in one event loop. A message is handed to all its subscribers without an await in between, so
that nobody who subscribes meanwhile gets it twice or not at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from station.visuals import topics
from station.visuals.bus import Entry
from station.visuals.message import Message

SEEN = 65536
"""Messages of which the id is remembered, so that what the log repeats is not sent again."""


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscription of one subscriber.

    `topic` is what it is matched by (converted; may hold `*` as FM frequency), `destination` what the client wrote,
    `id` the client's own name for it. `shape` belongs to the subscriber, which may keep there what it renders.
    """

    topic: str
    destination: str
    id: str | None
    subscriber: Subscriber
    shape: Any = field(default=None)


class Subscriber(Protocol):
    """Whoever gets messages: a STOMP connection, a stream of events, a waiting request."""

    def take(self, message: Message, subscription: Subscription) -> None:
        """Take a message; never blocks, never raises, and neither subscribes nor unsubscribes anybody."""


class Hub:
    """All subscriptions and last values of this instance."""

    def __init__(self, pace: Callable[[], Awaitable[None] | None] = lambda: None, *, seen: int = SEEN) -> None:
        """Make an empty one.

        Args:
            pace: called after each message; what it returns is awaited before the next one.
            seen: how many ids are remembered.
        """
        self._pace = pace
        self._limit = seen
        self._groups: dict[str, dict[Subscription, None]] = {}
        self._exact: dict[str, set[str]] = {}
        self._last: dict[str, tuple[int, Message]] = {}
        self._newest: dict[str, Message] = {}
        self._count = 0
        self._seen: dict[tuple[str, str], None] = {}
        self._reached: dict[tuple[str, str], None] = {}
        self.delivered = 0
        self.subscriptions = 0

    def subscribe(self, subscription: Subscription) -> Message | None:
        """Register a subscription; returns the last value of its topic, which the caller may send."""
        topic = subscription.topic
        group = self._groups.get(topic)
        if group is None:
            group = self._groups[topic] = {}
            family = topics.family(topic)
            if family is not None and family != topic:
                self._exact.setdefault(family, set()).add(topic)
        if subscription not in group:
            group[subscription] = None
            self.subscriptions += 1
        return self.last(topic)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription; one that is not registered is no error."""
        topic = subscription.topic
        group = self._groups.get(topic)
        if group is None or subscription not in group:
            return
        del group[subscription]
        self.subscriptions -= 1
        if group:
            return
        del self._groups[topic]
        family = topics.family(topic)
        if family is not None and (exact := self._exact.get(family)) is not None:
            exact.discard(topic)
            if not exact:
                del self._exact[family]

    def last(self, topic: str) -> Message | None:
        """Return the last message that a subscriber of a topic would have got."""
        family = topics.family(topic)
        if family == topic:
            return self._newest.get(topic)
        found = self._last.get(topic)
        if family is not None and (wide := self._last.get(family)) is not None and (not found or wide[0] > found[0]):
            found = wide
        return found[1] if found else None

    def values(self) -> list[Message]:
        """Return the last value of every topic, the oldest first."""
        return [message for _, message in sorted(self._last.values(), key=lambda item: item[0])]

    def watched(self) -> dict[str, int]:
        """Return the number of subscriptions of each topic that has any."""
        return {topic: len(group) for topic, group in self._groups.items()}

    def restore(self, last: Iterable[Message], seen: Iterable[tuple[str, str]]) -> None:
        """Take over what was on the disk: last values, and (topic, message-id) of what need not be sent again."""
        for message in sorted(last, key=lambda message: message.when):
            self._keep(message)
            self._mark(message.topic, message.id)
        for topic, name in seen:
            self._mark(topic, name)

    async def deliver(self, entry: Entry) -> None:
        """Take an entry of the bus: keep it as last value and hand it to everybody it concerns.

        A message-id that the topic had already is ignored; a refresh only fills a last value that is missing.
        Returns when the next one may come: clients that read get the time for it.
        """
        message = entry.message
        topic, name = message.topic, message.id
        if entry.refresh:
            if topic not in self._last:
                self._keep(message)
                self._mark(topic, name)
            return
        if (topic, name) in self._seen:
            return
        family = topics.family(topic)
        if family is None:
            self._mark(topic, name)
            self._keep(message)
            self._hand(topic, message)
        else:
            had_exact = (family, name) in self._seen
            had_family = (family, name) in self._reached
            self._mark(topic, name)
            self._keep(message)
            if topic != family and not had_exact:
                self._hand(topic, message)
            if not had_family:
                self._hand(family, message)
            if topic == family:
                for exact in tuple(self._exact.get(family, ())):
                    if (exact, name) not in self._seen:
                        self._hand(exact, message)
        if (wait := self._pace()) is not None:
            await wait

    def _hand(self, topic: str, message: Message) -> None:
        group = self._groups.get(topic)
        if not group:
            return
        for subscription in tuple(group):
            subscription.subscriber.take(message, subscription)
        self.delivered += len(group)

    def _keep(self, message: Message) -> None:
        self._count += 1
        self._last[message.topic] = (self._count, message)
        family = topics.family(message.topic)
        if family is not None:
            self._newest[family] = message

    def _mark(self, topic: str, name: str) -> None:
        self._remember(self._seen, (topic, name))
        family = topics.family(topic)
        if family is not None:
            self._remember(self._reached, (family, name))

    def _remember(self, memory: dict[tuple[str, str], None], key: tuple[str, str]) -> None:
        memory[key] = None
        if len(memory) > self._limit:
            del memory[next(iter(memory))]
