"""A real instance of stills, and clients of its HTTP server that read by the letter."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from tests.labkit import until
from tests.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN = "/usr/bin/python3"


def noise(path, width, height):
    """A picture that cannot be made small."""
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(path, quality=90)
    return str(path)


class House:
    """The program, with options, by one of the two interpreters."""

    def __init__(self, folder, streams, *, python=DEBIAN, sources=None, **options):
        self.folder, self.port, self.python = folder, free_port(), python
        folder.mkdir(parents=True, exist_ok=True)
        told = {"event": "test", "station": "cam", "address": "192.0.2.7", "sources": sources or {}}
        told |= {"http_port": self.port, "streams": streams, **options}
        (folder / "config.json").write_text(json.dumps(told))
        self.process = None

    def start(self):
        command = [self.python, "-W", "error::ResourceWarning", "-m", "station.stills"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.folder / "config.json")],
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert until(lambda: self.process.poll() is not None or self._answers(), 20, 0.05), self.log()
        assert self.process.poll() is None, self.log()
        return self

    def _answers(self):
        with contextlib.suppress(OSError):
            return self.get("/healthz").status == 200
        return False

    def log(self):
        return (self.folder / "log").read_text()

    def stop(self):
        """End it in order; returns how long that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        assert status == 0, self.log()
        assert "Traceback" not in self.log() and "Warning" not in self.log(), self.log()
        return time.monotonic() - began

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def get(self, path, method="GET", host="127.0.0.1", **headers):
        """The answer of one request, read whole; `body` is added to it."""
        connection = http.client.HTTPConnection(host, self.port, timeout=15)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer
        finally:
            connection.close()

    def json(self, path="/streams"):
        return json.loads(self.get(path).body)

    def stream(self, key):
        """What `/streams` says of one."""
        return next(one for one in self.json()["streams"] if one["key"] == key)

    def metric(self, name, **labels):
        """The sum of a family's samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            full, _, value = line.rpartition(" ")
            if full.partition("{")[0] == f"stationmaster_stills_{name}":
                total += float(value) * all(f'{key}="{text}"' in full for key, text in labels.items())
        return total

    def open(self, path, *, host="127.0.0.1", source=None, buffer=None, version="1.1", more=""):
        """A connection that has asked for a path."""
        plug = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        plug.settimeout(10)
        if buffer:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            plug.bind((source, 0))
        plug.connect((host, self.port))
        plug.sendall(f"GET {path} HTTP/{version}\r\nHost: x\r\n{more}\r\n".encode())
        return Reader(plug)


class Reader:
    """An answer that is read bit by bit."""

    def __init__(self, plug):
        self.plug, self.rest = plug, b""
        self._head, self._begun = None, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.plug.close()

    def until(self, end):
        while end not in self.rest:
            self._more()
        found, _, self.rest = self.rest.partition(end)
        return found

    def exactly(self, count):
        while len(self.rest) < count:
            self._more()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def _more(self):
        data = self.plug.recv(1 << 16)
        if not data:
            raise EOFError
        self.rest += data

    def head(self):
        """Status and headers (lower case); read once."""
        if self._head is None:
            first, *lines = self.until(b"\r\n\r\n").decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            self._head = int(first.split()[1]), {key.lower(): value for key, value in pairs}
        return self._head

    def part(self):
        """The next picture of MJPEG: its number, its kind as Pillow sees it, its bytes."""
        status, headers = self.head()
        assert status == 200, (status, self.rest)
        boundary = b"--" + headers["content-type"].partition("boundary=")[2].encode()
        if not self._begun:
            assert self.until(b"\r\n") == boundary
            self._begun = True
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        told = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
        data = self.exactly(int(told["content-length"]))
        assert self.until(b"\r\n") == b""
        assert self.until(b"\r\n") == boundary
        assert told["content-type"] == f"image/{kind(data).lower()}"
        return int(told["x-picture-number"]), kind(data), data


def kind(data):
    """What Pillow says it is, decoded whole."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format


PYTHONS = {"debian": DEBIAN, "venv": sys.executable}
