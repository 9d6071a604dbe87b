"""An HTTP server for what is public: every page may read it (CORS), and clients that are slow, silent or gone are
bounded (see http_connection.py). Nothing is logged of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from station.http_connection import HEAD_TIMEOUT, Connection, Guard, abort

HEAD_LINE = 8190
"""Bytes of a request's first line and of each header: aiohttp's and nginx's own default."""
BODY = 4096
"""Bytes of a request's body; none is expected."""
IDLE = 20.0
"""Seconds after which a connection without a request is closed."""
BACKLOG = 1024
PARTING = 0.5
"""Seconds for clients to take the last of it when the server ends."""
SEND_BUFFER = 128 << 10
"""What the kernel holds for one client (it takes the double): more would only be older when a slow one gets it."""
GONE = 60
"""Seconds after which a client that confirms nothing, or takes nothing, counts as gone."""
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, GONE * 1000),
)
PUBLIC = {"Access-Control-Allow-Origin": "*"}
HEADERS = {
    **PUBLIC,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer that does not say otherwise."""
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "If-None-Match, Cache-Control",
}
RETRY = {"Retry-After": "2"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Value = TypeVar("Value")


def _of_the_server(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp is about us: malformed requests are not, and their text holds what was sent."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_requests = logging.getLogger(f"{__name__}.requests")
_requests.addFilter(_of_the_server)


class Written(web.StreamResponse):
    """An answer that went past aiohttp, to the connection itself."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to be sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to be sent."""


def figures(text: str) -> web.Response:
    """Return the answer that Prometheus reads; `text` is in its exposition format 0.0.4."""
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def head(headers: Mapping[str, str]) -> bytes:
    """The head of an answer without an end, which closes its connection: what every client of MJPEG understands."""
    told = {**HEADERS, **headers, "Connection": "close"}
    return "".join(["HTTP/1.1 200 OK\r\n", *(f"{key}: {value}\r\n" for key, value in told.items()), "\r\n"]).encode()


class HttpServer:
    """A server, on any number of ports.

    Args:
        total: connections.
        per_address: connections of one address.
        head_timeout: seconds until a client has to have asked for something.
        text_errors: an error is the text that it was raised with; else JSON, `{"error": "…"}`.
        preflight: what every OPTIONS is answered with; None: only routes answer it.
    """

    def __init__(
        self,
        *,
        total: int,
        per_address: int,
        head_timeout: float = HEAD_TIMEOUT,
        text_errors: bool = False,
        preflight: Mapping[str, str] | None = PREFLIGHT,
    ) -> None:
        self.guard = Guard(total, per_address, head_timeout)
        self.requests = 0
        self._text_errors = text_errors
        self._preflight = preflight
        self._routes: list[web.RouteDef] = []
        self._runner: web.AppRunner | None = None
        self._make: Callable[[], asyncio.Protocol] | None = None
        self._servers: list[asyncio.Server] = []

    def add(self, *routes: web.RouteDef) -> None:
        """Serve these; to be called before the start."""
        self._routes += routes

    async def start(self, plugs: Sequence[socket.socket] = ()) -> None:
        """Serve from now on, and listen on sockets that are bound already; they are closed in the end."""
        app = web.Application(middlewares=[self._middleware], client_max_size=BODY)
        app.add_routes(self._routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_requests,
            keepalive_timeout=IDLE,
            max_line_size=HEAD_LINE,
            max_field_size=HEAD_LINE,
        )
        await self._runner.setup()
        self._make = self._runner.server
        loop = asyncio.get_running_loop()
        for plug in plugs:  # inherited by the connections
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
            self._servers.append(await loop.create_server(self._protocol, sock=plug, backlog=BACKLOG))

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a port after the start; `address` "" is all of this machine. Raises OSError: it cannot be had."""
        self._servers.append(
            await asyncio.get_running_loop().create_server(
                self._protocol,
                address or None,
                port,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=self.guard.head_timeout if tls else None,
            )
        )

    def _protocol(self) -> Connection:
        if self._make is None:
            raise RuntimeError("start() has not set it up")
        return Connection(self.guard, self._make())

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._servers[0].sockets[0].getsockname()[1]) if self._servers else 0

    async def close(self, parting: float = PARTING, *, answers: bool = False) -> None:
        """Take no more requests, end all streams, and close.

        Args:
            parting: seconds for clients to take the last of their stream, and then again for handlers to end.
            answers: let what is asked for outside streams be answered in that time; else it is cut off.
        """
        for server in self._servers:
            server.close()
        streams = [connection for connection in self.guard.open.values() if connection.streams]
        for connection in streams:
            connection.stop()
        if streams:
            waits = [asyncio.ensure_future(connection.gone.wait()) for connection in streams]
            _, late = await asyncio.wait(waits, timeout=parting)
            for wait in late:
                wait.cancel()
        for connection in streams if answers else list(self.guard.open.values()):
            abort(connection.transport)
        await asyncio.sleep(0)
        if self._runner is not None:
            if self._runner.server is not None:
                await self._runner.server.shutdown(parting)
            await self._runner.cleanup()
        for connection in list(self.guard.open.values()):
            abort(connection.transport)
        await asyncio.sleep(0)

    def connection(self, request: web.Request) -> Connection:
        """The connection of a request. Raises ConnectionResetError: it has gone."""
        found = self.guard.open.get(request.transport) if request.transport is not None else None
        if found is None:
            raise ConnectionResetError("the client has gone")
        return found

    async def while_there(self, request: web.Request, work: Coroutine[Any, Any, Value]) -> Value:
        """Do `work` unless the client goes meanwhile: then it is cancelled. Raises ConnectionResetError."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self.connection(request).gone.wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionResetError("the client has gone")
            return task.result()
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests += 1
        if request.transport is not None and (connection := self.guard.open.get(request.transport)) is not None:
            connection.began()
        try:
            if request.method == "OPTIONS" and self._preflight is not None:
                answer: web.StreamResponse = web.Response(status=204, headers=self._preflight)
            else:
                answer = await handler(request)
        except ConnectionResetError:
            return Written()  # nobody is there to read it
        except web.HTTPException as error:
            if self._text_errors:
                error.headers.update(PUBLIC)
                raise
            answer = web.json_response({"error": (error.text or error.reason).strip()}, status=error.status)
            answer.headers.update({key: error.headers[key] for key in ("Allow", "Retry-After") if key in error.headers})
        if not answer.prepared:
            for key, value in HEADERS.items():
                answer.headers.setdefault(key, value)
        return answer
