"""A small STOMP 1.2 client of the tests: blocking, with what came kept in a list."""

from __future__ import annotations

import itertools
import select
import socket
import time
from dataclasses import dataclass


@dataclass
class Frame:
    """A frame as it came."""

    command: str
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection; raises AssertionError when the server does not say what it must."""

    def __init__(self, host: str, port: int, *, login: str = "", passcode: str = "", seconds: float = 10) -> None:
        self._socket = socket.create_connection((host, port), seconds)
        self._rest = b""
        self._waiting: list[Frame] = []
        self.bodies: list[bytes] = []
        self._numbers = itertools.count()
        account = f"login:{login}\npasscode:{passcode}\n" if login else ""
        self._write(f"CONNECT\naccept-version:1.2\nhost:lab\n{account}\n".encode())
        assert self._next("CONNECTED", seconds)

    def subscribe(self, destination: str, *, no_last: bool = False) -> None:
        """Subscribe, with the last value unless `no_last`; returns when the server has done it."""
        number = next(self._numbers)
        quiet = "x-ebu-nofastreply:yes\n" if no_last else ""
        self._write(f"SUBSCRIBE\nid:{number}\ndestination:{destination}\n{quiet}receipt:s{number}\n\n".encode())
        assert self._next("RECEIPT", 10)

    def send(self, destination: str, body: bytes, *, receipt: bool = False, seconds: float = 10) -> None:
        """Send, and wait for the receipt if one is asked for."""
        number = next(self._numbers)
        asked = f"receipt:m{number}\n" if receipt else ""
        self._write(f"SEND\ndestination:{destination}\n{asked}content-length:{len(body)}\n\n".encode() + body)
        if receipt:
            assert self._next("RECEIPT", seconds), "no receipt"

    def messages(self, seconds: float = 0.0) -> list[Frame]:
        """Return the messages that came, waiting so long for more."""
        self._read(seconds)
        found = [frame for frame in self._waiting if frame.command == "MESSAGE"]
        self._waiting = [frame for frame in self._waiting if frame.command != "MESSAGE"]
        return found

    def wait_for(self, body: bytes, seconds: float) -> bool:
        """Tell whether a message with this body comes within some seconds."""
        end = time.monotonic() + seconds
        while True:
            if any(message.body == body for message in self.messages()):
                return True
            if time.monotonic() > end:
                return False
            self._read(0.2)

    def seen(self, start: bytes) -> bool:
        """Tell whether a message whose body begins so has come by now."""
        self._read(0.1)
        return any(body.startswith(start) for body in self.bodies)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _write(self, data: bytes) -> None:
        self._socket.sendall(data + b"\0")

    def _next(self, command: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for frame in self._waiting:
                assert frame.command != "ERROR", frame
                if frame.command == command:
                    self._waiting.remove(frame)
                    return True
            self._read(0.2)
        return False

    def _read(self, seconds: float) -> None:
        while select.select([self._socket], [], [], seconds)[0]:
            data = self._socket.recv(1 << 16)
            assert data, "the server has closed the connection"
            self._rest += data
            seconds = 0
        *whole, self._rest = self._rest.split(b"\0")
        for text in whole:
            head, _, body = text.lstrip(b"\n").partition(b"\n\n")
            command, *lines = head.decode().split("\n")
            headers = dict(line.split(":", 1) for line in lines)
            self._waiting.append(Frame(command, headers, body))
            if command == "MESSAGE":
                self.bodies.append(body)
