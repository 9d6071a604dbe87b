"""The HTTP door: long polls, server-sent events, WebSockets, screens, pictures, health and metrics; see `routes`.

What is read here is public, so it may be read from any page (CORS). Nothing is logged of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from station.http_connection import HEAD_TIMEOUT, Connection
from station.http_server import Handler, HttpServer, figures
from station.visuals import websocket
from station.visuals.exposition import Exposition
from station.visuals.history import History
from station.visuals.longpoll import POLL, LongPoll
from station.visuals.screen import Screen
from station.visuals.service import Service
from station.visuals.streams import HEARTBEAT, Streams

log = logging.getLogger(__name__)

PARTING = 1.0
"""Seconds for clients to take the last of it when the instance ends, as HttpServer has it."""
LARGEST_PICTURE = 20 << 20
"""Bytes; a picture is read whole, as one answer."""
ALLOWED = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Last-Event-ID, Cache-Control",
}


class HttpDoor:
    """The HTTP servers of an instance: one, and with TLS another one.

    Args:
        service: the instance.
        exposition: its figures.
        domain: of the screens' topics, unless the address of the page says another.
        pictures: name to file, for `/pictures/<name>`; nothing else is ever read.
        heartbeat: seconds between two signs of life of a stream of events.
        poll: seconds for which a long poll waits.
        head_timeout: seconds until a client has to have asked for something.
    """

    def __init__(
        self,
        service: Service,
        exposition: Exposition,
        *,
        domain: str,
        pictures: Mapping[str, Path] | None = None,
        heartbeat: float = HEARTBEAT,
        poll: float = POLL,
        head_timeout: float = HEAD_TIMEOUT,
    ) -> None:
        self._service = service
        self._exposition = exposition
        self._pictures = dict(pictures or {})
        self._server = exposition.http = HttpServer(
            total=service.settings.total,
            per_address=service.settings.per_address,
            head_timeout=head_timeout,
            text_errors=True,
            preflight=None,
        )
        self._screen = Screen(domain)
        history = History(service.hub)
        self._poll = LongPoll(service, history, poll)
        self._streams = Streams(service, history, self._screen.version, heartbeat)
        self._server.add(*self.routes())

    def routes(self) -> list[web.RouteDef]:
        """Return what is served."""
        return [
            web.get("/healthz", self._health),
            web.get("/metrics", self._metrics),
            web.get("/pictures/{name}", self._picture),
            web.get("/radiodns/vis/vis.json", self._poll.json, allow_head=False),
            web.get("/radiodns/vis/vis", self._poll.text, allow_head=False),
            web.get("/comet", self._poll.text, allow_head=False),
            web.get("/radiodns/push/1.0/{identifier:.+}", self._with_connection(self._streams.push), allow_head=False),
            web.options("/{path:(?:radiodns/.*|comet)}", self._preflight),
            web.get("/stomp", self._socket(websocket.stomp), allow_head=False),
            web.get("/radiovis/{topic:.+}", self._socket(websocket.player), allow_head=False),
            web.get("/screen/{room}", self._screen.page),
            web.get("/screen-files/{name}", self._screen.file),
        ]

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on `http_port`, and with TLS on its `https_port`. Raises OSError: a port cannot be had."""
        settings = self._service.settings
        await self._server.start()
        await self._server.listen(settings.http_address, settings.http_port)
        log.info("HTTP on port %d", settings.http_port)
        if tls is not None and settings.tls is not None:
            await self._server.listen(settings.http_address, settings.tls.https_port, tls)
            log.info("HTTPS on port %d", settings.tls.https_port)

    async def stop(self) -> None:
        """Take no more requests, end all streams, and close; takes at most some seconds."""
        await self._server.close(PARTING, answers=True)

    def _with_connection(self, serve: Callable[[web.Request, Connection], Awaitable[web.StreamResponse]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await serve(request, self._server.connection(request))

        return handler

    def _socket(self, serve: Callable[[Service, web.Request, Connection], Awaitable[web.StreamResponse]]) -> Handler:
        async def handler(request: web.Request, connection: Connection) -> web.StreamResponse:
            return await serve(self._service, request, connection)

        return self._with_connection(handler)

    async def _preflight(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=ALLOWED)

    async def _health(self, request: web.Request) -> web.Response:
        bus = self._service.bus
        return web.json_response({"bus": {"connected": bus.connected(), "caught_up": bus.caught_up()}})

    async def _metrics(self, request: web.Request) -> web.Response:
        return figures(self._exposition.text())

    async def _picture(self, request: web.Request) -> web.Response:
        path = self._pictures.get(request.match_info["name"])
        content = None
        if path is not None:
            with contextlib.suppress(OSError):
                if path.stat().st_size <= LARGEST_PICTURE:
                    content = await asyncio.to_thread(path.read_bytes)
        kind = mimetypes.guess_type(request.match_info["name"])[0] or ""
        if content is None or not kind.startswith("image/"):
            raise web.HTTPNotFound(text="no such picture\n")
        return web.Response(
            body=content,
            content_type=kind,
            headers={
                "Cache-Control": "max-age=60",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            },
        )
