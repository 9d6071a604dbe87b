"""An instance of visuals from its start to its end: what `station.visuals` runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from station import notify
from station.config import Config, ConfigError
from station.metrics import Metrics
from station.visuals import conditional
from station.visuals import settings as reading
from station.visuals.alone import Alone
from station.visuals.bus import Bus, Entry
from station.visuals.directories import open_directory as open_one
from station.visuals.directory import Directory
from station.visuals.events import Events, make_target
from station.visuals.exposition import Exposition
from station.visuals.http import HttpDoor
from station.visuals.server import Server
from station.visuals.service import Service
from station.visuals.settings import Settings
from station.visuals.store import State, Store

log = logging.getLogger(__name__)
CATCH_UP = 5.0
"""Seconds at the start in which the log is read before anybody is let in; with the broker away nobody waits longer."""
STEP = 0.02
BEAT = 1.0
"""Seconds between two signs of life to systemd, made by the loop that serves everybody."""


def open_bus(config: Config, settings: Settings, state: State) -> Bus:
    """Return the bus that the settings ask for. Raises ConfigError, sqlite3.Error."""
    if not settings.brokers and settings.rabbit is None:
        return Alone(settings.data)
    # Not above: who is alone does without its memory and the time to load it.
    from station.visuals.amqp import Broker
    from station.visuals.amqp_link import Node, nodes

    rabbit = settings.rabbit
    members = nodes(config, settings.brokers)
    if rabbit is not None:
        members = [Node(rabbit.host, rabbit.port, rabbit.user, rabbit.password, rabbit.vhost)]
    try:
        return Broker(members, exchange=settings.exchange, state=state)
    except ValueError as error:
        raise ConfigError("options.brokers", str(error)) from error


def open_directory(settings: Settings) -> Directory:
    """Return the directory that the settings ask for. Raises ConfigError."""
    return open_one(
        settings.listing,
        settings.data,
        manager=settings.manager,
        manager_token=settings.manager_token,
        legacy_url=settings.legacy.get("api_url"),
        tls=settings.tls is not None,
    )


class Instance:
    """Everything that one process serves."""

    def __init__(self, config: Config, settings: Settings) -> None:
        """Open the files. Raises ConfigError, OSError, sqlite3.Error."""
        self._store = Store(settings.data)
        self._state = self._store.load()
        bus = open_bus(config, settings, self._state)
        self.service = Service(settings, bus, open_directory(settings))
        self.service.hub.restore(self._state.values, self._state.seen)
        metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
        self._events = Events(make_target(settings.events) if settings.events else None)
        self.service.listeners.append(self._events.note)
        self._exposition = Exposition(self.service, metrics, self._events)
        self._door = HttpDoor(self.service, self._exposition, domain=settings.domain, pictures=settings.pictures)
        self._failed: BaseException | None = None
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: the certificate cannot be used.
            OSError: a port is taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        service = self.service
        server = Server(service)
        work = [service.directory.run(), service.bus.run(self._state.offset, self._deliver)]
        tasks = [self._start(one) for one in (*work, self._events.run(), self._exposition.run())]
        try:
            await self._caught_up()
            await server.start()
            await self._door.start(server.context)
            service.tell("servers")
            settings = service.settings
            ports = f"{settings.stomp_port}" + (f" and {settings.tls.stomp_port} (TLS)" if settings.tls else "")
            log.info("STOMP on port %s", ports)
            notify.ready(f"STOMP on port {ports}")
            while not self._stop.is_set():
                notify.watchdog()
                self._report()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), BEAT)
        finally:
            notify.stopping()
            await asyncio.gather(self._door.stop(), server.stop())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.bus.close()
            self._store.close()
        if self._failed is not None:
            raise self._failed

    async def _caught_up(self) -> None:
        """Wait a little for what came to the log meanwhile, so that nobody is told an old last value."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                while not (self.service.bus.caught_up() or self._stop.is_set()):
                    await asyncio.sleep(STEP)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a part of the program failed, so it ends", exc_info=error)
            self._failed = error
            self._stop.set()

    async def _deliver(self, entry: Entry) -> None:
        message = conditional.settle(entry.message, self._newest)
        if message is not None:
            entry = replace(entry, message=message)
            await self.service.deliver(entry)
            self._store.note(entry)

    def _newest(self, topic: str) -> tuple[str, float] | None:
        last = self.service.hub.last(topic)
        return (last.id, last.when) if last else None

    def _report(self) -> None:
        service = self.service
        text = f"{len(service.connections)} clients, {service.hub.subscriptions} subscriptions"
        if not service.bus.connected():
            text += ", the broker is away"
        notify.status(text)


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status. Raises ConfigError."""
    settings = reading.read(config)
    try:
        asyncio.run(_main(config, settings))
    except OSError as error:
        log.error("cannot serve: %s", error)
        return 1
    return 0


async def _main(config: Config, settings: Settings) -> None:
    await Instance(config, settings).run()
