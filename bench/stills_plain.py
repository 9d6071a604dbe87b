"""The least that sends pictures to many: an asyncio loop that writes the same bytes to everybody each period.

`python -m bench.stills_plain PORT RATE FILE…`: clients say START and PAUSE over the connection that takes the pictures.
A client that has not taken the last picture gets none, or the memory would fill.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from pathlib import Path
from typing import cast

from station.stills.tcp_client import SEND_BUFFER

BACKLOG = 1024


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, running: set[asyncio.Transport]) -> None:
        self._running = running

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be paused; have as large a buffer as `stills` give their clients."""
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Begin or leave off."""
        if data.startswith(b"START"):
            self._running.add(self._transport)
        else:
            self._running.discard(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Be gone."""
        self._running.discard(self._transport)


async def serve(port: int, rate: float, frames: list[bytes]) -> None:
    """Send until killed."""
    running: set[asyncio.Transport] = set()
    await asyncio.get_running_loop().create_server(lambda: Client(running), "127.0.0.1", port, backlog=BACKLOG)
    number, due = 0, time.monotonic()
    while True:
        due = max(due + 1 / rate, time.monotonic())  # who is late goes on at once
        await asyncio.sleep(due - time.monotonic())
        frame = frames[number % len(frames)]
        number += 1
        for transport in tuple(running):
            if not transport.get_write_buffer_size():
                transport.write(frame)


def main(arguments: list[str]) -> None:
    """Read the files and serve."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pictures = [Path(name).read_bytes() for name in arguments[2:]]
    frames = [b"%d\r\n%d\r\n%b" % (number, len(data), data) for number, data in enumerate(pictures)]
    asyncio.run(serve(int(arguments[0]), float(arguments[1]), frames))


if __name__ == "__main__":
    main(sys.argv[1:])
