"""One room's sign: from talks, the crew's words and slides to what its topics say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from station.signage_draw import RADIO, SCREEN, Notice
from station.signage_outlet import Outlet, Said
from station.signage_overrides import Override, Overrides
from station.signage_pictures import FOLDER, Pictures
from station.signage_plan import HORIZON, Room, Slide
from station.signage_slides import Slides
from station.signage_view import View
from station.signage_words import LONGEST, clean, cut, line

log = logging.getLogger(__name__)
LOOK = 1.0
"""Seconds after which the clock is looked at in any case: it may have been set."""
STEP = 3600
"""The end of a programme moves by whole hours, so that it does not change with every look."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all rooms of an instance share: `base` returns the URL of its data folder, `clock` the time."""

    domain: str
    base: Callable[[], str]
    pictures: Pictures
    overrides: Overrides
    clock: Callable[[], float]


class Sign:
    """Keeps one room's topics at what they are to say."""

    def __init__(self, name: str, ground: Ground, room: Room, outlet: Callable[[Callable[[], None]], Outlet]) -> None:
        """Take the room's name and talks, and what makes its outlet."""
        self.name = name
        self._ground = ground
        self._awake = asyncio.Event()
        self.outlet = outlet(self._awake.set)
        self.slides: Slides | None = None
        self._always = False
        self._room = room
        self._programme: tuple[object, Said] | None = None
        self._drawing: asyncio.Task[None] | None = None
        self.view: View | None = None
        self.override: Override | None = None

    @property
    def topics(self) -> list[str]:
        """All topics of the room."""
        return [
            *(self._topic(kind) for kind in ("image", "text")),
            *(self._topic(kind, "-screen") for kind in ("image", "text", "programme")),
        ]

    def wake(self) -> None:
        """Have everything looked at again."""
        self._awake.set()

    def replace(self, room: Room) -> None:
        """Take changed talks."""
        self._room = room
        self.wake()

    def show_slides(self, slides: Slides, *, always: bool) -> None:
        """Show speakers' slides while a talk is on, or always."""
        self.slides, self._always = slides, always

    def wants_slides(self) -> bool:
        """Return whether slides would be shown now."""
        during = self._always or (self.view is not None and self.view.state == "now")
        return during and self.override is None and self.outlet.speaks

    async def run(self) -> None:
        """Keep the topics right, until cancelled."""
        try:
            while True:
                self._awake.clear()
                try:
                    changes = await self.step()
                except OSError as error:  # a full disk, or a font that is away: the last picture stays
                    log.error("%s: no picture: %s", self.name, error)
                    changes = self._ground.clock() + LOOK
                wait = min(max(changes - self._ground.clock(), 0.001), LOOK)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):  # wait_for may lose a cancellation in Python 3.11
                        await self._awake.wait()
        finally:
            if self._drawing is not None:
                self._drawing.cancel()

    async def step(self) -> float:
        """Bring the topics to what they are to say now; return when that changes."""
        now = self._ground.clock()
        slides = self._room.slides(now, horizon=now // STEP * STEP + HORIZON - now)
        override = self._ground.overrides.active(self.name, now)
        self.view, self.override = slides[0].view, override
        content: View | Notice = self.view
        text, link = line(self.view), self.view.link
        if override is not None:
            content = Notice(self._room.title, "", override.text, self._room.told(override.until, now))
            text, link = cut(clean(override.text), LONGEST), override.link
        small = await self._ground.pictures.name(content, RADIO)
        large = await self._ground.pictures.name(content, SCREEN)
        over = {"image": self._url(large), "text": text, "until": override.until} if override else None
        programme = self._programme_of(slides, over)
        frame = self.slides.frame if self.slides is not None and self.wants_slides() else None
        if frame is not None:
            small, large = frame.small, frame.large
        said = Said(f"TEXT {text}".encode(), link)
        self.outlet.want(
            {
                self._topic("image"): Said(f"SHOW {self._url(small)}".encode(), link),
                self._topic("text"): said,
                self._topic("image", "-screen"): Said(f"SHOW {self._url(large)}".encode(), link),
                self._topic("text", "-screen"): said,
                self._topic("programme", "-screen"): programme,
            }
        )
        if override is not None and self.outlet.settled():
            self._ground.overrides.shown(override)
        return min(slides[0].end, override.until if override else slides[0].end)

    def _programme_of(self, slides: Sequence[Slide], override: dict[str, object] | None) -> Said:
        """Return the programme with the slides that are drawn; the others are drawn, and then it is said again."""
        key = (tuple(slides), json.dumps(override), self._ground.base())
        if self._programme is not None and self._programme[0] == key:
            return self._programme[1]
        names = []
        for slide in slides:
            name = self._ground.pictures.known(slide.view, SCREEN)
            if name is None:
                break
            names.append(name)
        ready = slides[: len(names)]
        said = Said(self._body(ready, names, override))
        self._programme = (key, said)
        if self._drawing is not None:
            self._drawing.cancel()
        # a picture for radios too, so that the next change finds it
        self._drawing = asyncio.create_task(self._draw(slides, complete=len(ready) == len(slides)))
        return said

    async def _draw(self, slides: Sequence[Slide], *, complete: bool) -> None:
        try:
            for number, slide in enumerate(slides):
                if number == 1:
                    await self._ground.pictures.name(slide.view, RADIO)
                await self._ground.pictures.name(slide.view, SCREEN)
        except OSError as error:
            log.error("%s: the programme is not complete: %s", self.name, error)
            return
        if not complete:
            self._programme = None
            self.wake()

    def _body(self, slides: Sequence[Slide], names: Sequence[str], override: dict[str, object] | None) -> bytes:
        rows = [
            {
                "start": slide.start,
                "end": slide.end,
                "image": self._url(name),
                "text": line(slide.view),
                "link": slide.view.link or None,
            }
            for slide, name in zip(slides, names, strict=True)
        ]
        told = {
            "room": self.name,
            "title": self._room.title,
            "timezone": self._room.timezone,
            "slides": rows,
            "override": override,
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()

    def _topic(self, kind: str, more: str = "") -> str:
        return f"/topic/id/{self._ground.domain}/{self.name}{more}/{kind}"

    def _url(self, name: str) -> str:
        return f"{self._ground.base()}{FOLDER}/{name}"
