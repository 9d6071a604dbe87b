"""The STOMP ports: TCP, and TLS where there is a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from station.config import ConfigError
from station.visuals import frames
from station.visuals.service import Service
from station.visuals.session import Session
from station.visuals.settings import Tls

log = logging.getLogger(__name__)
BACKLOG = 4096
SEND_BUFFER = 128 << 10
"""What the kernel holds for one client (it takes the double), so that a slow one costs no megabytes there either."""
TICK = 0.5
"""Seconds between two looks at the clock of all clients."""
LINGER = 2.0
"""Seconds for a client to take the last frame and close (STOMP 1.2, Connection Lingering)."""
HANDSHAKE = 10.0
CERTIFICATE_CHECK = 10.0
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


class Door(asyncio.Protocol):
    """One TCP or TLS connection, below its session (see Outlet)."""

    __slots__ = ("_encrypted", "_ending", "_full", "_paused", "_service", "_session", "_transport")

    def __init__(self, service: Service, encrypted: bool) -> None:
        self._service = service
        self._encrypted = encrypted
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._full = self._ending = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a session, if there is place for it."""
        self._transport = cast(asyncio.Transport, transport)
        # Below TLS asyncio pauses at the limit already, not above it: with 0 it would wait although nothing is unsent.
        self._transport.set_write_buffer_limits(high=1 if self._encrypted else 0, low=0)
        peer = transport.get_extra_info("peername") or ("", 0)
        with contextlib.suppress(OSError, AttributeError):
            plug = transport.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
        address = str(peer[0]).removeprefix("::ffff:")
        session = Session(self._service, self, address, int(peer[1]), encrypted=self._encrypted)
        if self._service.admit(session):
            self._transport.write(frames.encode(frames.REFERENCE, "ERROR", [("message", "Too many connections")]))
            self._transport.close()
            session.outbox.close()
            return
        self._session = session

    def data_received(self, data: bytes) -> None:
        """Hand it to the session; what comes after the end is read for nothing, lest the last frame be lost."""
        if self._session is not None:
            self._session.feed(data)

    def eof_received(self) -> bool:
        """Let the transport close: half a connection is of no use to anybody."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session."""
        if self._session is not None:
            self._session.lost()
            self._session = None

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._full = True

    def resume_writing(self) -> None:
        """All has gone to the kernel."""
        self._full = False
        if self._session is not None:
            self._session.outbox.resume()

    def write(self, data: bytes) -> bool:
        """See Outlet."""
        if self._transport is None or self._transport.is_closing():
            return True
        self._service.counters.bytes_out += len(data)
        self._transport.write(data)
        return not self._full

    def unsent(self) -> int:
        """See Outlet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def pause(self, paused: bool) -> None:
        """See Outlet."""
        transport = self._transport
        if transport is None or transport.is_closing() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def finish(self) -> None:
        """See Outlet: say that nothing more comes, and wait a little for the client to close."""
        transport = self._transport
        if transport is None or self._ending:
            return
        self._ending = True
        self.pause(False)
        asyncio.get_running_loop().call_later(LINGER, transport.abort)
        if transport.can_write_eof():
            with contextlib.suppress(OSError):
                transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """See Outlet."""
        if self._transport is not None:
            self._transport.abort()


class Server:
    """Listens on the STOMP ports of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.context: ssl.SSLContext | None = None
        """That of the certificate, for whoever else listens; kept up to date."""

    async def start(self) -> None:
        """Listen. Raises ConfigError for a certificate that cannot be used, OSError for a port that is taken."""
        settings = self._service.settings
        raise_limit()
        if settings.tls is not None:
            # first: no port opens where the certificate will end the program
            self.context = make_context(settings.tls)
        await self._listen(settings.stomp_port, None)
        if settings.tls is not None and self.context is not None:
            await self._listen(settings.tls.stomp_port, self.context)
            if isinstance(settings.tls.certificate, Path):
                self._tasks.append(
                    asyncio.create_task(self._renew(settings.tls, settings.tls.certificate, self.context))
                )
        self._tasks.append(asyncio.create_task(self._tick()))

    async def _listen(self, port: int, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        hosts: list[str | None] = [self._service.settings.stomp_address or None]
        if hosts == [None]:
            hosts.append("0.0.0.0")  # noqa: S104 - where the machine has no IPv6
        for host in hosts:
            try:
                server = await loop.create_server(
                    lambda: Door(self._service, context is not None),
                    host,
                    port,
                    ssl=context,
                    backlog=BACKLOG,
                    reuse_address=True,
                    ssl_handshake_timeout=HANDSHAKE if context else None,
                )
            except OSError:
                if host is hosts[-1]:
                    raise
            else:
                for plug in server.sockets:  # inherited by the connections
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                self._servers.append(server)
                return

    async def stop(self) -> None:
        """Close the ports, then the clients, each after what waits for it was sent."""
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        for connection in tuple(self._service.connections):
            connection.stop()
        end = asyncio.get_running_loop().time() + LINGER
        sessions = [one for one in self._service.connections if isinstance(one, Session)]
        while any(one.outbox.waits for one in sessions) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(TICK, max(self._service.settings.heart_beat / 4, 0.05)))
            now = loop.time()
            for connection in tuple(self._service.connections):
                if isinstance(connection, Session):
                    connection.tick(now)

    async def _renew(self, tls: Tls, path: Path, context: ssl.SSLContext) -> None:
        changed = _changed(path)
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK)
            if (now := _changed(path)) != changed:
                try:
                    _load(context, tls)
                except ConfigError as error:
                    log.error("the new certificate is not used: %s", error)
                else:
                    log.info("the new certificate is used from now on")
                changed = now


def _changed(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_ino


def make_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS context of a certificate. Raises ConfigError if it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    with contextlib.ExitStack() as stack:
        # ssl reads files only; these are on no disk.
        key = stack.enter_context(_memory(tls.private_key))
        certificate = tls.certificate
        path = certificate if isinstance(certificate, Path) else stack.enter_context(_memory(certificate))
        try:
            context.load_cert_chain(path, key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or "unusable"
            raise ConfigError("options.tls", f"certificate and private_key cannot be used: {reason}") from error


@contextlib.contextmanager
def _memory(text: str) -> Iterator[Path]:
    memory = os.memfd_create("pem")
    try:
        os.write(memory, text.encode())
        yield Path(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def _no_password() -> str:
    return ""


def raise_limit() -> None:
    """Allow as many open files as the kernel grants this process: each client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
