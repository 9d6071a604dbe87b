"""What was heard lately of the topics that somebody polls or streams.

A client that polls is not there between two requests: what came meanwhile waits here, so that whoever knows the id
of its last message misses nothing. Bounded by topics, by messages and bytes of each, and by time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from station.visuals.hub import Hub, Subscription
from station.visuals.message import Message

TOPICS = 2048
MESSAGES = 16
"""Of one topic; a client that comes back after more gets the last value, as one that knows no id."""
BYTES = 131072
"""Of the bodies of one topic; the last one is always kept."""
KEPT = 60.0
"""Seconds that a topic is followed after its last request; clients poll again at once, or after some seconds."""


class Line:
    """The last messages of one topic, the oldest first, each with its place in the order of all topics."""

    def __init__(self, history: History, topic: str) -> None:
        self._history = history
        self.kept: deque[tuple[int, Message]] = deque(maxlen=MESSAGES)
        self._bytes = 0
        self.used = 0.0
        self.waiting: set[asyncio.Future[None]] = set()
        self.subscription = Subscription(topic, topic, None, self)

    @property
    def last(self) -> Message | None:
        """The newest message."""
        return self.kept[-1][1] if self.kept else None

    def take(self, message: Message, subscription: Subscription | None = None) -> None:
        """Keep a message and wake who waits for one."""
        if len(self.kept) == MESSAGES:
            self._bytes -= len(self.kept[0][1].body)
        self.kept.append((self._history.next_place(), message))
        self._bytes += len(message.body)
        while self._bytes > BYTES and len(self.kept) > 1:
            self._bytes -= len(self.kept.popleft()[1].body)
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    def after(self, known: str) -> list[Message] | None:
        """Return what came after the message with an id; None if that one is not here any more."""
        found = [number for number, (_, message) in enumerate(self.kept) if message.id == known]
        return [message for _, message in list(self.kept)[found[-1] + 1 :]] if found else None


class History:
    """The lines of all topics that were asked for lately."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._place = 0

    def next_place(self) -> int:
        """Return the next place in the order of all messages."""
        self._place += 1
        return self._place

    def lines(self, topics: Sequence[str]) -> list[Line]:
        """Return the line of each topic (as the hub matches it); one that is new begins with the last value."""
        new: list[tuple[Message, Line]] = []
        found = []
        for topic in dict.fromkeys(topics):
            line = self._lines.get(topic)
            if line is None:
                line = self._lines[topic] = Line(self, topic)
                last = self._hub.subscribe(line.subscription)
                if last is not None:
                    new.append((last, line))
            self._lines.move_to_end(topic)
            line.used = time.monotonic()
            found.append(line)
        for last, line in sorted(new, key=lambda item: item[0].when):
            line.take(last)
        self._forget()
        return found

    def _forget(self) -> None:
        # a burst of topics waits for its KEPT seconds only while there is room
        old = time.monotonic() - KEPT
        for topic, line in list(self._lines.items())[:64]:
            if line.waiting or not (line.used < old or len(self._lines) > TOPICS):
                continue
            self._hub.unsubscribe(line.subscription)
            del self._lines[topic]


def following(lines: Sequence[Line], known: str) -> tuple[Message, Line] | None:
    """Return what a client that polls these topics has to get next, or None: it has to wait.

    Args:
        lines: of its topics.
        known: id of the message that it got last, "" for none.

    Returns:
        The first message after the one that it knows. For an id that is unknown the oldest of the last values: the
        next request, with that one's id, gets the next of them.
    """
    kept = sorted(((place, message, line) for line in lines for place, message in line.kept), key=lambda item: item[:1])
    places = [place for place, message, _ in kept if message.id == known]
    if places:
        return next(((message, line) for place, message, line in kept if place > places[-1]), None)
    lasts = [(line.kept[-1][0], line) for line in lines if line.kept]
    first = min(lasts, key=lambda item: item[0], default=None)
    return (first[1].kept[-1][1], first[1]) if first else None


async def wait(lines: Sequence[Line], known: str, seconds: float) -> tuple[Message, Line] | None:
    """Wait until there is something for a client that polls (see `following`); None after so many seconds."""
    end = time.monotonic() + seconds
    while (found := following(lines, known)) is None:
        left = end - time.monotonic()
        if left <= 0:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for line in lines:
            line.waiting.add(future)
        try:
            await asyncio.wait((future,), timeout=left)
        finally:
            for line in lines:
                line.waiting.discard(future)
    return found
