"""Whoever gets each picture as it comes: MJPEG and WebSocket.

Both are written past aiohttp: a picture whose predecessor the client has not taken yet is left out for it, so that a
slow one delays nobody and costs no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from station.http_connection import BINARY, CLOSE, Connection, frame
from station.http_server import HttpServer, Written, head
from station.stills.limits import Limits, Tally
from station.stills.pictures import MEDIA_TYPES, Picture, Unreadable
from station.stills.stream import Stream
from station.stills.web_pictures import enter
from station.stills.web_streams import Directory

log = logging.getLogger(__name__)

BOUNDARY = "picture"
FIRST = f"--{BOUNDARY}\r\n".encode()
MJPEG = {"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
LARGEST = 4096
"""Bytes of a WebSocket message of a client; nothing is expected."""
GOING_AWAY = frame((1001).to_bytes(2, "big"), CLOSE)
"""RFC 6455, 7.4.1."""


def part(picture: Picture) -> bytes:
    """A picture as a part of MJPEG. The next boundary is behind it, for browsers show it only then."""
    told = f"Content-Type: {MEDIA_TYPES[picture.kind]}\r\nContent-Length: {len(picture.data)}\r\n"
    return b"%bX-Picture-Number: %d\r\n\r\n%b\r\n%b" % (told.encode(), picture.number, picture.data, FIRST)


def message(picture: Picture) -> bytes:
    """A picture as one WebSocket message."""
    return frame(picture.data, BINARY)


class Viewer:
    """One client: what writes to its connection (a Box)."""

    def __init__(self, connection: Connection, tally: Tally, end: bytes) -> None:
        self._transport = connection.transport
        self._tally = tally
        self._end = end

    @property
    def busy(self) -> bool:
        """Whether it has not taken all yet; then this picture is left out for it, and counted."""
        if self._transport.get_write_buffer_size():
            self._tally.skipped += 1
            return True
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send the form of a picture."""
        if not self._transport.is_closing():
            self._tally.sent += 1
            self._tally.bytes += len(data)
            self._transport.write(data)

    def resume(self) -> None:
        """The kernel has everything: the next picture will be sent."""

    def finish(self) -> None:
        """The server ends."""
        if not self._transport.is_closing():
            self._transport.write(self._end)
            self._transport.close()

    def close(self) -> None:
        """The client has gone."""


class Form:
    """The pictures of one stream in one form, each made once for all clients.

    Args:
        stream: whose.
        kind: that the form needs; "" takes each as it is.
        make: the form.
    """

    def __init__(self, stream: Stream, kind: str, make: Callable[[Picture], bytes]) -> None:
        self._stream = stream
        self._kind = kind
        self._make = make
        self._picture: Picture | None = None
        self._data: bytes | None = None
        self._waiting: list[Viewer] = []
        self._task: asyncio.Task[None] | None = None

    def send(self, picture: Picture, viewer: Viewer) -> None:
        """Send a picture to one client, unless it is busy."""
        if viewer.busy:
            return
        if picture is not self._picture:
            if self._task is not None:
                # The conversion of an earlier one is still in work: this one is left out, or they would pile up.
                return
            self._picture, self._data = picture, None
            if self._kind in ("", picture.kind):
                self._data = self._make(picture)
            else:
                self._task = asyncio.ensure_future(self._convert(picture))
        if self._data is not None:
            viewer.write(self._data)
        elif self._task is not None:
            self._waiting.append(viewer)

    async def _convert(self, picture: Picture) -> None:
        try:
            self._data = self._make(await self._stream.as_kind(picture, self._kind))
        except Unreadable as error:
            log.warning("stream %s: %s", self._stream.key, error)
        finally:
            waiting, self._waiting, self._task = self._waiting, [], None
        for viewer in waiting:
            if self._data is not None and not viewer.busy:
                viewer.write(self._data)


class Viewers:
    """The handlers."""

    def __init__(self, directory: Directory, limits: Limits, server: HttpServer) -> None:
        self._directory = directory
        self._limits = limits
        self._server = server
        self._mjpeg = {stream.key: Form(stream, "JPG", part) for stream in directory.streams}
        self._messages = {stream.key: Form(stream, "", message) for stream in directory.streams}

    async def mjpeg(self, request: web.Request) -> web.StreamResponse:
        """Send MJPEG until the client goes."""
        stream = self._directory.find(request)
        connection = self._server.connection(request)
        ticket = enter(self._limits, request)
        tally = stream.tally("mjpeg")
        viewer = Viewer(connection, tally, b"")
        try:
            connection.stream(viewer, deaf=True)
            connection.transport.write(head(MJPEG) + FIRST)
            await self._watch(stream, self._mjpeg[stream.key], viewer, tally, connection.gone.wait())
        finally:
            ticket.leave()
        return Written()

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """Send each picture as a binary message until the client goes."""
        stream = self._directory.find(request)
        connection = self._server.connection(request)
        ticket = enter(self._limits, request)
        tally = stream.tally("websocket")
        viewer = Viewer(connection, tally, GOING_AWAY)
        socket = web.WebSocketResponse(max_msg_size=LARGEST, compress=False)
        try:
            await socket.prepare(request)
            connection.stream(viewer)
            await self._watch(stream, self._messages[stream.key], viewer, tally, _closed(socket))
        finally:
            ticket.leave()
        return socket

    async def _watch(self, stream: Stream, form: Form, viewer: Viewer, tally: Tally, end: Awaitable[object]) -> None:
        tally.clients += 1
        leave = stream.attach(lambda picture: form.send(picture, viewer))
        try:
            if (now := stream.now()) is not None:
                form.send(now, viewer)
            await end
        finally:
            leave()
            tally.clients -= 1


async def _closed(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass
