"""The streams over HTTP: `/streams` and what is below, `/events`, `/metrics`, `/healthz`, and a page at `/`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from station.http_connection import HEAD_TIMEOUT
from station.http_server import HttpServer, figures
from station.static_page import StaticPage
from station.stills import ports
from station.stills.exposition import Exposition
from station.stills.limits import Limits
from station.stills.settings import Settings
from station.stills.stream import Stream
from station.stills.web_events import Events
from station.stills.web_pictures import Pictures
from station.stills.web_streams import Directory
from station.stills.web_viewers import Viewers

log = logging.getLogger(__name__)
STATIC_FILES = ("page/index.html", "page/page.css", "page/page.js")


class Serving(Protocol):
    """What is served: all of it belongs to the instance (instance.py)."""

    @property
    def settings(self) -> Settings:
        """Its options."""

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Its streams, by key."""

    @property
    def limits(self) -> Limits:
        """What all streams share."""


class Web:
    """The HTTP server of an instance.

    Args:
        serving: what it serves.
        head_timeout: seconds until a client has to have asked for something.
    """

    def __init__(self, serving: Serving, *, head_timeout: float = HEAD_TIMEOUT) -> None:
        settings, limits, streams = serving.settings, serving.limits, tuple(serving.streams.values())
        self._settings = settings
        directory = Directory(settings, streams)
        self._exposition = Exposition(settings, streams, limits)
        self._directory = directory
        # Who holds a stream must still be able to ask for a picture, and a refusal be read.
        self.server = HttpServer(
            total=2 * limits.settings.clients,
            per_address=2 * limits.settings.per_address,
            head_timeout=head_timeout,
        )
        pictures = Pictures(directory, limits, self.server)
        viewers = Viewers(directory, limits, self.server)
        # `self` alone does not mean WebSockets to all browsers; pictures that came by one are shown from memory
        page = StaticPage(Path(__file__).parent, STATIC_FILES, pictures="'self' blob:", connections="'self' ws: wss:")
        self.server.add(
            web.get("/", page.index),
            web.get("/page/{name}", page.file),
            web.get("/healthz", self._health),
            web.get("/metrics", self._metrics),
            web.get("/events", Events(directory, limits, self.server).stream, allow_head=False),
            web.get("/streams", directory.answer),
            web.get(r"/streams/{stream}/{what:latest|next|\d+}", pictures.picture),
            web.get("/streams/{stream}/mjpeg", viewers.mjpeg, allow_head=False),
            web.get("/streams/{stream}/ws", viewers.websocket, allow_head=False),
            web.get("/streams/{stream}/rtp.sdp", directory.sdp),
        )
        self._file: asyncio.Task[None] | None = None

    async def start(self) -> Web:
        """Listen. Raises OSError: the port cannot be had."""
        settings = self._settings
        await self.server.start(ports.bind(settings.http_address, settings.http_port, socket.SOCK_STREAM, "HTTP"))
        log.info("HTTP on port %d", self.server.port)
        if self._settings.metrics is not None:
            self._file = asyncio.create_task(self._exposition.run())
        return self

    async def close(self) -> None:
        """End all that is served; takes at most about a second."""
        if self._file is not None:
            self._file.cancel()
        await self.server.close()

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"streams": {one.key: one.state.word for one in self._directory.streams}})

    async def _metrics(self, request: web.Request) -> web.Response:
        return figures(self._exposition.text())


async def start(serving: Serving) -> Web:
    """Listen on the settings' `http_port`; `close()` ends it. Raises OSError: the port cannot be had."""
    return await Web(serving).start()
