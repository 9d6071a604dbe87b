"""STOMP frames: taken apart and put together as each dialect says.

`REFERENCE` is what the original server speaks, a kind of STOMP 1.0; `V11` and `V12` are the standard's versions
(https://stomp.github.io). Which one a client speaks shows in its first frame, which is read by the original's rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from station.visuals.message import Message

REFERENCE, V11, V12 = "1.0", "1.1", "1.2"
MAX_HEAD = 16 << 10
"""Bytes of command and headers together."""
MAX_HEADERS = 64
MAX_BODY = 256 << 10
_ESCAPES = {V11: {"\\n": "\n", "\\c": ":", "\\\\": "\\"}, V12: {"\\n": "\n", "\\c": ":", "\\\\": "\\", "\\r": "\r"}}
_ESCAPE = re.compile(r"\\.?", re.DOTALL)
_TO_ESCAPE = {
    V11: str.maketrans({"\n": "\\n", ":": "\\c", "\\": "\\\\"}),
    V12: str.maketrans({"\n": "\\n", ":": "\\c", "\\": "\\\\", "\r": "\\r"}),
}
_LINE_ENDS = str.maketrans({"\n": None, "\r": None, "\0": None})
_SPACE = b" \t\r\n\v\f"
_SPACES = re.compile(rb"[ \t\r\n\v\f]*")
_EOLS = {V11: re.compile(rb"\n*"), V12: re.compile(rb"[\r\n]*")}
_NO_END = {V11: re.compile(rb"\n\n|\0"), V12: re.compile(rb"\n\r?\n|\0")}


class Malformed(Exception):
    """What a client sent is no frame, or a too large one; the text says why."""


@dataclass(slots=True)
class Frame:
    """A frame; of headers of the same name the first counts."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Parser:
    """Takes frames out of a stream of bytes."""

    def __init__(self) -> None:
        self.dialect: str | None = None
        """None until the first frame has told it (whoever reads that frame sets it)."""
        self._buffer = bytearray()
        self._scanned = 0
        self._open: Frame | None = None
        self._length: int | None = None

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._buffer += data

    def next(self) -> Frame | None:
        """Return the next frame, or None if there is no whole one. Raises Malformed; then the stream is of no use."""
        if self.dialect in (None, REFERENCE):
            return self._next_reference()
        return self._next_standard(self.dialect or V12)

    def _skip(self, spaces: re.Pattern[bytes]) -> None:
        if not self._scanned and (match := spaces.match(self._buffer)) and match.end():
            del self._buffer[: match.end()]

    def _next_reference(self) -> Frame | None:
        buffer = self._buffer
        limit = MAX_HEAD + (MAX_BODY if self.dialect else 0)
        while True:
            self._skip(_SPACES)
            end = buffer.find(0, self._scanned)
            if end > limit or (end < 0 and len(buffer) > limit):
                raise Malformed(f"a frame is longer than {limit} bytes")
            if end < 0:
                self._scanned = len(buffer)
                return None
            raw = bytes(buffer[:end]).replace(b"\r", b"")
            del buffer[: end + 1]
            self._scanned = 0
            if raw.strip(_SPACE):
                return _reference(raw)

    def _next_standard(self, dialect: str) -> Frame | None:
        buffer = self._buffer
        if self._open is None:
            self._skip(_EOLS[dialect])
            found = _NO_END[dialect].search(buffer, max(self._scanned - 2, 0))
            end = found.start() if found else len(buffer)
            if end > MAX_HEAD:
                raise Malformed(f"command and headers are longer than {MAX_HEAD} bytes")
            if found is None:
                self._scanned = len(buffer)
                return None
            if found[0] == b"\0":
                raise Malformed("a frame has no empty line after its headers")
            self._open = _standard(bytes(buffer[:end]), dialect)
            self._length = _length(self._open.headers.get("content-length"))
            del buffer[: found.end()]
            self._scanned = 0
        length = self._length
        if length is None:
            length = buffer.find(0, self._scanned)
            if length > MAX_BODY or (length < 0 and len(buffer) > MAX_BODY):
                raise Malformed(f"a body is longer than {MAX_BODY} bytes")
            if length < 0:
                self._scanned = len(buffer)
                return None
        elif len(buffer) <= length:
            return None
        elif buffer[length]:
            raise Malformed("the body is not as long as content-length says")
        frame, self._open = self._open, None
        frame.body = bytes(buffer[:length])
        del buffer[: length + 1]
        self._scanned = 0
        return frame


def _reference(raw: bytes) -> Frame:
    head, _, body = raw.partition(b"\n\n")
    if len(head) > MAX_HEAD or head.count(b"\n") > MAX_HEADERS:
        raise Malformed(f"more than {MAX_HEADERS} headers, or more than {MAX_HEAD} bytes of them")
    command, *lines = head.decode("utf-8", "replace").split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name, value)
    return Frame(command, headers, body)


def _standard(raw: bytes, dialect: str) -> Frame:
    try:
        command, *lines = raw.decode().split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the headers are no UTF-8") from error
    if len(lines) > MAX_HEADERS:
        raise Malformed(f"more than {MAX_HEADERS} headers")
    if dialect == V12:
        command, lines = command.removesuffix("\r"), [line.removesuffix("\r") for line in lines]
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise Malformed("a header is not of the form name:value")
        headers.setdefault(_unescape(name, dialect), _unescape(value, dialect))
    return Frame(command, headers)


def _unescape(text: str, dialect: str) -> str:
    if "\\" not in text:
        return text
    try:
        return _ESCAPE.sub(lambda match: _ESCAPES[dialect][match[0]], text)
    except KeyError as error:
        raise Malformed("a header has an escape sequence that is not defined") from error


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise Malformed("content-length is no number")
    if int(text) > MAX_BODY:
        raise Malformed(f"a body is longer than {MAX_BODY} bytes")
    return int(text)


def _lines(dialect: str, headers: Iterable[tuple[str, str]], *, escaped: bool = True) -> bytes:
    table = _TO_ESCAPE[dialect] if escaped and dialect in _TO_ESCAPE else _LINE_ENDS
    text = "".join(f"{name.translate(table)}:{value.translate(table)}\n" for name, value in headers)
    return text.encode("utf-8", "replace")


def encode(dialect: str, command: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return a frame of the server that is no MESSAGE; a body is told in `content-length`."""
    lines = _lines(dialect, headers, escaped=command != "CONNECTED")
    if body:
        lines += b"content-length:%d\n" % len(body)
    return b"%s\n%s\n%s\0" % (command.encode(), lines, body)


class Shape:
    """What MESSAGE frames of the same dialect, destination and id have in common.

    The frame of the last message is kept where several subscriptions share it, until the next message comes.
    """

    __slots__ = ("_after", "_before", "dialect", "frame", "key", "message", "users")

    def __init__(self, dialect: str, destination: str, name: str | None) -> None:
        self.key = (dialect, destination, name)
        self.dialect = dialect
        self.users = 0
        self.message: Message | None = None
        self.frame = b""
        self._before = b"MESSAGE\n" + _lines(dialect, [("destination", destination)])
        self._after = _lines(dialect, [("subscription", name)]) if name is not None else b""


class Shapes:
    """All shapes in use, and what is rendered of the message that is being handed out."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, str, str | None], Shape] = {}
        self._message: Message | None = None
        self._parts: dict[str, tuple[bytes, bytes]] = {}
        self._kept: list[Shape] = []

    def acquire(self, dialect: str, destination: str, name: str | None) -> Shape:
        """Return the shape of a new subscription; `release` it once."""
        key = (dialect, destination, name)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(dialect, destination, name)
        shape.users += 1
        return shape

    def release(self, shape: Shape) -> None:
        """Give a shape back."""
        shape.users -= 1
        if not shape.users:
            self._shapes.pop(shape.key, None)

    def render(self, shape: Shape, message: Message) -> bytes:
        """Return the MESSAGE frame of a shape."""
        if message is not self._message:
            self._message = message
            self._parts.clear()
            for kept in self._kept:
                kept.message, kept.frame = None, b""
            self._kept.clear()
        parts = self._parts.get(shape.dialect)
        if parts is None:
            parts = self._parts[shape.dialect] = _parts(shape.dialect, message)
        frame = b"".join((shape._before, parts[0], shape._after, parts[1]))
        if shape.users > 1:
            shape.message, shape.frame = message, frame
            self._kept.append(shape)
        return frame


def _parts(dialect: str, message: Message) -> tuple[bytes, bytes]:
    headers = _lines(dialect, message.headers.items())
    if dialect == REFERENCE:
        return headers, b"\n" + message.body.replace(b"\0", b"") + b"\0"
    return headers, b"content-length:%d\n\n%s\0" % (len(message.body), message.body)
