"""The methods over TCP: pictures pushed by the stream's clock, or pulled one by one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Sequence

from station.stills import trace
from station.stills.control import Command
from station.stills.limits import Limits
from station.stills.pictures import Picture
from station.stills.ports import bind
from station.stills.settings import Settings
from station.stills.stream import Leave, Stream
from station.stills.tcp_client import Client

BACKLOG = 1024
WAITING = 1000
"""GETs of one client that wait until it takes what it is sent; what comes beyond is left out."""


class Push(Client):
    """A client that is sent a picture each period; START and PAUSE are all it may ask for."""

    def __init__(self, stream: Stream, limits: Limits, clients: set[Client]) -> None:
        """Be paused."""
        super().__init__(stream, limits, clients)
        self._started = False
        self._running: bool | None = None
        self._leave: Leave | None = None
        self._frames: Sequence[bytes] = ()

    def obey(self, command: Command) -> None:
        """Start where it stopped, or stop; a START while it runs changes nothing."""
        if command.word in ("START", "PAUSE"):
            self._started = command.word == "START"
            self.begin()

    def begin(self) -> None:
        """Be on the stream's clock if it started, and otherwise a viewer who keeps a live source awake."""
        if self.data is None or self._running == self._started:
            return
        self._frames = self.stream.frames
        before, self._running = self._leave, self._started
        self._leave = self.stream.attach(self._take) if self._started else self.stream.hold()
        if before is not None:
            before()

    def stop(self) -> None:
        """Leave the stream."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def _take(self, picture: Picture) -> None:
        """Send the next picture. This is called for every client and picture, so it does next to nothing else."""
        frames = self._frames
        if frames:
            pointer = self.pointer
            frame = frames[pointer]
            pointer += 1
            self.pointer = pointer if pointer < self.count else 0
        else:
            frame = picture.frame
        tally = self.tally
        if self.full:
            tally.skipped += 1
            return
        # While the transport holds nothing its socket may be written to without it, which takes a tenth less of a
        # processor with a thousand clients [measured]; what the kernel leaves over goes the transport's way.
        try:
            sent = os.write(self.descriptor, frame)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                tally.skipped += 1
            else:
                self.end(error.strerror or "gone")
            return
        if sent < len(frame):
            self.data.write(memoryview(frame)[sent:])  # type: ignore[union-attr] # on the clock only while it is open
        tally.sent += 1
        tally.bytes += len(frame)
        if trace.level >= trace.SENDS:
            trace.sent(self.stream.key, picture.number, frame)


class Pull(Client):
    """A client that asks for each picture."""

    def __init__(self, stream: Stream, limits: Limits, clients: set[Client]) -> None:
        """Wait for its port."""
        super().__init__(stream, limits, clients)
        self._asked: deque[int] = deque()
        self._leave: Leave | None = None
        self._coming: Leave | None = None

    def obey(self, command: Command) -> None:
        """Send a picture; before there is a port a GET is a part of the handshake and means nothing."""
        if command.word != "GET" or not self.listening:
            return
        if len(self._asked) < WAITING:
            self._asked.append(command.number)
            self._send()
        else:
            self.tally.skipped += 1

    def begin(self) -> None:
        """Send what it asked for meanwhile."""
        self._leave = self.stream.hold()
        self._send()

    def drained(self) -> None:
        """Send what it asked for while it took nothing."""
        self._send()

    def stop(self) -> None:
        """Leave the stream."""
        for leave in (self._leave, self._coming):
            if leave is not None:
                leave()
        self._asked.clear()

    def _send(self) -> None:
        # a connection that has just broken is told of by the loop's next turn
        while self._asked and self._open_now and not self.full and self._coming is None:
            number = self._asked[0]
            picture = self._picture(number)
            if picture is None and number == -1:
                # a live source that was just woken: the first that comes is the answer
                self._coming = self.stream.attach(self._came)
                return
            self._asked.popleft()
            if picture is not None:
                self._write(picture)

    @property
    def _open_now(self) -> bool:
        return self.data is not None and not self.data.is_closing()

    def _picture(self, number: int) -> Picture | None:
        if number >= 0:
            return self.stream.at(number)
        if number < -1:
            return None
        return self.stream.at(self.pointer) if self.count else self.stream.now()

    def _came(self, picture: Picture) -> None:
        if self._coming is not None:
            self._coming()
            self._coming = None
        if self._asked and self._open_now:
            self._asked.popleft()
            self._write(picture)
            self._send()

    def _write(self, picture: Picture) -> None:
        if self.count:
            self.pointer = (picture.number + 1) % self.count
        frame = picture.frame
        self.data.write(frame)  # type: ignore[union-attr] # both callers have looked
        self.tally.sent += 1
        self.tally.bytes += len(frame)
        if trace.level >= trace.SENDS:
            trace.sent(self.stream.key, picture.number, frame)


class Listener:
    """The port of one stream, and its clients."""

    def __init__(self) -> None:
        """Listen to nothing yet."""
        self.clients: set[Client] = set()
        self.servers: list[asyncio.Server] = []

    async def close(self) -> None:
        """Close the port and all clients."""
        for server in self.servers:
            server.close()
        for client in tuple(self.clients):
            client.end("the server stops")


async def listen(stream: Stream, limits: Limits, settings: Settings) -> Listener:
    """Serve a stream of method tcp_push or tcp_pull.

    Args:
        stream: its settings have the port.
        limits: shared by all streams.
        settings: where to listen.

    Raises:
        OSError: the port is taken; the text says whose.
    """
    kind = Push if stream.settings.method == "tcp_push" else Pull
    if kind is Push:
        _ = stream.frames  # made now, and not while somebody waits for the first picture
    listener = Listener()
    loop = asyncio.get_running_loop()
    what = f"stream {stream.key}"
    for plug in bind(settings.listen_address, stream.settings.port, socket.SOCK_STREAM, what):
        server = await loop.create_server(lambda: kind(stream, limits, listener.clients), sock=plug, backlog=BACKLOG)
        listener.servers.append(server)
    return listener
