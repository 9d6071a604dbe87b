"""A stream: pictures with a clock of their own, and whoever takes them in whatever way.

One timer serves all who are attached, and there is none while nobody is: an idle stream costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from station.stills.conversions import Conversions
from station.stills.limits import Limits, Tally
from station.stills.pictures import Picture
from station.stills.settings import StreamSettings

log = logging.getLogger(__name__)
LINGER = 30.0
"""Seconds for which a live source is read after the last viewer left: a page that is loaded again finds it running."""
Take = Callable[[Picture], None]
Leave = Callable[[], None]


@dataclass(frozen=True, slots=True)
class State:
    """How a source is: `word` is ready, waiting or failed, `text` says why for people."""

    word: str
    text: str = ""


class Source(Protocol):
    """Where pictures come from: a list (`sources.Images`) or a live one.

    `count` is the length of the list, None for a live source.
    """

    @property
    def count(self) -> int | None:
        """The length of the list; None: live."""

    @property
    def state(self) -> State:
        """How it is now."""

    def at(self, number: int) -> Picture | None:
        """Return the picture of a number, None if there is none (any more)."""

    def newest(self) -> Picture | None:
        """Return the newest picture of a live source that is not stale."""

    async def run(self) -> None:
        """Read a live source while it is wanted, until cancelled."""

    def want(self, wanted: bool) -> None:
        """Begin to read a live source, or leave off."""

    def on_picture(self, call: Take) -> None:
        """Have each new picture of a live source told."""


class Stream:
    """One stream of a server."""

    def __init__(self, settings: StreamSettings, source: Source, limits: Limits | None = None) -> None:
        """Make one; nothing runs yet.

        Args:
            settings: what it is.
            source: its pictures.
            limits: where what it sends is counted.
        """
        self.key = settings.key
        self.settings = settings
        self.source = source
        self.limits = limits or Limits()
        self.period = 1 / settings.ips
        self._takers: dict[object, Take] = {}
        self._holders = 0
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        # the clock goes on evenly also when somebody sets the machine's
        self._zero = time.monotonic() - time.time()
        self._tick_number = 0
        self._kinds = Conversions(self.limits.conversions)
        if self.live:
            source.on_picture(self._arrived)

    @property
    def live(self) -> bool:
        """Whether its pictures come from a live source."""
        return self.source.count is None

    @property
    def state(self) -> State:
        """How its source is."""
        return self.source.state

    @property
    def viewers(self) -> int:
        """How many take its pictures, or may ask for one."""
        return len(self._takers) + self._holders

    @property
    def type(self) -> str:
        """The kind as it is told: as it was written, or else that of the pictures."""
        if self.settings.type:
            return self.settings.type
        picture = self.now()
        return picture.kind if picture else "JPG"

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The pictures of a list in the form in which TCP carries them, none of a live source."""
        numbers = range(self.source.count or 0)
        return tuple(picture.frame for number in numbers if (picture := self.source.at(number)) is not None)

    def tally(self, way: str) -> Tally:
        """Return the counters of a way."""
        return self.limits.tally(self.key, way)

    def attach(self, take: Take) -> Leave:
        """Have a picture given each period: of a list the clock's, of a live source each new one.

        Args:
            take: called by the event loop; it must neither block nor raise.

        Returns:
            What to call to have no more of them; a second call does nothing.
        """
        key = object()
        self._takers[key] = take
        self._begin()

        def leave() -> None:
            if self._takers.pop(key, None) is not None:
                self._end()

        return leave

    def hold(self) -> Leave:
        """Be a viewer who takes nothing yet but may ask: a live source is read, and no timer runs."""
        self._holders += 1
        self._begin()
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._holders -= 1
                self._end()

        return leave

    def at(self, number: int) -> Picture | None:
        """Return the picture of a number, None if there is none."""
        return self.source.at(number)

    def now(self) -> Picture | None:
        """Return the picture of the clock, or the newest of a live source, None where that has none."""
        count = self.source.count
        return self.source.newest() if count is None else self.source.at(self._turn() % count)

    async def latest(self, patience: float) -> Picture | None:
        """Return the picture of now; of a live source that has just been woken, the first that comes.

        Args:
            patience: seconds to wait for it.
        """
        leave = self.hold()
        try:
            return self.now() or await self._next(patience)
        finally:
            leave()

    async def following(self, after: int | None, patience: float) -> Picture | None:
        """Return the picture after one that is known.

        Args:
            after: number of that picture; None: whichever comes next.
            patience: seconds to wait; None is returned when they are over.
        """
        picture = self.now()
        if after is not None and picture is not None and picture.number != after:
            leave = self.hold()  # whoever asks again and again keeps a live source awake
            leave()
            return picture
        return await self._next(patience)

    async def _next(self, patience: float) -> Picture | None:
        coming: asyncio.Future[Picture] = asyncio.get_running_loop().create_future()

        def take(picture: Picture) -> None:
            if not coming.done():
                coming.set_result(picture)

        leave = self.attach(take)
        try:
            async with asyncio.timeout(patience):
                return await coming
        except TimeoutError:
            return None
        finally:
            leave()

    async def as_kind(self, picture: Picture, kind: str) -> Picture:
        """Return a picture in a kind; who asks for the same one at the same time shares the work.

        Raises:
            station.stills.pictures.Unreadable: it cannot be decoded.
        """
        return await self._kinds.get(picture, kind)

    async def run(self) -> None:
        """Read a live source, until cancelled; returns at once for a list."""
        if self.live:
            try:
                await self.source.run()
            finally:
                if self._linger is not None:
                    self._linger.cancel()

    def _begin(self) -> None:
        if self.live:
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            elif self.viewers == 1:
                self.source.want(True)
        elif self._takers and self._timer is None:
            self._tick_number = self._turn()
            self._plan()

    def _end(self) -> None:
        if self.live:
            if not self.viewers and self._linger is None:
                self._linger = asyncio.get_running_loop().call_later(LINGER, self._rest)
        elif not self._takers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        self._linger = None
        self.source.want(False)

    def _turn(self) -> int:
        # loop.time() is time.monotonic(); the small part is for a timer that fires a rounding error too early
        return int((time.monotonic() - self._zero) * self.settings.ips + 1e-6)

    def _plan(self) -> None:
        self._tick_number += 1
        when = self._zero + self._tick_number / self.settings.ips
        self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _tick(self) -> None:
        count = self.source.count
        picture = self.source.at(self._tick_number % count) if count else None
        # what was missed while the loop was busy is left out, or it would never catch up
        self._tick_number = max(self._tick_number, self._turn())
        self._plan()
        if picture is not None:
            self._arrived(picture)

    def _arrived(self, picture: Picture) -> None:
        for take in tuple(self._takers.values()):
            try:
                take(picture)
            except Exception:
                log.exception("stream %s: one who takes pictures failed", self.key)
