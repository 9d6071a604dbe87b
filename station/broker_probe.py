"""Asks a broker whether it serves: logs in over AMQP 0.9.1, opens the virtual host and says goodbye.

A mere TCP connection proves little, and one that is dropped in the middle fills the broker's log.
"""

from __future__ import annotations

import socket
import struct

from station.foreign import Probe

HEADER = b"AMQP\x00\x00\x09\x01"
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK = (10, 10), (10, 11), (10, 30), (10, 31), (10, 40), (10, 41)
CLOSE, CLOSE_OK = (10, 50), (10, 51)
"""Class and method numbers: AMQP 0.9.1, section 1.4."""
METHOD_FRAME, FRAME_END = 1, 0xCE


class AmqpProbe(Probe):
    """Logs in at an address of this machine."""

    def __init__(self, address: str, port: int, user: str, password: str, timeout: float) -> None:
        """`timeout` is in seconds, for each step."""
        super().__init__(f"tcp://{address}:{port}", timeout)
        self._user, self._password = user, password

    def failure(self) -> str | None:
        """See Probe."""
        try:
            with socket.create_connection(self._address, self._timeout) as channel:
                channel.settimeout(self._timeout)
                channel.sendall(HEADER)
                _expect(channel, START)
                plain = f"\0{self._user}\0{self._password}".encode()
                answer = struct.pack(">I", 0) + _short(b"PLAIN") + struct.pack(">I", len(plain)) + plain
                _send(channel, START_OK, answer + _short(b"en_US"))
                limits = _expect(channel, TUNE)
                _send(channel, TUNE_OK, limits[:6] + struct.pack(">H", 0))
                _send(channel, OPEN, _short(b"/") + _short(b"") + b"\0")
                _expect(channel, OPEN_OK)
                _send(channel, CLOSE, struct.pack(">H", 200) + _short(b"") + struct.pack(">HH", 0, 0))
                _expect(channel, CLOSE_OK)
        except (OSError, struct.error) as error:
            return str(error) or type(error).__name__
        return None


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _send(channel: socket.socket, method: tuple[int, int], arguments: bytes) -> None:
    payload = struct.pack(">HH", *method) + arguments
    channel.sendall(struct.pack(">BHI", METHOD_FRAME, 0, len(payload)) + payload + bytes([FRAME_END]))


def _expect(channel: socket.socket, method: tuple[int, int]) -> bytes:
    """Return the arguments of a method. Raises OSError for another one."""
    kind, _, size = struct.unpack(">BHI", _read(channel, 7))
    payload = _read(channel, size + 1)[:-1]
    got = struct.unpack(">HH", payload[:4])
    if kind != METHOD_FRAME or got != method:
        raise OSError(f"the broker refuses (method {got[0]}.{got[1]})")
    return payload[4:]


def _read(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise OSError("the broker closed the connection")
        data += part
    return data
