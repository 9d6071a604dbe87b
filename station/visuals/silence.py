"""Since when each channel is silent: what the watchdog knows of the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from station.visuals import topics

TYPES = ("text", "image")


def channel_of(topic: str) -> str:
    """Return the channel of a topic: up to and with the last slash."""
    return topic[: topic.rfind("/") + 1]


@dataclass(frozen=True, slots=True)
class _Last:
    number: int
    id: str
    when: float


class Silence:
    """The last sign of life of every channel, in seconds of a clock that only grows.

    On FM, a message to `*` reaches every frequency of its station and the other way round: it is a sign of life of
    each.
    """

    def __init__(self) -> None:
        self._count = 0
        self._seen: dict[str, float] = {}
        self._families: dict[str, float] = {}
        self._last: dict[str, _Last] = {}

    def note(self, topic: str, name: str, when: float, at: float) -> None:
        """Take a message that the log has next: its topic, message-id and `when`, and when it came."""
        self._count += 1
        self._last[topic] = _Last(self._count, name, when)
        self.alive(channel_of(topic), at)

    def alive(self, channel: str, at: float) -> None:
        """Take a sign of life of a channel."""
        self._seen[channel] = max(at, self._seen.get(channel, at))
        family = topics.family(channel + TYPES[0])
        if family is not None:
            family = channel_of(family)
            self._families[family] = max(at, self._families.get(family, at))

    def last(self, channel: str) -> float | None:
        """Return when a channel, or one that reaches the same radios, gave its last sign of life."""
        family = topics.family(channel + TYPES[0])
        if family is None:
            return self._seen.get(channel)
        family = channel_of(family)
        if channel == family:
            return self._families.get(family)
        found = [at for key in (channel, family) if (at := self._seen.get(key)) is not None]
        return max(found, default=None)

    def newest(self, topic: str) -> tuple[str, float] | None:
        """Return message-id and `when` of the last message that reached the subscribers of a topic."""
        found = self._last.get(topic)
        family = topics.family(topic)
        if family is not None and (wide := self._last.get(family)) is not None:
            found = wide if found is None or wide.number > found.number else found
        return (found.id, found.when) if found else None

    def due(self, channels: Iterable[str], silence: float, now: float) -> tuple[list[str], float]:
        """Return the channels that are silent for longer than `silence` seconds, and when the next one will be.

        A channel that was never heard of is silent.
        """
        due, soonest = [], float("inf")
        for channel in channels:
            last = self.last(channel)
            if last is None or last + silence <= now:
                due.append(channel)
            else:
                soonest = min(soonest, last + silence)
        return due, soonest

    def keep(self, channels: Iterable[str], before: float) -> None:
        """Forget what is older than `before` and belongs to none of the channels: topics come and go for months."""
        wanted = set(channels)
        for channel in [key for key, at in self._seen.items() if at < before and key not in wanted]:
            del self._seen[channel]
        for family in [key for key, at in self._families.items() if at < before and key not in wanted]:
            del self._families[family]
        for topic in [key for key in self._last if channel_of(key) not in self._seen]:
            del self._last[topic]
