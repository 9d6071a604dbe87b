"""Pictures of a stream in other kinds, each made once however many ask for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from station.stills import pictures
from station.stills.aside import aside
from station.stills.pictures import Picture

CACHE = 32 << 20
"""Bytes of converted pictures that a stream keeps."""
Key = tuple[int, float, str]


class Conversions:
    """What was converted last, within CACHE, and what is being converted."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        """Keep nothing yet; `places` are those of all streams of a server."""
        self.size = 0
        """Bytes that are kept."""
        self._made: OrderedDict[Key, Picture] = OrderedDict()
        self._making: dict[Key, asyncio.Task[Picture]] = {}
        self._places = places

    async def get(self, picture: Picture, kind: str) -> Picture:
        """Return a picture in a kind, itself if it is of that kind.

        Raises:
            station.stills.pictures.Unreadable: it cannot be decoded.
        """
        if picture.kind == kind:
            return picture
        key = (picture.number, picture.when, kind)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.create_task(self._convert(key, picture, kind))
            task.add_done_callback(lambda _: self._making.pop(key))
        # one who gives up takes nothing from the others
        return await asyncio.shield(task)

    async def _convert(self, key: Key, picture: Picture, kind: str) -> Picture:
        async with self._places:  # in a thread, for it takes longer than others may wait
            made = await aside(pictures.convert, picture, kind)
        self._made[key] = made
        self.size += len(made.data)
        while self.size > CACHE and len(self._made) > 1:
            _, old = self._made.popitem(last=False)
            self.size -= len(old.data)
        return made
