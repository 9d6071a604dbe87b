"""What the buses that are reached over the network share: a queue of what is to be sent, and who sends it."""

from __future__ import annotations

import asyncio
import contextlib

from station.visuals.message import Message
from station.visuals.waiting import Waiting


class Remote:
    """The half of a Bus that sends; the task that does it begins with the first message."""

    def __init__(self) -> None:
        """Have nothing to send, and know nothing of the other side."""
        self._waiting = Waiting()
        self._sender: asyncio.Task[None] | None = None
        self._began = self._connected = self._caught_up = False

    async def _send(self) -> None:
        """Send what waits, for ever."""
        raise NotImplementedError

    def publish(self, message: Message, *, refresh: bool = False) -> asyncio.Future[None]:
        """See Bus; done once the other side has confirmed it."""
        done = self._waiting.add(message, refresh)
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return done

    def connected(self) -> bool:
        """See Bus."""
        return self._connected

    def caught_up(self) -> bool:
        """See Bus; over a feed a guess from a moment of silence."""
        return self._caught_up

    async def close(self) -> None:
        """End sending; what waits is given up."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
