"""What all requests share: settings, database, keys, and the parts that work in the background."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from typing import Protocol

from api.clock import now
from api.database import Database
from api.guard import RateLimit
from api.history import History
from api.inventory import Inventory
from api.metrics import Requests
from api.push import Push
from api.queue import Queue
from api.registry import Registry
from api.retention import Retention
from api.schedule import Schedule
from api.settings import Settings
from api.visuals import Directory


class Part(Protocol):
    """Something that works beside the requests from the manager's start to its end."""

    def start(self) -> None:
        """Begin, without waiting for anything that may take longer than a second."""

    def stop(self) -> None:
        """End within five seconds; called once, also when the start of another part failed."""


class Manager:
    """The manager without its HTTP; `app.state.manager` in every request.

    Raises what `Settings.make_data` and the database's migration raise.
    """

    def __init__(self, settings: Settings) -> None:
        settings.make_data()
        self.settings = settings
        self.started_at = now()
        self.database = Database(settings.url)
        self.database.migrate()
        self.open_limit = RateLimit()
        self.identity = self._kept("identity", lambda: secrets.token_hex(8))
        """Which data folder this is, among several managers on one database."""
        self.registry = Registry(self, self._kept("station-key", lambda: secrets.token_hex(32)))
        self.page_key = self._kept("page-key", lambda: secrets.token_hex(32))
        """Signs the cookies of the page."""
        self.requests = Requests()
        self.ending = threading.Event()
        """Set as soon as the manager is told to end, so that answers which last do not keep it."""
        self.inventory = Inventory(settings, self.database)
        self.runs = Queue(self)
        self.schedule = Schedule(self)
        self.directory = Directory(self)
        retention = Retention(settings, self.database)
        history = History(self.registry, self.database)
        self.parts: list[Part] = [self.inventory, self.registry, self.runs, self.schedule, retention, history]
        self.push: Push | None = None
        if settings.push:
            self.push = Push(self)
            self.parts.append(self.push)

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.settings.data / name
        if not path.exists():
            staged = path.with_suffix(".new")
            staged.touch(mode=0o600)
            with staged.open("w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            staged.rename(path)
        return path.read_text().strip()

    def start(self) -> None:
        """Start all parts."""
        for part in self.parts:
            part.start()

    def stop(self) -> None:
        """Stop all parts, the last one first, and close the database."""
        self.ending.set()
        for part in reversed(self.parts):
            part.stop()
        self.database.close()
