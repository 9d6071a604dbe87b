"""A catalogue from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable

import aiohttp

from station import notify
from station.catalogues.board import Board
from station.catalogues.folder import Folder
from station.catalogues.follow import Follower, Server
from station.catalogues.registrations import Registrations
from station.catalogues.servers import wanted
from station.catalogues.settings import Settings
from station.catalogues.text import TextServer
from station.catalogues.web import Web
from station.exposition import Exposition
from station.manager_link import open_link

log = logging.getLogger(__name__)
LOOK = 1.0
"""Seconds between two looks at context.json, and between two signs of life to systemd."""
TELL = 2.0
"""Seconds between two writings of the metrics."""


class Catalogue:
    """Everything that one process serves.

    Args:
        settings: what it was told.
        board: what is shown; others may have put something on it already.
        sent: called with each text that a client of the old catalogue got.

    Raises:
        ConfigError: the manager's address is none.
    """

    def __init__(
        self, settings: Settings, board: Board | None = None, sent: Callable[[str], None] | None = None
    ) -> None:
        self._settings = settings
        self.board = Board(settings.event) if board is None else board
        self._text = TextServer(self.board, settings.port, listen=settings.address, told=settings.told, sent=sent)
        self._exposition = Exposition(settings.metrics, self._figures, TELL)
        self._web: Web | None = None
        if settings.http_port is not None:
            self._web = Web(self.board, settings.http_port, self._exposition.text, listen=settings.address)
        self._registrations: Registrations | None = None
        if settings.cache is not None:
            link = open_link(settings.manager, settings.manager_token, settings.certificate)
            self._registrations = Registrations(link, settings.cache, self._wake)
        self._folder = Folder(settings.folder, self.board) if settings.folder is not None else None
        self._followed: dict[str, tuple[Server, asyncio.Task[None]]] = {}
        self._moved = asyncio.Event()
        self._seen: object = None
        self._context: object = None

    async def start(self) -> None:
        """Listen. Raises OSError: a port cannot be had."""
        await self._text.start()
        if self._web is not None:
            await self._web.start()

    async def run(self) -> None:
        """Keep what is shown true until cancelled, then close all. `start` comes before it."""
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        work = [self._follow(session)]
        if self._settings.context_file is not None:
            work.append(self._exposition.run())
        if self._registrations is not None:
            work.append(self._registrations.run())
        if self._folder is not None:
            work.append(self._folder.run())
        try:
            async with asyncio.TaskGroup() as group:
                for one in work:
                    group.create_task(one)
        finally:
            tasks = [task for _, task in self._followed.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.stop()
            if self._registrations is not None:
                await self._registrations.close()
            await session.close()

    async def stop(self) -> None:
        """Close all ports."""
        await self._text.stop()
        if self._web is not None:
            await self._web.stop()

    def status(self) -> str:
        """Return a line for people."""
        streams, servers, up = self.board.figures()
        return f"{streams} streams, {up} of {servers} servers run"

    def _wake(self) -> None:
        self._moved.set()

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        while True:
            self._moved.clear()
            await self._read()
            found = wanted(
                self._context if isinstance(self._context, dict) else {},
                self._registrations.addresses if self._registrations is not None else {},
                self._settings.servers,
            )
            for name in [name for name, (server, _) in self._followed.items() if found.get(name) != server]:
                self._followed.pop(name)[1].cancel()
                if name not in found:
                    self.board.remove(name)
            for name, server in found.items():
                self.board.expect(name, server.room, server.streams)
                if name not in self._followed:
                    follower = Follower(server, self.board, session)
                    self._followed[name] = (server, asyncio.create_task(follower.run()))
            notify.watchdog()
            notify.status(self.status())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._moved.wait()

    async def _read(self) -> None:
        """Read context.json if it is another one; what was read last stands while there is none."""
        path = self._settings.context_file
        if path is None:
            return
        try:
            stat = path.stat()
        except OSError:
            return
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            context = await asyncio.to_thread(self._settings.context)
            if context:
                self._seen, self._context = seen, context

    def _figures(self) -> None:
        put, (streams, servers, up) = self._settings.metrics.set, self.board.figures()
        put("catalogue_streams", streams, "Streams that run.")
        put("catalogue_servers", servers, "Servers of stills that there should be.")
        put("catalogue_servers_up", up, "Servers of stills that answer.")
        put("catalogue_clients", len(self._text.clients), "Clients of the old catalogue at this moment.")
        put("catalogue_served_total", self._text.served, "Clients that got the old catalogue.", kind="counter")
        put("catalogue_refused_total", self._text.refused, "Clients that were too many.", kind="counter")
        followers = self._web.followers if self._web is not None else 0
        put("catalogue_followers", followers, "Readers of /events at this moment.")


async def _serve(settings: Settings, sent: Callable[[str], None] | None) -> None:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine of asyncio.run is a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.cancel)
    catalogue = Catalogue(settings, sent=sent)
    try:
        await catalogue.start()
        notify.ready(f"on port {settings.port}")
        await catalogue.run()
    finally:
        notify.stopping()
        await catalogue.stop()


def serve(settings: Settings, sent: Callable[[str], None] | None = None) -> int:
    """Run a catalogue until SIGTERM or SIGINT; returns the exit status. Raises ConfigError."""
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_serve(settings, sent))
    except OSError as error:
        log.error("cannot serve: %s", error.strerror or error)
        return 1
    return 0
