"""The station role `fallback`: shows each silent channel's default picture and text, and keeps the message log.

Run it by hand as `python3 -m station.fallback --config FILE`; with `--log [TOPIC]` it prints the log, newest first.
The environment variables of the original's watchdog come before the options.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from station import config as configuration
from station import notify
from station.config import Config, ConfigError, Paths
from station.manager_link import open_link
from station.metrics import Metrics
from station.visuals import message_log
from station.visuals.defaults import Defaults, Listed
from station.visuals.directories import open_directory
from station.visuals.directory import Directory, Listing
from station.visuals.directory_legacy import Absent, Legacy
from station.visuals.log_sender import BATCH, LegacyTaker, LogSender, ManagerTaker
from station.visuals.message_log import MessageLog
from station.visuals.reach import open_bus, shared_token
from station.visuals.store import State
from station.visuals.watchdog import Times, Watchdog

log = logging.getLogger(__name__)
ROLE = "fallback"
REPORT = 5.0
"""Seconds between two reports of metrics and status."""
ENVIRONMENT = {
    "check": "FB_FALLBACK_CHECK",
    "silence": "FB_FALLBACK_TIME",
    "channels_every": "FB_CHANNEL_CACHE",
    "log_age": "FB_LOGS_MAX_AGE",
    "log_cleanup": "FB_LOGS_CLEANUP",
}
"""The original's variables (reference 3.2). FB_QUEUE named a queue; the log that is read now needs none."""
DEFAULTS = {"check": 15.0, "silence": 60.0, "channels_every": 60.0, "log_age": 86400.0, "log_cleanup": 3600.0}
"""Seconds, the original's (reference 3.2)."""
OPTIONS = (
    "from", "check", "silence", "channels_every", "log_age", "log_cleanup", "picture_base", "manager",
    "manager_token", "certificate", "legacy",
)  # fmt: skip
"""Those of role.yml: a file for use by hand holds them as its own keys."""
EXAMPLE: dict[str, Any] = {
    "from": ["localhost/main"],
    "sources": {
        "localhost/main": {
            "role": "visuals",
            "kind": "visuals",
            "url": "http://127.0.0.1:8061/",
            "address": "127.0.0.1",
            "options": {
                "stomp_port": 61613,
                "token": "example-token",
                "broadcasters": {
                    "1": {
                        "channels": [
                            {
                                "topic": "/topic/fm/ce1/c221/09580/",
                                "picture": "https://example.org/one.png",
                                "text": "You are listening to One",
                                "link": "https://example.org/",
                            }
                        ]
                    }
                },
            },
        }
    },
    "check": 15,
    "silence": 60,
}


class Settings:
    """What the options and the environment say."""

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        """Read them. Raises ConfigError."""
        self.references = config.option("from", list, [])
        for name in self.references:
            if name not in config.sources:
                known = ", ".join(config.sources) or "none"
                raise ConfigError("options.from", f"names {name!r}; known are {known}")
        shared = [config.sources[name].options for name in self.references]
        self._config, self._environment = config, environment
        self.times = Times(self._seconds("silence"), self._seconds("check"), self._seconds("channels_every"))
        self.log_age, self.log_cleanup = self._seconds("log_age"), self._seconds("log_cleanup")
        self.picture_base = environment.get("FB_IMAGE_LOCATIONS") or config.option("picture_base", str, "")
        self.tls = any(options.get("tls") for options in shared)
        trees = [options.get("broadcasters") or {} for options in shared]
        self.listing = Listing.from_json({name: value for tree in reversed(trees) for name, value in tree.items()})
        self.legacy_url = environment.get("RADIODNS_API_URL") or config.option("legacy.api_url", str, "") or None
        self.manager = config.option("manager", str, "") or None
        self.manager_token = config.option("manager_token", str, "") or shared_token(config, self.references)
        self.certificate = config.option("certificate", str, "") or None
        self.source = f"{config.station}/{config.instance}"

    def _seconds(self, key: str) -> float:
        value, name = self._config.option(key, float, DEFAULTS[key]), f"options.{key}"
        if text := self._environment.get(ENVIRONMENT[key]):
            name = ENVIRONMENT[key]
            try:
                value = float(text)
            except ValueError as error:
                raise ConfigError(name, f"is {text!r}; needed are seconds") from error
        if not 0 < value < 1e9:
            raise ConfigError(name, f"is {value:g}; needed are seconds above 0")
        return value


class Fallback:
    """One watchdog with its log, its directory and its bus."""

    def __init__(self, config: Config, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        """Set all up. Raises ConfigError."""
        self._settings = settings
        self._directory: Directory = open_directory(
            settings.listing,
            config.paths.data,
            manager=settings.manager,
            manager_token=settings.manager_token,
            certificate=settings.certificate,
            legacy_url=settings.legacy_url,
            picture_base=settings.picture_base,
            tls=settings.tls,
        )
        self._memory = MessageLog(config.paths.data)
        known = self._memory.known()
        state = State(known.offset, known.mark, at=known.at)
        self._bus = open_bus(config, settings.references, state=state, environment=environment)
        legacy = self._directory if isinstance(self._directory, Legacy) else None
        self._legacy = legacy
        self._defaults: Defaults = legacy or Listed(self._directory, settings.picture_base)
        self._dog = Watchdog(self._bus, self._defaults, self._memory, settings.times)
        self._senders: list[LogSender] = []
        self._link = open_link(settings.manager, settings.manager_token, settings.certificate, tls=settings.tls)
        if self._link is not None:
            self._senders.append(LogSender(self._memory, ManagerTaker(self._link, settings.source)))
        elif legacy is not None:
            overlap = 2 * settings.times.check
            mine = LogSender(
                self._memory, LegacyTaker(legacy), batch=BATCH // 10, mine=lambda: self._dog.active, overlap=overlap
            )
            self._senders.append(mine)
        self._metrics = Metrics(config.paths.metrics, {"role": ROLE, "instance": config.instance})

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._dog.run())
                group.create_task(self._directory.run())
                group.create_task(self._clean())
                group.create_task(self._report())
                if self._legacy is not None:
                    group.create_task(self._clean_there(self._legacy))
                for sender in self._senders:
                    group.create_task(sender.run())
        finally:
            if self._link is not None:
                await self._link.close()
            with contextlib.suppress(Exception):
                await self._bus.close()
            await asyncio.to_thread(self._memory.close)

    async def _clean(self) -> None:
        while True:
            try:
                gone = await asyncio.to_thread(self._memory.clean, time.time() - self._settings.log_age)
                if gone:
                    log.info("%d messages left the log by their age", gone)
            except sqlite3.Error as error:
                log.error("the message log cannot be cleaned: %s", error)
            await asyncio.sleep(self._settings.log_cleanup)

    async def _clean_there(self, legacy: Legacy) -> None:
        while True:
            while not self._dog.active:
                await asyncio.sleep(1)
            with contextlib.suppress(Absent):
                await legacy.cleanup_logs(self._settings.log_age)
            await asyncio.sleep(self._settings.log_cleanup)

    async def _report(self) -> None:
        began, last = time.monotonic(), ""
        notify.ready("looking for the log")
        while True:
            notify.watchdog()
            text = "sends defaults" if self._dog.active else "stands by"
            if not self._bus.connected():
                text = "waits for the bus"
            text += f": {self._dog.channels} channels, {self._dog.silent} silent"
            if text != last or time.monotonic() - began >= REPORT:
                began, last = time.monotonic(), text
                notify.status(text)
                await asyncio.to_thread(self._measure)
            await asyncio.sleep(1)

    def _measure(self) -> None:
        dog, memory, put = self._dog, self._memory, self._metrics.set
        put("stationmaster_fallback_active", dog.active, "1 on the one watchdog that sends defaults.")
        put("stationmaster_fallback_bus_connected", self._bus.connected(), "1 while the log of messages is reached.")
        put("stationmaster_fallback_channels", dog.channels, "Channels with default visuals.")
        put(
            "stationmaster_fallback_defaults_total",
            dog.sent,
            "Defaults that were sent.",
            kind="counter",
        )
        put(
            "stationmaster_fallback_log_failing",
            self._memory.failing,
            "1 while the disk does not take the message log.",
        )
        put("stationmaster_fallback_log_lost_total", memory.lost, "Messages that are in no log.", kind="counter")
        if self._senders:
            with contextlib.suppress(sqlite3.Error):
                put(
                    "stationmaster_fallback_log_backlog",
                    self._memory.backlog(),
                    "Messages the manager has not got yet.",
                )
        self._metrics.write()


async def _serve(config: Config, settings: Settings) -> None:
    task = asyncio.ensure_future(Fallback(config, settings).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    notify.stopping()


def run(config: Config) -> int:
    """Run the role until it is asked to stop. Returns the exit status; raises ConfigError."""
    asyncio.run(_serve(config, Settings(config, os.environ)))
    return 0


def without_file(data: Path) -> int:
    """Run as the original's watchdog does, from environment variables alone. Returns the exit status."""
    configuration.set_up_log()
    paths = Paths(data, data / "run", data / "spool", data / "run" / "metrics.prom", data / "context.json")
    paths.run.mkdir(parents=True, exist_ok=True)
    try:
        return run(Config("event", None, os.uname().nodename, "127.0.0.1", ROLE, "main", {}, {}, {}, paths))
    except ConfigError as error:
        log.error("configuration: %s", error)
        return configuration.EX_CONFIG


def show(argv: list[str]) -> int:
    """Print the log: `--config FILE --log [TOPIC]`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="station.fallback", description="The message log, newest first.")
    parser.add_argument("--config", type=Path, required=True, help="config.json of the instance")
    parser.add_argument("--log", nargs="?", const="", default="", metavar="TOPIC", help="only topics that begin so")
    arguments = parser.parse_args(argv)
    try:
        config = configuration.load(arguments.config, ROLE)
        for entry in message_log.newest(config.paths.data, arguments.log):
            print(message_log.line(entry))
    except ConfigError as error:
        print(f"configuration {arguments.config}: {error}", file=sys.stderr)
        return configuration.EX_CONFIG
    except sqlite3.Error as error:
        print(f"there is no log in {config.paths.data}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say. Returns the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if any(item == "--log" or item.startswith("--log=") for item in given):
        return show(given)
    if not given and any(os.environ.get(name) for name in ("RABBITMQ_HOST", "RADIODNS_API_URL")):
        return without_file(Path.cwd() / f"{ROLE}-data")
    return configuration.program(ROLE, run, given, example=EXAMPLE, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
