"""One client of UDP_PUSH or UDP_PULL: what it asked for, and what is on its way to it."""

from __future__ import annotations

import socket

from station.stills.datagrams import Address, Job
from station.stills.limits import Ticket

WAITING = 8
"""Pictures that may be on their way to one client of UDP_PULL; what it asks for beyond is not sent."""
GONE, MEMORY = 3.0, 5.0
"""A client is gone when for that many seconds the network has told that nothing reaches it, without a break longer
than the second: one that opens its port a little late loses only pictures."""


class Client:
    """State of one client.

    `control` is where its words come from, `data` where pictures go (None until it has said), `size` that of its
    datagrams in bytes (None until it has said, and nothing is sent before), `heard` seconds of the loop's clock.
    """

    __slots__ = (
        "_refused", "control", "data", "gone", "heard", "host", "jobs", "plug", "pointer", "running", "size", "ticket",
        "waking",
    )  # fmt: skip

    def __init__(self, plug: socket.socket, control: Address, host: str, ticket: Ticket, now: float) -> None:
        """Begin with one that has just been heard: the socket that heard it, and its address in plain form."""
        self.plug = plug
        self.control = control
        self.host = host
        self.ticket = ticket
        self.heard = now
        self.data: Address | None = None
        self.size: int | None = None
        self.pointer = 0
        self.running = self.gone = self.waking = False
        self.jobs: set[Job] = set()
        self._refused: tuple[float, float] | None = None

    @property
    def ready(self) -> bool:
        """Whether it has said where pictures go and how large a datagram may be."""
        return self.data is not None and self.size is not None

    def listen(self, port: int) -> bool:
        """Send pictures to a port of the client, from the first one on; False if it is none, or it has one already."""
        if self.data is not None or not 0 < port < 1 << 16:
            return False
        self.data = (self.control[0], port, *self.control[2:])
        self.pointer = 0
        return True

    def undelivered(self, now: float) -> bool:
        """Note that the network delivers nothing to it; returns whether it is gone. Seconds of a steady clock."""
        began, last = self._refused or (now, now)
        if now - last > MEMORY:
            began = now
        self._refused = began, now
        return now - began >= GONE
