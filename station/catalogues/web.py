"""The catalogue on `http_port`: JSON, a stream of its changes, the page, health and metrics.

All of it is public, so it may be read from any page (CORS).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from station.catalogues.board import Board
from station.http_server import HEADERS, HttpServer, figures
from station.static_page import StaticPage
from station.stills import ports

log = logging.getLogger(__name__)
STATIC_FILES = ("page/index.html", "page/catalogue.css", "page/catalogue.js")
BEAT = 0.5
"""Seconds between two signs of life of a stream of events; as the servers of stills do it."""
PAUSE = 0.2
"""Seconds between two answers of such a stream: many changes at once are told together."""
FOLLOWERS = 500
"""Streams of events at a time."""
CONNECTIONS, PER_ADDRESS = 2000, 200
"""At a time; a browser opens up to six, and a proxy is one address for many."""


class Web:
    """The HTTP server of a board; `metrics` returns the text of `/metrics`."""

    def __init__(
        self, board: Board, port: int, metrics: Callable[[], str], *, listen: str = "", beat: float = BEAT
    ) -> None:
        self._board, self._port, self._metrics, self._listen, self._beat = board, port, metrics, listen, beat
        # pictures come from the servers of stills, wherever they are
        page = StaticPage(Path(__file__).parent, STATIC_FILES, pictures="http: https: data:")
        self._server = HttpServer(total=CONNECTIONS, per_address=PER_ADDRESS)
        self._server.add(
            web.get("/", page.index),
            web.get("/files/{name}", page.file),
            web.get("/streams", self._streams),
            web.get("/events", self._events, allow_head=False),
            web.get("/metrics", self._figures),
            web.get("/healthz", self._health),
        )
        self.followers = 0

    async def start(self) -> None:
        """Listen. Raises OSError: the port cannot be had."""
        plugs = ports.bind(self._listen, self._port, socket.SOCK_STREAM, "the catalogue's page")
        await self._server.start(plugs)
        log.info("the catalogue's page and JSON on HTTP port %d", self._port)

    async def stop(self) -> None:
        """End all streams of events, and close."""
        await self._server.close()

    async def _streams(self, request: web.Request) -> web.Response:
        return web.Response(body=self._board.answer(), content_type="application/json")

    async def _health(self, request: web.Request) -> web.Response:
        streams, servers, up = self._board.figures()
        return web.json_response({"streams": streams, "servers": servers, "running": up})

    async def _figures(self, request: web.Request) -> web.Response:
        return figures(self._metrics())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.followers >= FOLLOWERS:
            raise web.HTTPServiceUnavailable(text="too many streams of events", headers={"Retry-After": "10"})
        # nginx would keep lines until it has some kilobytes of them
        kind = {"Content-Type": "application/x-ndjson; charset=utf-8", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers={**HEADERS, **kind})
        self.followers += 1
        try:
            await response.prepare(request)
            await self._server.while_there(request, self._follow(response))
        finally:
            self.followers -= 1
        return response

    async def _follow(self, response: web.StreamResponse) -> None:
        version = -1
        while True:
            if self._board.version != version:
                version = self._board.version
                await response.write(self._board.answer() + b"\n")
                await asyncio.sleep(PAUSE)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat):
                    await self._board.changed(version)
                    continue
            await response.write(b"\n")
