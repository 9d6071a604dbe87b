"""One connection of an HTTP server, below aiohttp: its limits and time-outs, and streams written past aiohttp.

aiohttp waits for ever for the head of a first request and for a client that does not read; and its writer must be
awaited, where whoever sends one thing to a thousand clients must not wait. So each connection's protocol is wrapped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Protocol, cast

HEAD_TIMEOUT = 10.0
"""Seconds until the head of a connection's first request has to be there (as for CONNECT of STOMP)."""
WRITE_TIMEOUT = 30.0
"""Seconds for which a plain answer may wait for a client that takes nothing."""
AHEAD = 65536
"""Bytes that a client may send while its request is worked on; aiohttp would collect requests without end."""
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Box(Protocol):
    """What writes a stream to one connection."""

    def resume(self) -> None:
        """Go on: the kernel has taken everything."""

    def finish(self) -> None:
        """End the stream after what waits was sent."""

    def close(self) -> None:
        """Forget everything: the connection has gone."""


def abort(transport: asyncio.BaseTransport) -> None:
    """Close a transport now."""
    # Python 3.11.2 fails at this for TLS once the transport was closed twice
    with contextlib.suppress(AttributeError):
        cast(asyncio.Transport, transport).abort()


class Guard:
    """Counts the connections of a door, all and by address, and finds each by its transport."""

    def __init__(self, total: int, per_address: int, head_timeout: float = HEAD_TIMEOUT) -> None:
        self._limits = (total, per_address)
        self.head_timeout = head_timeout
        self._addresses: Counter[str] = Counter()
        self.open: dict[asyncio.BaseTransport, Connection] = {}
        self.refused: Counter[str] = Counter()

    def admit(self, connection: Connection) -> bool:
        """Count a connection; False where there is no place for it."""
        total, per_address = self._limits
        if len(self.open) >= total:
            self.refused["total"] += 1
        elif self._addresses[connection.address] >= per_address:
            self.refused["per_address"] += 1
        else:
            self.open[connection.transport] = connection
            self._addresses[connection.address] += 1
            return True
        return False

    def leave(self, connection: Connection) -> None:
        """Forget a connection; one that was not admitted is no error."""
        if self.open.pop(connection.transport, None) is not None:
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]


class Connection(asyncio.Protocol):
    """The protocol of one connection: passes everything on to aiohttp's, and watches the time."""

    def __init__(self, guard: Guard, inner: asyncio.Protocol) -> None:
        self._guard = guard
        self._inner: asyncio.Protocol | None = inner
        self._timer: asyncio.TimerHandle | None = None
        self._box: Box | None = None
        self._deaf = False
        self._ahead = 0
        self.address, self.port = "", 0
        self.encrypted = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or answer that there is no place."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address, self.port = str(peer[0]).removeprefix("::ffff:"), peer[1]
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        if not self._guard.admit(self):
            self._inner = None
            self.transport.write(FULL)
            self.transport.close()
            return
        self._limit(self._guard.head_timeout)
        if self._inner:
            self._inner.connection_made(transport)

    def _limit(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, abort, self.transport) if seconds else None

    def began(self) -> None:
        """Note that the head of a request is there: from then on aiohttp's time for idle connections holds."""
        self._limit(None)
        self._ahead = 0

    def stream(self, box: Box, *, deaf: bool = False) -> None:
        """Go over to a stream that a box writes: its rules hold from now on, not the time for writing.

        Args:
            box: who writes.
            deaf: drop whatever the client still sends, for nothing is expected and aiohttp would collect it.
        """
        self._limit(None)
        self._box = box
        self._deaf = deaf
        # pause_writing and resume_writing then say exactly whether the kernel has taken everything
        self.transport.set_write_buffer_limits(high=0)

    @property
    def streams(self) -> bool:
        """Whether it is one of the streams that this module writes."""
        return self._box is not None

    def stop(self) -> None:
        """End its stream after what waits was sent: the instance ends. Others end with aiohttp."""
        if self._box:
            self._box.finish()

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent."""
        if self._deaf:
            return
        if self._box is None:
            self._ahead += len(data)
            if self._ahead > AHEAD:
                abort(self.transport)
                return
        if self._inner:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        return self._inner.eof_received() if self._inner else None

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        if self._inner:
            self._inner.pause_writing()
        if self._box is None:
            self._limit(WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        """Go on writing."""
        if self._inner:
            self._inner.resume_writing()
        if self._box is None:
            self._limit(None)
        else:
            self._box.resume()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._limit(None)
        self._guard.leave(self)
        self.gone.set()
        if self._box:
            self._box.close()
        if self._inner:
            self._inner.connection_lost(error)


class Pipe:
    """The way out of a stream (an Outlet): what the queue gives goes straight to the connection.

    Args:
        connection: its connection, of which the answer's head has been written.
        wrap: makes a chunk or WebSocket frames of data.
        end: what says that the stream ends.
        linger: seconds for which the client may close by itself after that; it may not have read everything yet.
    """

    def __init__(self, connection: Connection, wrap: Callable[[bytes], bytes], end: bytes, linger: float = 0) -> None:
        self._transport = connection.transport
        self._wrap = wrap
        self._end = end
        self._linger = linger
        self._paused = False

    def write(self, data: bytes) -> bool:
        """Write; returns whether the kernel took all."""
        if self._transport.is_closing():
            return True
        self._transport.write(self._wrap(data))
        return self._transport.get_write_buffer_size() == 0

    def unsent(self) -> int:
        """Return the bytes that the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        if self._transport.is_closing() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Say that it ends, and close."""
        if self._transport.is_closing():
            return
        self._transport.write(self._end)
        if self._linger:
            self.pause(False)
            asyncio.get_running_loop().call_later(self._linger, abort, self._transport)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        abort(self._transport)


def chunk(data: bytes) -> bytes:
    """Return data as a chunk of a chunked answer (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"

TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88
"""The first byte of a WebSocket message of one frame, by its kind (RFC 6455, 5.2)."""


def frame(data: bytes, kind: int | None = None) -> bytes:
    """Return data as one WebSocket frame: text where it is UTF-8, which browsers' STOMP clients like best."""
    if kind is None:
        try:
            data.decode()
            kind = TEXT
        except UnicodeDecodeError:
            kind = BINARY
    size = len(data)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 1 << 16:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + data
    return bytes((kind, 127)) + size.to_bytes(8, "big") + data
