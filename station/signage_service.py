"""All rooms of one instance of signage: their talks from context.json, status and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from station import notify
from station.config import Config, ConfigError
from station.metrics import Metrics
from station.signage_layout import Fonts, load
from station.signage_outlet import Outlet
from station.signage_overrides import Manager, Overrides
from station.signage_pictures import FOLDER, Pictures
from station.signage_plan import Room, rooms_of
from station.signage_room import Ground, Sign
from station.signage_slides import Slides
from station.visuals.bus import Bus, Entry

log = logging.getLogger(__name__)
LOOK = 1.0
"""Seconds between two looks at context.json."""
TELL = 2.0
"""Seconds between two writings of status and metrics."""
PRUNE = 600.0
"""Seconds between two removals of old pictures; the first comes when the log's last words are known."""
STALE = 20.0
"""Seconds after which a slide that does not come is not shown any more, unless `slides.stale` says otherwise."""
WEB_PORT = 8080
"""Of the role web, where context.json does not tell the instance its address."""


class Signage:
    """All rooms of an instance."""

    def __init__(
        self, config: Config, bus: Bus, manager: Manager | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Set all up; there must be a running loop.

        Args:
            config: what the instance was told.
            bus: where messages go.
            manager: where overrides come from.
            clock: the time in seconds since 1970.

        Raises:
            ConfigError: an option cannot be used.
            OSError: the data folder cannot be written.
        """
        self._config = config
        self._bus = bus
        named = [str(name) for name in config.option("rooms", list, [])]
        self._names = named or ([config.room] if config.room else [])
        self._pictures = Pictures(config.paths.data / FOLDER, _fonts(config))
        source = f"{config.station}/{config.instance}"
        self._overrides = Overrides(config.paths.data / "overrides.json", source, manager, self._wake)
        self._base = ""
        self._ground = Ground(_domain(config), self._base_now, self._pictures, self._overrides, clock)
        self._metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
        self._context: dict[str, Any] = {}
        self._seen: object = None
        self._signs: dict[str, tuple[Sign, asyncio.Task[None]]] = {}
        self._by_topic: dict[str, Sign] = {}
        self._files = 0
        self._slides_room = _slides_room(config, self._names)

    async def run(self) -> None:
        """Work until cancelled. Raises what cannot be mended here, such as OSError."""
        notify.ready("reading what is on")
        tasks = [self._bus.run(None, self._heard), self._overrides.run(), self._watch(), self._tell(), self._prune()]
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._read()
                for task in tasks:
                    group.create_task(task)
        finally:
            for task in tasks:
                task.close()
            self._pictures.close()

    def _base_now(self) -> str:
        return self._base

    def _wake(self) -> None:
        for sign, _ in self._signs.values():
            sign.wake()

    async def _heard(self, entry: Entry) -> None:
        sign = self._by_topic.get(entry.message.topic)
        if sign is not None:
            sign.outlet.heard(entry.message)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self._read()

    async def _read(self) -> None:
        """Read context.json if it is another one; what was read last stands while there is none."""
        path = self._config.paths.context
        try:
            stat = path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            seen = None
        if self._signs and seen in (None, self._seen):
            return
        context = await asyncio.to_thread(self._config.context)
        if not context and self._context:
            return
        self._seen, self._context = seen, context
        self._base = self._base_of(context)
        rooms = await asyncio.to_thread(rooms_of, context, self._names, self._config.event)
        for name in [name for name in self._signs if name not in rooms]:
            sign, task = self._signs.pop(name)
            task.cancel()
            for topic in sign.topics:
                self._by_topic.pop(topic, None)
        for name, room in rooms.items():
            if name in self._signs:
                self._signs[name][0].replace(room)
            else:
                self._add(name, room)

    def _base_of(self, context: dict[str, Any]) -> str:
        config = self._config
        given = config.options.get("picture_base") or context.get("url")
        port = config.options.get("http_port")
        if port and not config.options.get("picture_base"):
            given = f"http://{config.address}:{port}/"
        return str(given or f"http://{config.address}:{WEB_PORT}/{config.role}/{config.instance}/").rstrip("/") + "/"

    def _add(self, name: str, room: Room) -> None:
        sign = Sign(name, self._ground, room, lambda wake: Outlet(self._bus, name, wake))
        if name == self._slides_room:
            told = self._config.option
            url = self._config.sources[told("slides.from", str)].url + "preview.jpg"
            every, stale = told("slides.every", float, 5.0), told("slides.stale", float, STALE)
            slides = Slides(url, every, stale, self._pictures, sign.wants_slides, sign.wake)
            sign.show_slides(slides, always=told("slides.always", bool, False))
        for topic in sign.topics:
            self._by_topic[topic] = sign
        self._signs[name] = (sign, self._group.create_task(_both(sign)))

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE)
            if self._bus.caught_up():
                bodies = [body for sign, _ in self._signs.values() for body in sign.outlet.bodies()]
                self._files = await self._pictures.prune(bodies)

    async def _tell(self) -> None:
        while True:
            notify.watchdog()
            notify.status(self._status())
            self._measure()
            await asyncio.to_thread(self._metrics.write)
            await asyncio.sleep(TELL)

    def _status(self) -> str:
        signs = [sign for sign, _ in self._signs.values()]
        if not signs:
            return "no rooms: the context has none, and the option rooms names none"
        speaking = sum(sign.outlet.speaks for sign in signs)
        over = [sign.name for sign in signs if sign.override is not None]
        parts = [f"{len(signs)} room{'s' * (len(signs) > 1)}, speaking for {speaking}"]
        if not self._bus.connected():
            parts.append("the bus is away")
        if over:
            parts.append(f"the crew's words in {', '.join(over)}")
        if len(signs) == 1 and signs[0].view is not None:
            parts.append(f"{signs[0].view.state}: {signs[0].view.title or signs[0].view.next_title}".rstrip(": "))
        return ", ".join(parts)

    def _measure(self) -> None:
        put, signs = self._metrics.set, [sign for sign, _ in self._signs.values()]
        put("stationmaster_signage_bus_up", self._bus.connected(), "1 while messages can be published.")
        put("stationmaster_signage_pictures_total", self._pictures.drawn, "Pictures drawn.", kind="counter")
        put("stationmaster_signage_picture_files", self._files, "Picture files at the last look.")
        for name in ("speaking", "override", "slides", "published_total"):
            self._metrics.drop(f"stationmaster_signage_{name}")
        for sign in signs:
            room, outlet = sign.name, sign.outlet
            shown = sign.slides is not None and sign.slides.frame is not None
            put("stationmaster_signage_speaking", outlet.speaks, "1 where this instance publishes.", room=room)
            put(
                "stationmaster_signage_override",
                sign.override is not None,
                "1 while the crew's words are shown.",
                room=room,
            )
            put("stationmaster_signage_slides", shown, "1 while speakers' slides are shown.", room=room)
            said = outlet.published
            put("stationmaster_signage_published_total", said, "Messages published.", kind="counter", room=room)


async def _both(sign: Sign) -> None:
    """Run a sign with all that belongs to it."""
    async with asyncio.TaskGroup() as group:
        group.create_task(sign.run())
        group.create_task(sign.outlet.run())
        if sign.slides is not None:
            group.create_task(sign.slides.run())


def _domain(config: Config) -> str:
    """Return the domain of the topics: as it is written, or as the visuals say, or the event's name."""
    told = [config.options.get("domain"), *(source.options.get("domain") for source in config.sources.values())]
    return next((name for name in told if isinstance(name, str) and name), config.event)


def _fonts(config: Config) -> Fonts:
    fonts = Fonts()
    if "font" in config.options:
        given = config.option("font", str)
        fonts = Fonts(given, given)
    for key, path in (("regular", fonts.regular), ("bold", fonts.bold)):
        try:
            load(path, 16)
        except OSError as error:
            raise ConfigError("options.font", f"the {key} font {path} cannot be read: {error}") from error
    return fonts


def _slides_room(config: Config, names: list[str]) -> str | None:
    if not config.options.get("slides"):
        return None
    source, room = config.option("slides.from", str), config.option("slides.room", str, config.room or "-")
    if source not in config.sources:
        raise ConfigError("options.slides.from", f"is {source!r}; known are {', '.join(config.sources) or 'none'}")
    if config.option("slides.every", float, 5.0) < 2:
        raise ConfigError("options.slides.every", "must be at least 2 seconds")
    room = names[0] if room == "-" and len(names) == 1 else room
    if room == "-" or (names and room not in names):
        raise ConfigError("options.slides.room", f"must be the room of the slides, one of {', '.join(names) or 'all'}")
    return room
