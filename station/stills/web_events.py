"""`/events`: what streams there are, as a line of JSON at once and at each change, and a sign of life between."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from station.http_connection import Connection
from station.http_server import HttpServer, Written, head
from station.stills.limits import Limits
from station.stills.web_pictures import enter
from station.stills.web_streams import Directory, dumps

HEARTBEAT = 0.5
"""Seconds between two lines: a catalogue that shows within 2 s who died misses two of them and has time left."""
NDJSON = {"Content-Type": "application/x-ndjson; charset=utf-8", "X-Accel-Buffering": "no"}
"""nginx would keep lines until it has some kilobytes of them."""


class Ears:
    """One client (a Box): nothing waits for it, so its connection just closes."""

    def __init__(self, connection: Connection) -> None:
        self._transport = connection.transport

    def resume(self) -> None:
        """Nothing waits."""

    def finish(self) -> None:
        """The server ends."""
        self._transport.close()

    def close(self) -> None:
        """The client has gone."""


class Events:
    """The handler."""

    def __init__(self, directory: Directory, limits: Limits, server: HttpServer) -> None:
        self._directory = directory
        self._limits = limits
        self._server = server
        self._text = b""
        self._made = float("-inf")

    def _told(self) -> bytes:
        """The line of now; made at most twice a heartbeat, however many ask for it."""
        now = asyncio.get_running_loop().time()
        if now - self._made > HEARTBEAT / 2:
            self._text = dumps(self._directory.told()).encode() + b"\n"
            self._made = now
        return self._text

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send lines until the client goes."""
        connection = self._server.connection(request)
        ticket = enter(self._limits, request)
        try:
            connection.stream(Ears(connection), deaf=True)
            transport = connection.transport
            transport.write(head(NDJSON))
            known = b""
            while not connection.gone.is_set():
                # a client that does not read gets what is true when it reads again
                if not transport.get_write_buffer_size() and not transport.is_closing():
                    text = self._told()
                    transport.write(b"\n" if text == known else text)
                    known = text
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(connection.gone.wait(), HEARTBEAT)
        finally:
            ticket.leave()
        return Written()
