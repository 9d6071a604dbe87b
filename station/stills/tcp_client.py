"""A client over TCP: its connection for requests, and the one for pictures that the server opens back to it.

The second one goes to the address of the first only: nobody can point a server at somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any, cast

from station.stills import trace
from station.stills.control import Command, Lines
from station.stills.limits import Limits, Ticket, plain
from station.stills.stream import Stream

log = logging.getLogger(__name__)
DIAL = 10.0
"""Seconds in which a client must take the connection for its pictures."""
DEAD = 60.0
"""Seconds for which a client may take nothing of what was sent to it, as long as the reference's over UDP may be
silent; the kernel counts them, for a machine that is gone and for a program that does not read alike."""
READ = 256
"""Bytes of requests that are read before others have their turn: asyncio reads 256 KiB at once, 37,000 GETs, for whose
pictures everybody else would wait seconds [measured]."""
LINGER = 5.0
"""Seconds in which what was sent before an END may still go."""
SEND_BUFFER = 128 << 10
"""Bytes that the kernel holds for a client (it takes the double): a slow one skips, it does not lag behind."""
_BUFFER = bytearray(READ)
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class Client(asyncio.BufferedProtocol):
    """What pushed and pulled clients have in common; itself the protocol of the connection for requests."""

    def __init__(self, stream: Stream, limits: Limits, clients: set[Client]) -> None:
        """Wait for the connection.

        Args:
            stream: what it gets.
            limits: whether there is a place for it.
            clients: where it is while it is connected.
        """
        self.stream = stream
        self.tally = stream.tally(stream.settings.method or "tcp")
        self.count = stream.source.count or 0
        self.pointer = 0
        self.full = False
        """The connection for pictures takes no more at the moment."""
        self.data: asyncio.Transport | None = None
        """The connection for pictures."""
        self.descriptor = -1
        """Its socket's, which is open as long as `data` is there."""
        self._limits = limits
        self._clients = clients
        self._control: asyncio.Transport | None = None
        self._dial: asyncio.Task[None] | None = None
        self._ticket: Ticket | None = None
        self._lines = Lines()
        self._host = ""
        self._ending = False

    @property
    def listening(self) -> bool:
        """Whether it has said where its pictures are to go."""
        return self.data is not None or self._dial is not None

    def obey(self, command: Command) -> None:
        """Do what is asked, apart from LISTEN_PORT and END."""
        raise NotImplementedError

    def begin(self) -> None:
        """Go on now that the connection for pictures is there."""
        raise NotImplementedError

    def drained(self) -> None:
        """Go on now that all has gone that was sent."""

    def stop(self) -> None:
        """Take nothing from the stream any more; called once or more."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take its requests, if there is a place for it."""
        self._control = cast(asyncio.Transport, transport)
        peer: tuple[Any, ...] = transport.get_extra_info("peername") or ("",)
        self._host = str(peer[0])
        if len(peer) > 3 and peer[3]:  # a link-local address means nothing without its link
            self._host = f"{self._host.partition('%')[0]}%{peer[3]}"
        self._ticket = self._limits.enter(self._host)
        if self._ticket is None:
            log.debug("stream %s: there is no place for %s", self.stream.key, plain(self._host))
            transport.close()
            return
        watch_peer(transport)
        self._clients.add(self)
        self.tally.clients += 1
        log.info("stream %s: client %s", self.stream.key, plain(self._host))

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where the next bytes go; one place for all, for they are taken out at once."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that have come."""
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Do what it asks."""
        trace.received(self.stream.key, data)
        for command in self._lines.feed(data):
            if self._ticket is None:
                return
            log.debug("stream %s: client %s: %s %d", self.stream.key, self._host, *command)
            if command.word == "END" and self._dial is not None:
                self._ending = True  # what it asked for until now is still to come
            elif command.word == "END":
                self.end("END")
            elif command.word != "LISTEN_PORT":
                self.obey(command)
            elif not self.listening and 0 < command.number < 65536:
                self._dial = asyncio.get_running_loop().create_task(self._open(command.number))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: who cannot ask for anything any more is gone."""
        self.end("gone" if exc is None else str(exc))

    async def _open(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL):
                await loop.create_connection(lambda: Data(self), self._host, port)
        except OSError as error:  # TimeoutError is one
            reason = error.strerror or "it does not answer"
            log.info("stream %s: client %s has no port %d: %s", self.stream.key, plain(self._host), port, reason)
        finally:
            self._dial = None
        if self._ending:
            self.end("END")

    def opened(self, transport: asyncio.Transport) -> None:
        """Begin at the first picture."""
        if self._ticket is None:
            transport.abort()
            return
        self.data = transport
        self.descriptor = transport.get_extra_info("socket").fileno()
        self.pointer = 0
        self.begin()

    def end(self, reason: str) -> None:
        """Close both connections; a second call does nothing."""
        if self._ticket is None:
            return
        self._ticket.leave()
        self._ticket = None
        self.tally.clients -= 1
        self._clients.discard(self)
        self.stop()
        if self._dial is not None:
            self._dial.cancel()
        for transport in (self.data, self._control):
            if transport is not None and not transport.is_closing():
                transport.close()
                if transport.get_write_buffer_size():
                    asyncio.get_running_loop().call_later(LINGER, transport.abort)
        self.data, self.descriptor = None, -1
        log.info("stream %s: client %s is gone: %s", self.stream.key, plain(self._host), reason)


class Data(asyncio.Protocol):
    """The connection for pictures; what comes over it is left out."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it to the client."""
        opened = cast(asyncio.Transport, transport)
        # so that `full` is true as long as anything has not gone to the kernel
        opened.set_write_buffer_limits(high=0, low=0)
        watch_peer(opened)
        with contextlib.suppress(OSError):
            opened.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._client.opened(opened)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._client.full = True

    def resume_writing(self) -> None:
        """All has gone to the kernel."""
        self._client.full = False
        self._client.drained()

    def eof_received(self) -> bool:
        """Go on: who only says that it will send nothing may still read, and who is gone refuses the next picture."""
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the client: it takes no pictures any more."""
        self._client.end("it closed the connection for pictures" if exc is None else str(exc))


def watch_peer(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end a connection whose other side is gone, or takes nothing."""
    plug = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (*_KEEPALIVE, (socket.TCP_USER_TIMEOUT, int(DEAD * 1000))):
            plug.setsockopt(socket.IPPROTO_TCP, option, value)
