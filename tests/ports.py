"""Ports for servers that tests kill and start again."""

import random
import socket

LOWEST, HIGHEST = 20000, 32000
"""Below the ports that Linux gives to outgoing connections: one of those could take the port while the server is
down, and a client that tries again and again would in the end be connected to itself."""


def free_port(kind=socket.SOCK_STREAM):
    """Return a port of loopback on which nothing listens now."""
    for port in random.sample(range(LOWEST, HIGHEST), 100):
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
