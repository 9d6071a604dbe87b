"""The old catalogue on its port: each client is sent the text at once, whatever it asks."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from station.catalogues import rows
from station.catalogues.board import Board
from station.stills import ports

log = logging.getLogger(__name__)
IDLE = 5.0
"""Seconds without a word of the client after which it is closed, as the original does [code]."""
LONGEST = 60.0
"""Seconds after which it is closed anyhow: one that goes on talking would keep its place for ever."""
CLIENTS, PER_ADDRESS = 500, 200
"""At a time, in all and of one address; another one is closed at once."""
BACKLOG = 128


class TextServer:
    """Serves a board's rows.

    Args:
        board: what is shown.
        port: TCP port.
        listen: address to listen on, "" for all.
        told: what clients are told as `ServerAddress`; "" for the address at which each one reached us.
        sent: called with the text for each client.
        idle: seconds.
    """

    def __init__(
        self,
        board: Board,
        port: int,
        *,
        listen: str = "",
        told: str = "",
        sent: Callable[[str], None] | None = None,
        idle: float = IDLE,
    ) -> None:
        self._board, self._port, self._listen, self._told = board, port, listen, told
        self.sent, self.idle = sent, idle
        self.clients: set[_Client] = set()
        self.served = self.refused = 0
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen. Raises OSError: the port cannot be had."""
        loop = asyncio.get_running_loop()
        for plug in ports.bind(self._listen, self._port, socket.SOCK_STREAM, "the old catalogue"):
            self._servers.append(await loop.create_server(lambda: _Client(self), sock=plug, backlog=BACKLOG))
        log.info("the old catalogue on port %d", self._port)

    async def stop(self) -> None:
        """Close the port and all clients."""
        for server in self._servers:
            server.close()
        for client in list(self.clients):
            client.close()
        await asyncio.sleep(0)

    def answer(self, reached: str) -> bytes:
        """Return what a client is sent that reached us at an address."""
        return rows.answer(self._told or reached, self._port, self._board.rows())


class _Client(asyncio.Protocol):
    def __init__(self, server: TextServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end = 0.0
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP server
        server = self._server
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        same = sum(one.address == self.address for one in server.clients)
        if len(server.clients) >= CLIENTS or same >= PER_ADDRESS:
            server.refused += 1
            transport.abort()
            return
        server.clients.add(self)
        server.served += 1
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._end = loop.time() + LONGEST
        content = server.answer(_plain(transport.get_extra_info("sockname")))
        transport.write(content)
        if server.sent is not None:
            server.sent(content.decode())
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Close, or abort where the client took too little."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(min(loop.time() + self._server.idle, self._end), self.close)


def _plain(name: object) -> str:
    """Return the address of a socket's name, without the link that a link-local one has."""
    return str(name[0]).partition("%")[0] if isinstance(name, tuple) else ""
