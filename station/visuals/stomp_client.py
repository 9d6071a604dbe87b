"""A small STOMP 1.2 client for the programs of an event that speak to an instance of visuals."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from station.config import Config, ConfigError, typed
from station.visuals.tls import trusting

HEARTBEAT = 5.0
"""Seconds between two signs of life, from either side."""
SILENCE = 3 * HEARTBEAT
"""Seconds without any byte after which the other side is gone."""
CONNECT_TIMEOUT = 5.0
LIMIT = 16 << 20
"""Bytes of a frame at most."""
LOGIN = "stationmaster"
_ESCAPES = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}
_UNESCAPES = {value: key for key, value in _ESCAPES.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance of visuals serves STOMP; a `certificate` (see tls.trusting) means TLS."""

    host: str
    port: int
    token: str = field(repr=False)
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; of a repeated header the first counts."""

    command: str
    headers: Mapping[str, str]
    body: bytes = b""


def places(config: Config, references: list[str]) -> list[Place]:
    """Return where the instances of visuals are that are named as `station/instance`.

    Raises:
        ConfigError: one is unknown or has no token.
    """
    found = []
    for name in references:
        source = config.sources.get(name)
        if source is None:
            raise ConfigError("options.from", f"names {name!r}, which is not among `sources`")
        prefix = f"sources.{name}.options."
        certificate = None
        if isinstance(source.options.get("tls"), dict):
            certificate = typed(source.options, "tls.certificate", str, prefix=prefix)
        port = (
            typed(source.options, "tls.stomp_port", int, 61614)
            if certificate
            else typed(source.options, "stomp_port", int, 61613)
        )
        token = typed(source.options, "token", str, prefix=prefix)
        found.append(Place(source.address or "127.0.0.1", port, token, certificate))
    return found


class Connection:
    """One connection, logged in as the internal account."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `connect`."""
        self._reader, self._writer = reader, writer
        self._beat: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, place: Place) -> Connection:
        """Connect and log in. Raises OSError, also for a login that is refused; ValueError for a bad certificate."""
        context: ssl.SSLContext | None = trusting(place.certificate) if place.certificate else None
        async with asyncio.timeout(CONNECT_TIMEOUT):
            streams = await asyncio.open_connection(place.host, place.port, ssl=context, limit=LIMIT)
            connection = cls(*streams)
            try:
                beat = str(int(HEARTBEAT * 1000))
                headers = {"accept-version": "1.2", "host": place.host, "heart-beat": f"{beat},{beat}"}
                connection.send(Frame("CONNECT", {**headers, "login": LOGIN, "passcode": place.token}))
                answer = await connection.receive()
                if answer.command != "CONNECTED":
                    raise ConnectionError(answer.headers.get("message", f"answered {answer.command}"))
            except BaseException:
                connection.drop()
                raise
        connection._beat = asyncio.create_task(connection._beating())
        return connection

    def send(self, frame: Frame) -> None:
        """Send a frame; what does not go out at once waits in memory."""
        escape = (lambda text: text) if frame.command == "CONNECT" else _escaped
        lines = [frame.command, *[f"{escape(key)}:{escape(value)}" for key, value in frame.headers.items()]]
        if frame.body:
            lines.append(f"content-length:{len(frame.body)}")
        self._writer.write("\n".join([*lines, "", ""]).encode() + frame.body + b"\0")

    async def drain(self) -> None:
        """Wait until the other side takes more. Raises OSError."""
        await self._writer.drain()

    async def receive(self) -> Frame:
        """Return the next frame that is no heart-beat.

        Raises:
            OSError: the connection is lost, was silent too long, or what came is no frame.
        """
        try:
            while not (command := (await self._until(b"\n")).strip(b"\r\n").decode()):
                pass
            headers: dict[str, str] = {}
            while line := (await self._until(b"\n")).rstrip(b"\r\n"):
                key, _, value = line.decode().partition(":")
                if command != "CONNECTED":
                    key, value = _unescaped(key), _unescaped(value)
                headers.setdefault(key, value)
            if length := headers.get("content-length"):
                async with asyncio.timeout(SILENCE):
                    body = await self._reader.readexactly(int(length) + 1)
            else:
                body = await self._until(b"\0")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise ConnectionError(f"the connection was lost ({type(error).__name__})") from error
        return Frame(command, headers, body[:-1])

    async def _until(self, end: bytes) -> bytes:
        async with asyncio.timeout(SILENCE):
            return await self._reader.readuntil(end)

    async def _beating(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT / 2)
            self._writer.write(b"\n")

    def drop(self) -> None:
        """Close at once."""
        if self._beat is not None:
            self._beat.cancel()
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _unescaped(text: str) -> str:
    """Raises ValueError for an escape that STOMP 1.2 does not know."""
    parts, place = [], 0
    while place < len(text):
        if text[place] == "\\":
            pair = text[place : place + 2]
            if pair not in _UNESCAPES:
                raise ValueError(f"unknown escape {pair!r}")
            parts.append(_UNESCAPES[pair])
            place += 2
        else:
            parts.append(text[place])
            place += 1
    return "".join(parts)
