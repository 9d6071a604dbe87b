"""What carries messages between instances: one log of all messages, in one order for everybody.

Three kinds: `alone` (no broker: the log is a file of this instance), `amqp` (a stream of RabbitMQ that
all instances share) and `feed` (fallback and signage that reach an instance of visuals which is alone).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from station.visuals.message import Message


@dataclass(frozen=True, slots=True)
class Entry:
    """A message at its place in the log. Offsets grow, with gaps; a log that was lost begins anew.

    `refresh` marks a last value that was repeated for instances without it: no subscriber gets it.
    `mark` tells the entry from another one at the same offset of a log that was made anew.
    """

    offset: int
    message: Message
    refresh: bool = False
    mark: str = ""


class Full(Exception):
    """So many messages wait for the broker that no more are taken; the text says how many."""


class Bus(Protocol):
    """Carries messages; it reconnects by itself, for ever."""

    async def run(self, after: int | None, deliver: Callable[[Entry], Awaitable[None]]) -> None:
        """Deliver all entries after an offset, the oldest first, each at least once, until cancelled.

        Args:
            after: offset of the last entry that is known already; None for all that the log has.
            deliver: awaited for one entry after the other, so that a slow one holds up the reading.
        """

    def publish(self, message: Message, *, refresh: bool = False) -> asyncio.Future[None]:
        """Send a message; the future is done once it cannot be lost any more.

        What is sent while the broker is away waits in order and is sent when it is back.

        Raises:
            Full: too many wait already.
        """

    def lock(self, name: str) -> AsyncGenerator[bool, None]:
        """Yield True whenever this process becomes the one that holds a lock among all, False when it lost it.

        Closing it gives the lock back: use contextlib.aclosing.
        """

    def connected(self) -> bool:
        """Return whether the log can be reached now."""

    def caught_up(self) -> bool:
        """Return whether all that was in the log when `run` began has been delivered."""

    async def close(self) -> None:
        """End all that works in the background; what waits to be sent is given up."""
