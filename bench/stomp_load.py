"""Many STOMP subscribers of one topic and their publisher, as cheap as Python can: frames are counted by their NUL.

`python -m bench.stomp_load` reads commands, one JSON object a line, and answers each with a line: `open`, `fan`, `pace`
and `slow` (the methods of Load, with their arguments as keys). It is a process of its own, so that what it costs is
told apart from what the server costs.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from bench.programs import Failed, obey, room_for

PER_ADDRESS = 4000
"""Connections from one source address of 127.0.0.0/8; the ports of one would not do for many servers."""
BATCH = 200
"""Connections that are opened at once."""
PATIENCE = 60.0
"""Seconds without any delivery after which it gives up."""


def frame(command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a frame; nothing is escaped."""
    lines = [command, *(f"{key}:{value}" for key, value in headers.items())]
    return "\n".join(lines).encode() + b"\n\n" + body + b"\0"


def expect(sock: socket.socket, command: bytes) -> None:
    """Read until the named frame has come; Failed for ERROR. A last value may come with it."""
    found = b""
    while True:
        more = sock.recv(4096)
        found += more
        names = [one.lstrip(b"\r\n").partition(b"\n")[0] for one in found.split(b"\0")[:-1]]
        if command in names and found.endswith((b"\0", b"\n")):
            return
        if b"ERROR" in names or not more:
            raise Failed(f"{command.decode()} expected: {found[:300]!r}")


class Load:
    """Subscribers of one topic of one server, and a publisher of it."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self.sockets: list[socket.socket] = []
        self._read: dict[int, Callable[[bytearray], int]] = {}
        self._counts: dict[int, int] = {}
        self._buffer = bytearray(1 << 16)
        self._connect: dict[str, str] = {}
        self._port = 0
        self._topic = ""
        self.publisher: socket.socket | None = None
        self._stuck: socket.socket | None = None

    def open(self, port: int, count: int, topic: str, version: str, login: str, passcode: str) -> dict[str, Any]:
        """Connect and subscribe; version "" is the dialect of a client that names none."""
        room_for(count)
        self._port, self._topic = port, topic
        self._connect = {"login": login, "passcode": passcode}
        if version:
            self._connect |= {"accept-version": version, "host": "/", "heart-beat": "0,0"}
        began = time.perf_counter()
        while len(self.sockets) < count:
            some = [self._dial(len(self.sockets) + one) for one in range(min(BATCH, count - len(self.sockets)))]
            for sock in some:
                expect(sock, b"CONNECTED")
                sock.send(self._subscribe())
            for sock in some:
                expect(sock, b"RECEIPT")
                self.add(sock)
            self.sockets += some
        self.publisher = self._dial(count)
        expect(self.publisher, b"CONNECTED")
        self.add(self.publisher)
        return {"seconds": time.perf_counter() - began}

    def _subscribe(self) -> bytes:
        return frame("SUBSCRIBE", {"destination": self._topic, "id": "0", "ack": "auto", "receipt": "s"})

    def _dial(self, number: int, small: bool = False) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        if small:  # so that little waits in the kernel
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: ip(7)
        sock.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
        sock.connect(("127.0.0.1", self._port))
        sock.send(frame("CONNECT", self._connect))
        return sock

    def add(self, sock: socket.socket) -> None:
        """Read a socket from now on."""
        sock.setblocking(False)
        self._read[sock.fileno()] = sock.recv_into
        self._counts[sock.fileno()] = 0
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _turn(self) -> int:
        """Read what has come, waiting for it; return the deliveries. Receipts are counted only."""
        buffer, read, counts, total = self._buffer, self._read, self._counts, 0
        for number, _event in self._poll.poll(1, 4096):
            size = read[number](buffer)
            if not size:
                raise Failed("the server closed a connection")
            found = buffer.count(0, 0, size)
            counts[number] += found
            total += found
        return total

    def fan(self, messages: int, window: int, size: int, receipts: bool) -> dict[str, Any]:
        """Publish messages, at most `window` of them not yet delivered to all (and confirmed); count until all are.

        Returns:
            `seconds` from the first SEND to the last delivery, `deliveries`, and `processor` seconds of this process.
        """
        assert self.publisher is not None  # noqa: S101 - open() comes first
        one, count = self.publisher.fileno(), len(self.sockets)
        self._forget()
        sent, total, moved = 0, 0, time.monotonic()
        began, spent = time.perf_counter(), time.process_time()
        wanted = messages * count + (messages if receipts else 0)
        while total < wanted:
            done = total // count if not receipts else min(self._counts[one], (total - self._counts[one]) // count)
            while sent < messages and sent - done < window:
                self._publish(size, str(sent) if receipts else None)
                sent += 1
            if found := self._turn():
                total, moved = total + found, time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                raise Failed(f"{wanted - total} of {wanted} frames did not come")
        took, spent = time.perf_counter() - began, time.process_time() - spent
        self._whole(messages)
        return {"seconds": took, "deliveries": messages * count, "processor": spent}

    def _whole(self, messages: int) -> None:
        """Fail unless each subscriber has got so many."""
        wrong = sum(self._counts[one.fileno()] != messages for one in self.sockets)
        if wrong:
            raise Failed(f"{wrong} subscribers got not {messages} messages")

    def _publish(self, size: int, receipt: str | None) -> None:
        assert self.publisher is not None  # noqa: S101
        headers = {"destination": self._topic} | ({"receipt": receipt} if receipt is not None else {})
        whole = frame("SEND", headers, b"SHOW http://www.example.org/slides/".ljust(size, b"0"))
        while whole:
            try:
                whole = whole[self.publisher.send(whole) :]
            except BlockingIOError:
                select.select([], [self.publisher], [], PATIENCE)

    def _forget(self) -> None:
        for number in self._counts:
            self._counts[number] = 0

    def pace(self, messages: int, rate: float, size: int) -> dict[str, Any]:
        """Publish so many messages a second; return the milliseconds of all deliveries as percentiles.

        A message is sent no sooner than the one before was delivered; `held` says how much of the rate that allowed.
        """
        count, waits = len(self.sockets), list[float]()
        self._forget()
        began = time.perf_counter()
        for number in range(messages):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            sent, left = time.perf_counter(), count
            self._publish(size, None)
            while left > 0:
                for fileno, _event in self._poll.poll(PATIENCE, 64):
                    got = self._read[fileno](self._buffer)
                    found = self._buffer.count(0, 0, got)
                    if not found and not got:
                        raise Failed("the server closed a connection")
                    waits += [time.perf_counter() - sent] * found
                    left -= found
        took = time.perf_counter() - began
        waits.sort()
        return {
            "p50_ms": 1000 * waits[len(waits) // 2], "p99_ms": 1000 * waits[len(waits) * 99 // 100],
            "most_ms": 1000 * waits[-1], "held": min(1.0, (messages - 1) / rate / took),
        }  # fmt: skip

    def slow(self) -> dict[str, Any]:
        """Add a subscriber that never reads."""
        sock = self._dial(len(self.sockets) + 1, small=True)
        expect(sock, b"CONNECTED")
        sock.send(self._subscribe())
        expect(sock, b"RECEIPT")
        self._stuck = sock
        return {}


if __name__ == "__main__":
    obey(Load())
