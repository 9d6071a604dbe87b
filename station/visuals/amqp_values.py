"""Last values that a log must go on holding: through its retention, and when it was lost and made anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from station.visuals.bus import Entry
from station.visuals.message import Message

AGE = 6 * 3600.0
"""Seconds after which a value is repeated; the log keeps a day, or less where much is sent."""


@dataclass(slots=True)
class Value:
    """`at`: seconds since 1970 at which it was in the log, 0 for never; `firm`: as a message, not as a repetition."""

    message: Message
    at: float
    firm: bool


class Values:
    """The last value of each topic, as the log and we have it."""

    def __init__(self, known: Iterable[Message] = (), age: float = AGE) -> None:
        """`known` came from the log before a restart; `age` is in seconds."""
        self._age = age
        self._values = {message.topic: Value(message, message.when, firm=True) for message in known}

    def lost(self) -> None:
        """The log was lost: none of ours is in it any more."""
        for value in self._values.values():
            value.at, value.firm = 0.0, False

    def seen(self, entry: Entry, now: float) -> Entry:
        """Learn of an entry and return it as it is to be delivered.

        After a loss, a repetition that is newer than what we have is a message that we missed: no repetition.
        """
        message = entry.message
        value = self._values.get(message.topic)
        if value is None:
            self._values[message.topic] = Value(message, now, firm=not entry.refresh)
        elif value.message.id == message.id:
            value.at = now
            value.firm = value.firm or not entry.refresh
        elif value.firm and entry.refresh:
            pass
        elif value.firm or _newer(message, value.message):
            self._values[message.topic] = Value(message, now, firm=not entry.refresh)
            return replace(entry, refresh=False)
        return entry

    def due(self, now: float) -> list[Message]:
        """Return the values that the log lacks, or will lack before long."""
        return [value.message for value in self._values.values() if not value.at or now - value.at > self._age]

    def missing(self) -> bool:
        """Return whether the log lacks any."""
        return any(not value.at for value in self._values.values())

    def repeated(self, message: Message, now: float) -> None:
        """Note that a value was sent to the log again."""
        value = self._values.get(message.topic)
        if value is not None and value.message.id == message.id:
            value.at = now


def _newer(one: Message, other: Message) -> bool:
    return (one.when, one.id) > (other.when, other.id)
