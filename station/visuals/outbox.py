"""What waits to be written to one client, and the one who writes for all of them.

Messages are collected and written with one write per client and turn of the loop. What the kernel has not taken
counts as the client's queue. A full queue drops that client only; while clients that do read are behind, the bus is
held up for them a little, so that a burst harms none of them; a small budget for all of them together bounds what the
others wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

BURST = 32
"""Messages after which everybody's queue is written before the next one is taken from the bus."""
SLICE = 256
"""Clients that are written to in one turn of the loop."""
STALLED = 0.1
"""Seconds in which a client with a long queue must take something to be waited for."""
STEP = 4096
"""Bytes that count as something."""
BLOCKED, READING = 1, 2
"""Why nothing is read from a client: it does not take what it is sent, or sent more than is done yet."""
PATIENCE = 0.5
"""Seconds for which the bus is held up for one client; granted anew after a minute without."""
REST = 60.0
HELD_UP, SHARE = 1.0, 0.02
"""Seconds for which the bus is held up for all clients together, and what of them each further second grants anew."""


class Outlet(Protocol):
    """The connection below: TCP, TLS or WebSocket. It calls `Outbox.resume` when all that was written has gone."""

    def write(self, data: bytes) -> bool:
        """Hand over data; returns whether all of it has gone to the kernel."""

    def unsent(self) -> int:
        """Return the bytes that were written and have not gone."""

    def pause(self, paused: bool) -> None:
        """Stop or go on reading from the client."""

    def finish(self) -> None:
        """Close once all that was written has gone (soon, or never mind)."""

    def abort(self) -> None:
        """Close now."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait for one client: the first that is reached counts."""

    messages: int = 250
    bytes: int = 1 << 20


class Outbox:
    """The queue of one client."""

    __slots__ = (
        "_dropped", "_held", "_patience", "_progress", "_since", "_waited", "blocked", "closed", "count",
        "finishing", "flusher", "frames", "half", "held", "limits", "outlet", "size", "wrote",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, flusher: Flusher, dropped: Callable[[str], None]) -> None:
        """Make an empty one.

        Args:
            outlet: where it goes.
            flusher: who writes.
            dropped: called with the reason when the client is dropped; the outlet is aborted by then.
        """
        self.outlet = outlet
        self.flusher = flusher
        self.limits = flusher.limits
        self.half = (flusher.limits.messages // 2, flusher.limits.bytes // 2)
        self._dropped = dropped
        self.frames: list[bytes] = []
        self.count = self.size = 0
        self._held = (0, 0)
        self.blocked = self.closed = self.finishing = False
        self.wrote = False
        self.held = 0
        self._since = self._waited = 0.0
        self._progress = 0
        self._patience = PATIENCE

    def add(self, frame: bytes) -> None:
        """Queue a message's frame."""
        if self.closed or self.finishing:
            return
        frames = self.frames
        if not frames and not self.blocked:
            self.flusher.mark(self)
        frames.append(frame)
        self.count += 1
        self.size += len(frame)
        if self.count > self.half[0] or self.size > self.half[1]:
            self.flusher.lagging.add(self)
            if self.overrun:
                self.drop("queue full")

    def reply(self, frame: bytes) -> None:
        """Queue what is no message (it takes no place of one, but its bytes count)."""
        self.count -= 1
        self.add(frame)

    @property
    def full(self) -> bool:
        """Whether no further message has room."""
        return self.count >= self.limits.messages or self.size >= self.limits.bytes

    @property
    def overrun(self) -> bool:
        """Whether there is more than may wait; one message always may, however long."""
        return self.count > self.limits.messages or (self.size > self.limits.bytes and len(self.frames) > 1)

    @property
    def behind(self) -> bool:
        """Whether the queue is more than half full."""
        return self.count > self.half[0] or self.size > self.half[1]

    @property
    def waits(self) -> bool:
        """Whether there is something that the kernel has not taken."""
        return not self.closed and (bool(self.frames) or self.outlet.unsent() > 0)

    def flush(self) -> None:
        """Write all that waits."""
        frames = self.frames
        if self.blocked or not frames or self.closed:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.frames = []
        self.wrote = True
        if self.outlet.write(data):
            self.count = self.size = 0
            return
        self.blocked = True
        self._held = (self.count, self.size)
        self._since = asyncio.get_running_loop().time()
        self._progress = self.outlet.unsent()
        self.hold(BLOCKED, True)

    def hold(self, reason: int, on: bool) -> None:
        """Stop reading from the client for a reason, or no longer for it."""
        held = self.held | reason if on else self.held & ~reason
        if bool(held) != bool(self.held) and not self.closed:
            self.outlet.pause(bool(held))
        self.held = held

    def resume(self) -> None:
        """Go on: the outlet has sent everything (it calls this)."""
        if not self.blocked or self.closed:
            return
        self.blocked = False
        self.count -= self._held[0]
        self.size -= self._held[1]
        self._held = (0, 0)
        if self.finishing and not self.frames:
            self.outlet.finish()
            return
        self.hold(BLOCKED, False)
        if self.frames:
            self.flush()
            if self.finishing and not self.blocked:
                self.outlet.finish()

    def worth_waiting(self, now: float) -> bool:
        """Return whether the client takes what it gets, so that the bus is held up for it a little."""
        if not self.blocked:
            return True
        if now - self._waited > REST:
            self._patience = PATIENCE
        unsent = self.outlet.unsent()
        if self._progress - unsent >= STEP:
            self._progress, self._since = unsent, now
        self._patience -= min(now - self._waited, STALLED)
        self._waited = now
        return self._patience > 0 and now - self._since < STALLED

    def finish(self) -> None:
        """Write what waits, then close; nothing more is taken."""
        if self.closed or self.finishing:
            return
        self.flush()
        self.finishing = True
        if not self.blocked:
            self.outlet.finish()

    def drop(self, reason: str) -> None:
        """Drop the client now, and all that waits for it."""
        if self.closed:
            return
        self.close()
        self.outlet.abort()
        self._dropped(reason)

    def close(self) -> None:
        """Forget everything: the connection has gone."""
        self.closed = True
        self.frames = []
        self.count = self.size = 0
        self.flusher.lagging.discard(self)


class Flusher:
    """Writes the queues of all clients."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lagging: set[Outbox] = set()
        self._dirty: list[Outbox] = []
        self._next = 0
        self._messages = 0
        self._budget, self._granted = HELD_UP, 0.0
        self._clean = asyncio.Event()
        self._clean.set()

    def mark(self, box: Outbox) -> None:
        """Write a queue in one of the next turns of the loop."""
        if not self._dirty:
            self._clean.clear()
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(box)

    def _flush(self) -> None:
        end = self._next + SLICE
        for box in self._dirty[self._next : end]:
            box.flush()
        if end < len(self._dirty):
            self._next = end
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._dirty.clear()
        self._next = 0
        self._messages = 0
        self._clean.set()

    def pace(self) -> Awaitable[None] | None:
        """Return what to wait for before the next message is taken from the bus; None for nothing."""
        self._messages += 1
        if self._messages >= BURST or self.lagging:
            return self._settle()
        return None

    async def _settle(self) -> None:
        if self._messages >= BURST:
            self._messages = 0
            await asyncio.sleep(0)
            await self._clean.wait()
        if self.lagging:
            await self._wait(asyncio.get_running_loop())

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for those who are behind and read, within the budget; drop those who do not and have no room."""
        began = now = loop.time()
        budget = min(HELD_UP, self._budget + (now - self._granted) * SHARE)
        turned = False
        while self.lagging:
            wait, patient = False, now - began < budget
            for box in tuple(self.lagging):
                if not box.behind:
                    self.lagging.discard(box)
                elif not box.blocked or (patient and box.worth_waiting(now)):
                    wait = True
                elif box.full:
                    if turned:
                        box.drop("queue full")
                    else:
                        wait = True
            if not wait:
                break
            await asyncio.sleep(0.001 if turned else 0)
            turned, now = True, loop.time()
        self._budget, self._granted = max(0.0, budget - (now - began)), now
