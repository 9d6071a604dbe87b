"""Servers of stills, in this process and as their own, and a client that speaks the old protocol over TCP."""

import asyncio
import contextlib
import io
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from PIL import Image

from station.stills.instance import Server
from station.stills.limits import LimitSettings
from station.stills.settings import Settings, StreamSettings
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if Path("/usr/lib/python3/dist-packages/aiohttp").exists() else "python3"
LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


def image(path, kind="PNG", size=(8, 6), colour="red"):
    """Write a picture; returns its bytes."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    path.write_bytes(out.getvalue())
    return out.getvalue()


def images(folder, count=3, padding=0):
    """Write pictures, each of other bytes; returns their paths. With `padding` so many bytes follow the picture."""
    paths = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        data = image(path, "JPEG", colour=(number % 256, 100, 200))
        path.write_bytes(data + b"%06d" % number + b"x" * padding)
        paths.append(str(path))
    return paths


class Running:
    """A Server in a thread of this process."""

    def __init__(self, *streams, limits=None, **options):
        self.loop = asyncio.new_event_loop()
        self.server = Server(Settings(streams, limits=limits or LimitSettings(), **{"http_port": 0, **options}))
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        try:
            self.call(self.server.start())
        except BaseException:
            self._end()
            raise

    def call(self, work):
        """Return what a coroutine returns in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stop(self):
        self.call(self.server.close())
        self.call(asyncio.sleep(0.01))
        self._end()

    def _end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def stream(folder, method, count=3, padding=0, **values):
    """Return the settings of a stream of JPG files on a free port."""
    values = {"key": method, "id": 1, "name": method, "ips": 40.0, "port": free_port(), **values}
    return StreamSettings(method=method, images=tuple(images(folder, count, padding)), **values)


class Client:
    """The old protocol's: a connection for requests, a port for pictures."""

    def __init__(self, port, host="127.0.0.1", source=None, buffer=0):
        self.door = socket.socket(LOOPBACK[host])
        if buffer:  # inherited by what is accepted
            self.door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.door.bind((source or host, 0))
        self.door.listen()
        self.door.settimeout(15)
        self.listens = self.door.getsockname()[1]
        self.control = socket.create_connection((host, port), 15, (source, 0) if source else None)
        self.data = None
        self.buffer = b""

    def send(self, *lines):
        self.control.sendall("".join(f"{line}\r\n\r\n" for line in lines).encode())
        return self

    def open(self, *more):
        """Do the handshake as old clients do, and take the connection for pictures."""
        self.control.sendall(f"GET 1\r\nLISTEN_PORT {self.listens}\r\n\r\n".encode())
        self.send(*more)
        return self.accept()

    def accept(self):
        self.data, _ = self.door.accept()
        self.data.settimeout(15)
        return self

    def frame(self, timeout=15.0):
        """Return number and bytes of the next picture; None when the server closed."""
        self.data.settimeout(timeout)
        number, size = self._line(), self._line()
        if size is None:
            return None
        while len(self.buffer) < size:
            if not self._more():
                return None
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return number, data

    def numbers(self, count):
        return [self.frame()[0] for _ in range(count)]

    def _line(self):
        while b"\r\n" not in self.buffer:
            if not self._more():
                return None
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        assert line.isdigit(), line
        return int(line)

    def _more(self):
        try:
            data = self.data.recv(1 << 20)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def quiet(self, seconds=0.15):
        """Assert that no byte comes for some time."""
        assert not self.buffer
        self.data.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            raise AssertionError(self.data.recv(100))
        return self

    def gone(self):
        """Assert that the server closes both connections."""
        for plug in (self.control, self.data):
            plug.settimeout(15)
            with contextlib.suppress(ConnectionResetError):
                while plug.recv(1 << 20):
                    pass

    def close(self):
        for plug in (self.control, self.door, self.data):
            if plug is not None:
                plug.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Program:
    """`python3 -m station.stills` as its own process."""

    def __init__(self, folder, options, *, python=PYTHON):
        self.folder = folder
        self.log = folder / "log"
        (folder / "stills.json").write_text(json.dumps(options))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-W", "error::DeprecationWarning:station", "-m", "station.stills", "--config", "stills.json"],
                cwd=folder,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def until(self, text, seconds=20.0):
        """Wait until a text is in the log."""
        wait(lambda: text in self.log.read_text() or self.process.poll() is not None, seconds)
        assert text in self.log.read_text(), self.log.read_text()
        return self

    def seconds(self):
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """End it; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(10)


def in_turn(numbers, count):
    """Return whether pictures of a loop of so many came one after the other.

    Where the machine is busy for a whole period, its picture is left out: most steps are by one, and none comes twice.
    """
    steps = [(after - before) % count for before, after in itertools.pairwise(numbers)]
    return 0 not in steps and steps.count(1) > len(steps) / 2


def wait(condition, seconds=20.0):
    """Wait until a condition holds; returns how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "it does not come"
        time.sleep(0.005)
    return time.monotonic() - began
