"""What waits to be confirmed: in order, and bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from station.visuals.bus import Full
from station.visuals.message import Message

MESSAGES = 20_000
"""A day of ten channels that send a text and a picture every minute while the broker is away."""
BYTES = 32 << 20


@dataclass(eq=False, slots=True)
class Item:
    """A message that was published; `done` tells its sender that it cannot be lost any more."""

    message: Message
    refresh: bool
    done: asyncio.Future[None]
    size: int
    confirmed: bool = False

    def confirm(self) -> None:
        """Tell the sender, unless it does not wait any more."""
        self.confirmed = True
        if not self.done.done():
            self.done.set_result(None)


class Waiting:
    """Items in the order in which they were published; those that were taken back come first again."""

    def __init__(self, messages: int = MESSAGES, size: int = BYTES) -> None:
        """`messages` and `size` (bytes) bound what may wait."""
        self._limits = messages, size
        self._items: deque[Item] = deque()
        self._count = 0
        self._size = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many are not confirmed, those in flight too."""
        return self._count

    def add(self, message: Message, refresh: bool) -> asyncio.Future[None]:
        """Put a message at the end.

        Raises:
            Full: one of the limits is reached.
        """
        size = len(message.body) + len(message.topic) + sum(len(k) + len(v) for k, v in message.headers.items())
        if self._count >= self._limits[0] or (self._count and self._size + size > self._limits[1]):
            raise Full(f"{self._count} messages of {self._size} bytes wait already")
        item = Item(message, refresh, asyncio.get_running_loop().create_future(), size)
        self._items.append(item)
        self._count += 1
        self._size += size
        self._filled.set()
        return item.done

    def take(self, limit: int) -> list[Item]:
        """Take the oldest, at most `limit`; each is to be given to `confirmed` or `back`."""
        return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    def confirmed(self, item: Item) -> None:
        """Count one off and tell its sender."""
        self._count -= 1
        self._size -= item.size
        item.confirm()

    def back(self, items: list[Item]) -> None:
        """Put what was taken and not confirmed first again, in its order."""
        self._items.extendleft(reversed(items))
        if self._items:
            self._filled.set()

    async def filled(self) -> None:
        """Wait until there is something to take."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
