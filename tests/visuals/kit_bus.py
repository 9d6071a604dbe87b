"""Readers of a bus, and messages for them."""

import asyncio
import contextlib

from station.visuals import message

TOPIC = "/topic/id/example.org/hall/text"


def text(body, topic=TOPIC, **headers):
    """Return a new message whose body is text."""
    return message.new(topic, body.encode(), headers)


class Reader:
    """Collects what a bus delivers, as an instance does: none twice with the same message-id."""

    def __init__(self, bus, after=None):
        self.entries = []
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(bus.run(after, self.deliver))

    async def deliver(self, entry):
        self.entries.append(entry)
        self.changed.set()

    @property
    def bodies(self):
        """Bodies in the order of the log, each message-id once, without those that only refresh."""
        return [m.body.decode() for m in {e.message.id: e.message for e in self.entries if not e.refresh}.values()]

    async def until(self, condition, seconds=20.0):
        """Wait until `condition(self)` holds."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                if self.task.done():
                    await self.task
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self.changed.wait()

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def eventually(condition, seconds=20.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
