"""A room's topics on the bus: who of several signs speaks, and that only what changed is said.

Nothing queues up here. While the bus is away the newest state waits, and it alone is sent when the bus is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from station.visuals.bus import Bus, Full
from station.visuals.message import Message, new

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What a topic says: its body, and the link of its picture."""

    body: bytes
    link: str = ""


class Outlet:
    """Publishes what one room's topics are to say, while this process is the one that speaks for the room."""

    def __init__(self, bus: Bus, room: str, wake: Callable[[], None]) -> None:
        """Take the bus, the room's name, and what to call when there is something to do."""
        self._bus = bus
        self._room = room
        self._wake = wake
        self._wanted: Mapping[str, Said] = {}
        self._last: dict[str, Said] = {}
        self._said: dict[str, Said] = {}
        self._sending: dict[str, asyncio.Future[None]] = {}
        self._told = False
        self.speaks = False
        self.published = 0

    async def run(self) -> None:
        """Take part in the choice of who speaks for the room, until cancelled."""
        async with contextlib.aclosing(self._bus.lock(f"signage-{self._room}")) as lock:
            async for speaks in lock:
                if speaks != self.speaks:
                    log.info("%s: %s", self._room, "this instance speaks" if speaks else "another instance speaks")
                self.speaks = speaks
                # what the other one said last decides what is new
                self._said = dict(self._last) if speaks else {}
                self._wake()

    def heard(self, message: Message) -> None:
        """Take a message from the bus."""
        self._last[message.topic] = Said(message.body, message.headers.get("link", ""))

    def want(self, wanted: Mapping[str, Said]) -> None:
        """Say what each topic is to say from now on, and publish what is new of it."""
        self._wanted = wanted
        self.push()

    def push(self) -> None:
        """Publish what is wanted and was not said yet, if that is possible now; one message of a topic at a time."""
        if not (self.speaks and self._bus.connected() and self._bus.caught_up()):
            return
        for topic, wanted in self._wanted.items():
            if topic in self._sending or self._said.get(topic) == wanted:
                continue
            try:
                future = self._bus.publish(new(topic, wanted.body, {"trigger-time": "NOW", "link": wanted.link}))
            except Full as error:
                if not self._told:
                    log.warning("%s: %s; it is tried again", self._room, error)
                self._told = True
                return
            self._told = False
            self._sending[topic] = future
            future.add_done_callback(lambda done, topic=topic, said=wanted: self._done(topic, said, done))  # type: ignore[misc]

    def bodies(self) -> Iterator[bytes]:
        """Yield all that may be on a screen, or be there soon."""
        for said in (*self._last.values(), *self._said.values(), *self._wanted.values()):
            yield said.body

    def settled(self) -> bool:
        """Return whether all that is wanted was published and cannot be lost any more."""
        return self.speaks and all(self._said.get(topic) == wanted for topic, wanted in self._wanted.items())

    def _done(self, topic: str, said: Said, future: asyncio.Future[None]) -> None:
        self._sending.pop(topic, None)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            log.warning("%s: %s was not published: %s", self._room, topic, error)
            return
        self.published += 1
        if self.speaks:
            self._said[topic] = said
        self._wake()
