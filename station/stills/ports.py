"""Ports to listen on, of both families, and an error that says what to do when one is taken."""

from __future__ import annotations

import contextlib
import errno
import socket


def bind(address: str, port: int, kind: socket.SocketKind, what: str) -> list[socket.socket]:
    """Return sockets that are bound and do not block.

    Args:
        address: of this machine; "" for all, one socket for IPv4 and one for IPv6 where the machine has it.
        port: the same for both.
        kind: SOCK_STREAM or SOCK_DGRAM.
        what: who wants it, for the error.

    Raises:
        OSError: it cannot be had; the text says whose port it is.
    """
    families = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - all addresses are asked for
    if address:
        families = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address)]
    with contextlib.ExitStack() as opened:
        found = []
        for family, host in families:
            try:
                plug = opened.enter_context(socket.socket(family, kind))
                if family == socket.AF_INET6:
                    plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                plug.setblocking(False)
                plug.bind((host, port))
            except OSError as error:
                if not address and family == socket.AF_INET6 and error.errno != errno.EADDRINUSE:
                    continue  # a machine without IPv6
                raise OSError(error.errno, f"{what}: {_reason(error, host, port, kind)}") from error
            found.append(plug)
        opened.pop_all()
    return found


def _reason(error: OSError, host: str, port: int, kind: socket.SocketKind) -> str:
    name = f"{'TCP' if kind == socket.SOCK_STREAM else 'UDP'} port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"{name} is taken by another program; give it another, or end that one (`ss -lpn`)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine"
    if error.errno == errno.EACCES and port < 1024:
        return f"{name} may be opened by root only; take one from 1024 on"
    return f"{name} of {host}: {error.strerror}"
