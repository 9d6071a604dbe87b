"""Following a server of stills: its `/events` tell each change at once, and that it lives."""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from dataclasses import dataclass

import aiohttp

from station.catalogues.board import Board
from station.catalogues.told import NotUnderstood, streams_of

log = logging.getLogger(__name__)
SILENCE = 1.5
"""Seconds without a byte after which a server has gone: it says something each 0.5 s, and a machine that lost its
power closes no connection."""
RETRY = 0.4
"""Seconds until a server that is away is tried again; with SILENCE below the 2 s in which all is shown."""
LONGEST = 4 << 20
"""Bytes of a line: 1,000 streams take 0.6 MB."""


@dataclass(frozen=True, slots=True)
class Door:
    """An address of a server: `base` such as `http://192.0.2.7:8070`; `registered` if its station said so."""

    base: str
    registered: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """A server to follow: `name` is `station/instance`, `doors` its addresses, the best first."""

    name: str
    room: str | None
    streams: tuple[tuple[str, int], ...]
    doors: tuple[Door, ...]


class Follower:
    """Keeps what a board shows of one server true."""

    def __init__(self, server: Server, board: Board, session: aiohttp.ClientSession) -> None:
        """Take a server and where to show it."""
        self._server, self._board, self._session = server, board, session
        self._up = self._logged = False

    async def run(self) -> None:
        """Follow until cancelled; a failure is logged when it begins, and when it is over."""
        turn = 0
        while True:
            door = self._server.doors[turn % len(self._server.doors)]
            try:
                await self._read(door)
                text = "it ended"
            except TimeoutError:
                text = "it says nothing"
            except NotUnderstood as error:
                text = str(error)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._board.away(self._server.name, text)
            if not self._logged:
                log.warning("%s at %s is away: %s", self._server.name, door.base, text)
                self._logged = True
            # one that was there is tried where it was, another one elsewhere, too
            turn += 0 if self._up else 1
            self._up = False
            await asyncio.sleep(RETRY)

    async def _read(self, door: Door) -> None:
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            asyncio.timeout(SILENCE) as limit,
            self._session.get(door.base + "/events", allow_redirects=False, timeout=timeout) as response,
        ):
            if response.status != 200:
                raise NotUnderstood(f"it answers with status {response.status}")
            waiting = b""
            async for part in response.content.iter_any():
                limit.reschedule(loop.time() + SILENCE)
                *lines, waiting = (waiting + part).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._take(line, door)
                if len(waiting) > LONGEST:
                    raise NotUnderstood(f"it sends a line of more than {LONGEST} bytes")

    def _take(self, line: bytes, door: Door) -> None:
        streams, address = streams_of(line)
        if door.registered:
            # Only what the server did not set by itself: a multicast group stays.
            host = urllib.parse.urlsplit(door.base).hostname
            streams = [{**one, "address": host} if one["address"] == address else one for one in streams]
        if not self._up:
            log.info("%s at %s runs", self._server.name, door.base)
            self._up, self._logged = True, False
        self._board.put(self._server.name, streams, door.base)
