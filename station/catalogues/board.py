"""All streams that run now, as far as this catalogue knows, and who waits for a change of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from station.catalogues.rows import Row
from station.catalogues.told import Stream, row_of

KEPT = 2000
"""Numbers of streams beyond which a server keeps those of its present streams only: one whose keys are others in each
line would fill the memory."""


@dataclass(slots=True)
class _Server:
    """One source of streams; `up` is None until it was reached or missed for the first time."""

    room: str | None
    up: bool | None = None
    text: str = ""
    since: float = field(default_factory=time.time)
    base: str | None = None
    streams: list[Stream] = field(default_factory=list)


class Board:
    """What is shown.

    Servers number their streams from 1, each for itself, and old clients take a stream by its ID: so a stream whose ID
    another one has gets the next free one, and keeps it (`number`). The rows of descriptor files stay as they are.
    """

    def __init__(self, event: str = "") -> None:
        """Begin empty; `event` is the event's name."""
        self._event = event
        self._servers: dict[str, _Server] = {}
        self._files: list[tuple[Row, Stream]] = []
        self._numbers: dict[tuple[str, str], tuple[int, int]] = {}
        self._version = 0
        self._answer: tuple[int, bytes] = (-1, b"")
        self._changed = asyncio.Event()

    def expect(self, name: str, room: str | None, streams: Iterable[tuple[str, int]]) -> None:
        """Take a server that should run, with key and id of its streams, in the order in which they get numbers."""
        if name not in self._servers:
            self._servers[name] = _Server(room)
            self._touch()
        elif self._servers[name].room != room:
            self._servers[name].room = room
            self._touch()
        for key, number in streams:
            self._number(name, key, number)

    def put(self, name: str, streams: list[Stream], base: str | None) -> None:
        """Show the streams of a server that runs; `base` is where its HTTP paths begin."""
        server = self._servers.setdefault(name, _Server(None))
        if len(self._numbers) > KEPT:
            present = {one["key"] for one in streams}
            self._numbers = {key: it for key, it in self._numbers.items() if key[0] != name or key[1] in present}
        told = [{**one, "number": self._number(name, one["key"], one["id"])} for one in streams]
        if server.up and server.streams == told and server.base == base:
            return
        if not server.up:
            server.since = time.time()
        server.up, server.text, server.base, server.streams = True, "", base, told
        self._touch()

    def away(self, name: str, text: str) -> None:
        """Take a server's streams away, for a reason."""
        server = self._servers.get(name)
        if server is None or (server.up is False and server.text == text):
            return
        if server.up is not False:
            server.since = time.time()
        server.up, server.text, server.streams = False, text, []
        self._touch()

    def remove(self, name: str) -> None:
        """Forget a server that should not run any more."""
        self._numbers = {key: value for key, value in self._numbers.items() if key[0] != name}
        if self._servers.pop(name, None) is not None:
            self._touch()

    def files(self, found: list[tuple[Row, Stream]]) -> None:
        """Show these streams of descriptor files, each as a row and as JSON."""
        if found != self._files:
            self._files = found
            self._touch()

    def rows(self) -> list[Row]:
        """Return the rows of the old text: those of files in their order, then those of servers by number."""
        numbered = [row for server in self._servers.values() for one in server.streams if (row := row_of(one))]
        return [row for row, _ in self._files] + sorted(numbered, key=lambda row: row.id)

    def figures(self) -> tuple[int, int, int]:
        """Return how many streams run, how many servers there should be, and how many of these answer."""
        streams = len(self._files) + sum(len(one.streams) for one in self._servers.values())
        return streams, len(self._servers), sum(one.up is True for one in self._servers.values())

    def answer(self) -> bytes:
        """Return all as JSON: `streams`, each with its `server`, `base` and `number`, and `servers` with states."""
        if self._answer[0] != self._version:
            streams = [one for _, one in self._files]
            for name, server in self._servers.items():
                streams += [{**one, "server": name, "base": server.base} for one in server.streams]
            told = {"event": self._event, "streams": streams, "servers": self._told()}
            self._answer = (self._version, json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
        return self._answer[1]

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        return self._version

    async def changed(self, version: int) -> None:
        """Return when the version is not this one any more."""
        while self._version == version:
            await self._changed.wait()

    def _told(self) -> list[dict[str, Any]]:
        words = {None: "waiting", True: "running", False: "away"}
        return [
            {"name": name, "room": one.room, "state": words[one.up], "state_text": one.text, "since": one.since}
            for name, one in self._servers.items()
        ]

    def _number(self, server: str, key: str, wanted: int) -> int:
        """Return the number of a stream: its own, or while another has that, the next free one."""
        known, number = self._numbers.get((server, key), (None, 0))
        if known != wanted:
            self._numbers.pop((server, key), None)
            taken = {number for _, number in self._numbers.values()}
            number = wanted if wanted not in taken else max(taken) + 1
            self._numbers[server, key] = (wanted, number)
        return number

    def _touch(self) -> None:
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
