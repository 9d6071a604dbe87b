"""A server of visuals as its own process, and a STOMP client that sees every byte."""

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if Path("/usr/lib/python3/dist-packages/aiohttp").exists() else "python3"
LOGIN = {"login": "1.studio", "passcode": "secret-of-one"}
OTHER = {"login": "2.studio", "passcode": "secret-of-two"}
OWN = {"login": "stationmaster", "passcode": "token-of-the-event"}
ONE = "/topic/fm/ce1/c221/09580/"
PARK = "/topic/fm/ce1/c444/*/"
"""A channel of one broadcaster that is for all frequencies."""
DAB = "/topic/dab/ce1/ce15/c221/0/"
OPTIONS = {
    "stomp_address": "127.0.0.1",
    "heart_beat": 0.4,
    "connect_timeout": 1.0,
    "token": "token-of-the-event",
    "broadcasters": {
        "1": {
            "users": {"studio": "secret-of-one", "far": "secret-of-far"},
            "networks": ["127.0.0.0/8"],
            "channels": [
                {"topic": ONE, "picture": "https://example.org/1.png", "text": "One"},
                {"topic": DAB},
                {"topic": "/topic/fm/ce1/c444/10000/"},
                {"topic": "/topic/fm/ce1/c444/10100/"},
                {"topic": PARK},
            ],
        },
        "2": {"users": {"studio": "secret-of-two"}, "channels": [{"topic": "/topic/id/example.org/two/"}]},
        "3": {"users": {"studio": "x"}, "networks": ["192.0.2.0/24"], "channels": []},
    },
}


class Server:
    """`python3 -m station.visuals` with options, in a folder."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.port, self.http = free_port(), free_port()
        self.options = {**OPTIONS, "stomp_port": self.port, "http_port": self.http, **options}
        self.config = folder / "visuals.json"
        self.log = folder / "log"
        self.process = None

    def start(self, *arguments, environ=None):
        self.config.write_text(json.dumps(self.options))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "station.visuals", *(arguments or ("--config", str(self.config)))],
                cwd=self.folder,
                stderr=log,
                stdout=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
            )
        end = time.monotonic() + 15
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(15)
        return self.process.returncode

    def client(self, **headers):
        return Client(self.port, **headers)

    def connected(self, headers=None, **more):
        client = self.client(**more)
        client.send("CONNECT", {} if headers is None else headers)
        client.expect("CONNECTED")
        return client

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def files(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


class Reply:
    """A frame of the server, taken apart without any rule but that of the first colon."""

    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\n\n")
        self.command, *lines = head.decode().split("\n")
        self.items = [tuple(line.split(":", 1)) for line in lines]
        self.headers = dict(reversed(self.items))

    def __repr__(self):
        return repr(self.raw)


class Client:
    """A socket to the server."""

    def __init__(self, port, host="127.0.0.1", timeout=15.0, context=None):
        self.socket = socket.create_connection((host, port), timeout)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.v12 = False

    def raw(self, data):
        self.socket.sendall(data)
        return self

    def send(self, command, headers=None, body=b"", **more):
        lines = "".join(f"{key}:{value}\n" for key, value in {**(headers or {}), **more}.items())
        return self.raw(f"{command}\n{lines}\n".encode() + body + b"\0")

    def frame(self, timeout=15.0):
        """Return the next frame; None when the server closed."""
        self.socket.settimeout(timeout)
        while True:
            self.buffer = self.buffer.lstrip(b"\n")
            end = self._end()
            if end is not None:
                raw, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
                return Reply(raw)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buffer += data

    def _end(self):
        head, blank, _ = self.buffer.partition(b"\n\n")
        for line in head.split(b"\n") if blank else ():
            if line.startswith(b"content-length:"):
                end = len(head) + 2 + int(line[15:])
                return end if len(self.buffer) > end else None
        end = self.buffer.find(b"\0")
        return end if end >= 0 else None

    def expect(self, command, **headers):
        frame = self.frame()
        assert frame is not None, "the server closed the connection"
        assert frame.command == command, frame
        for key, value in headers.items():
            assert frame.headers.get(key.replace("_", "-")) == value, frame
        return frame

    def error(self, text):
        return self.expect("ERROR", message=text)

    def sync(self, receipt="sync"):
        """Let everything that was sent be done; nothing else may come meanwhile."""
        self.send("UNKNOWN", receipt=receipt)
        self.expect("RECEIPT", receipt_id=receipt)
        return self

    def alive(self):
        return self.sync("alive")

    def gone(self):
        """Assert that the server closes and sends nothing any more."""
        frame = self.frame()
        assert frame is None, frame

    def quiet(self, seconds=0.15):
        """Assert that nothing comes for some time."""
        try:
            frame = self.frame(seconds)
        except TimeoutError:
            return self
        raise AssertionError(frame)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
