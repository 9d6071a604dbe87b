"""An instance of stills from its start to its end: what `station.stills` and the command line run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from station import notify
from station.config import Config
from station.stills import multicast, rtp, sources, tcp, udp, web
from station.stills import settings as reading
from station.stills.limits import Limits
from station.stills.settings import Settings
from station.stills.stream import Stream

log = logging.getLogger(__name__)
BEAT = 1.0
"""Seconds between two signs of life to systemd, made by the loop that serves everybody."""
STOP = 1.5
"""Seconds in which everything is closed; what is not by then is left to the end of the process."""


class Server:
    """All streams of a process, with their limits; `start` opens every way to them."""

    def __init__(self, settings: Settings) -> None:
        """Read the pictures. Raises ConfigError, with the name of each that cannot be used."""
        self.settings = settings
        self.limits = Limits(settings.limits, settings.networks)
        made = sources.make_all(settings.streams)
        self.streams = {one.key: Stream(one, made[one.key], self.limits) for one in settings.streams}
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._failed: BaseException | None = None

    def find(self, name: str) -> Stream | None:
        """Return a stream by its id (digits) or its key."""
        if name.isdecimal():
            return next((one for one in self.streams.values() if one.settings.id == int(name)), None)
        return self.streams.get(name)

    async def start(self) -> None:
        """Open all ports. Raises OSError for one that is taken; the text says whose it is."""
        raise_limit()
        for stream in self.streams.values():
            method = stream.settings.method or ""
            if method.startswith("tcp"):
                self._closers.append((await tcp.listen(stream, self.limits, self.settings)).close)
            elif method.startswith("udp"):
                self._closers.append((await udp.listen(stream, self.limits, self.settings)).close)
            elif method:
                self._spawn(multicast.send(stream, self.settings))
            if stream.settings.rtp is not None:
                self._spawn(rtp.send(stream, self.settings))
            if stream.live:
                self._spawn(stream.run())
        if self.settings.http_port:
            self._closers.append((await web.start(self)).close)

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    async def close(self) -> None:
        """Close everything, within STOP seconds."""
        for task in self._tasks:
            task.cancel()
        closing = [asyncio.ensure_future(close()) for close in self._closers]
        if self._tasks or closing:
            await asyncio.wait([*self._tasks, *closing], timeout=STOP)

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`. Raises OSError for a port that is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self.start()
            log.info("%s", self._summary())
            notify.ready(self._summary())
            while not self._stopping.is_set():
                notify.watchdog()
                notify.status(self._status())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), BEAT)
        finally:
            notify.stopping()
            await self.close()
        if self._failed is not None:
            raise self._failed

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a part of the program failed, so it ends", exc_info=error)
            self._failed = error
            self.stop()

    def _summary(self) -> str:
        told = [f"{one.key} ({one.protocol} {one.port})" if one.method else one.key for one in self.settings.streams]
        http = f", HTTP on port {self.settings.http_port}" if self.settings.http_port else ""
        return f"streams {', '.join(told)}{http}"

    def _status(self) -> str:
        text = f"{len(self.streams)} streams, {self.limits.clients} clients"
        troubled = [one for one in self.streams.values() if one.state.word != "ready" and one.viewers]
        return "; ".join([text, *(f"{one.key}: {one.state.text or one.state.word}" for one in troubled)])


def raise_limit() -> None:
    """Allow as many open files as the kernel grants this process: a client of TCP is two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status. Raises ConfigError."""
    try:
        asyncio.run(_main(settings))
    except OSError as error:
        log.error("cannot serve: %s", error.strerror or error)
        return 1
    return 0


async def _main(settings: Settings) -> None:
    await Server(settings).run()


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status. Raises ConfigError."""
    return serve(reading.read(config))
