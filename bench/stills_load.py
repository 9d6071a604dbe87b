"""Many clients that take pictures over TCP, as cheap as Python can: the kernel counts their bytes and drops them.

`python -m bench.stills_load` reads commands, one JSON object a line, and answers each with a line: `open`, `shut`,
`count` and `late` (the methods of Load, with their arguments as keys). It is a process of its own, so that what it
costs is told apart from what the server costs.
"""

from __future__ import annotations

import math
import select
import socket
import time
from pathlib import Path
from typing import Any

from bench.programs import Failed, obey, room_for

HOST = "127.0.0.1"
BATCH = 50
"""Clients that are opened at once."""
PATIENCE = 30.0
READ = 1 << 20
SAMPLE = 50
"""Clients of which each picture's arrival is timed."""
_TRUNCATE = socket.MSG_TRUNC
"""tcp(7): what has come is dropped instead of copied."""


def processor(pid: int) -> float:
    """Return the processor seconds of a process and its threads, to the nanosecond where `/proc/stat` has 10 ms."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


class Load:
    """All clients of one server, and what is read from them."""

    def __init__(self) -> None:
        self._data: dict[int, socket.socket] = {}
        self._control: list[socket.socket] = []
        self._poll = select.epoll()
        self._buffer = bytearray(READ)
        self._frame = 0

    def open(self, port: int, count: int, frame: int, plain: bool) -> dict[str, Any]:
        """Connect clients, paused.

        Args:
            port: of the server.
            count: how many.
            frame: bytes of a picture as it is sent.
            plain: the server sends over this very connection; else it opens one back.
        """
        room_for(2 * count)
        self._frame = frame
        began = time.perf_counter()
        with socket.create_server((HOST, 0), backlog=BATCH) as listener:
            listener.settimeout(PATIENCE)
            hello = b"GET 1\r\nLISTEN_PORT %d\r\n\r\n" % listener.getsockname()[1]
            while len(self._data) < count:
                batch = min(BATCH, count - len(self._data))
                for _ in range(batch):
                    control = socket.create_connection((HOST, port), PATIENCE)
                    self._control.append(control)
                    if not plain:
                        control.sendall(hello)
                for number in range(batch):
                    data = self._control[number - batch] if plain else listener.accept()[0]
                    self._data[data.fileno()] = data
                    self._poll.register(data, select.EPOLLIN)
        return {"seconds": time.perf_counter() - began}

    def shut(self) -> dict[str, Any]:
        """Disconnect everybody."""
        for one in {*self._data.values(), *self._control}:
            one.close()
        self._poll.close()
        self._poll = select.epoll()
        self._data, self._control = {}, []
        return {}

    def _say(self, word: bytes) -> None:
        for control in self._control:
            control.sendall(word + b"\r\n\r\n")

    def _drop(self, until: float) -> int:
        """Read and drop until a moment; returns the bytes."""
        got = 0
        while (left := until - time.perf_counter()) > 0:
            for fileno, _event in self._poll.poll(left, 256):
                more = self._data[fileno].recv_into(self._buffer, READ, _TRUNCATE)
                if not more:
                    raise Failed("the server closed a connection")
                got += more
        return got

    def count(self, pid: int, settle: float, seconds: float) -> dict[str, Any]:
        """Have pictures sent for a while.

        Args:
            pid: of the server, whose processor time is told.
            settle: seconds before it counts.
            seconds: in which it counts.
        """
        self._say(b"START")
        self._drop(time.perf_counter() + settle)
        began, server, own = time.perf_counter(), processor(pid), time.process_time()
        got = self._drop(began + seconds)
        took = time.perf_counter() - began
        server, own = processor(pid) - server, time.process_time() - own
        self._say(b"PAUSE")
        self._rest()
        return {"pictures": got / self._frame, "seconds": took, "server": server, "client": own}

    def _rest(self) -> None:
        """Take what is still on its way, to its end."""
        while True:
            if not self._drop(time.perf_counter() + 0.3):
                return

    def late(self, rate: float, pictures: int) -> dict[str, Any]:
        """Time pictures of a server whose ticks are at whole numbers of periods since 1970; everybody starts anew.

        Args:
            rate: pictures a second.
            pictures: that each client is sent.

        Returns:
            `late_…`: from the tick that a picture is for until the client has all of it; `first_…`: from START until
            the first picture is there. Of a sample of the clients, while all are sent pictures. Milliseconds.
        """
        period = 1 / rate
        sample = dict.fromkeys(list(self._data)[:: max(1, len(self._data) // SAMPLE)], 0)
        # in the middle of a period, so that everybody's first picture is that of the next tick
        time.sleep(period - (time.time() - period / 2) % period)
        started = time.time()
        self._say(b"START")
        tick, late, first = math.ceil(started * rate), list[float](), list[float]()
        end = started + (pictures + 1) * period
        while (left := end - time.time()) > 0:
            for fileno, _event in self._poll.poll(left, 256):
                before = sample.get(fileno, 0)
                got = self._data[fileno].recv_into(self._buffer, READ, _TRUNCATE)
                if fileno not in sample:
                    continue
                now, sample[fileno] = time.time(), before + got
                for number in range(before // self._frame, sample[fileno] // self._frame):
                    late.append(now - (tick + number) * period)
                    if not number:
                        first.append(now - started)
        self._say(b"PAUSE")
        self._rest()
        missing = len(sample) * pictures - len(late)
        if missing > len(sample) or not first:
            raise Failed(f"{missing} pictures of {len(sample) * pictures} are missing at {rate:g} a second")
        late.sort()
        return {
            "late_p50_ms": 1000 * late[len(late) // 2], "late_p99_ms": 1000 * late[len(late) * 99 // 100],
            "late_most_ms": 1000 * late[-1], "first_most_ms": 1000 * max(first), "pictures": len(late),
        }  # fmt: skip


if __name__ == "__main__":
    obey(Load())
