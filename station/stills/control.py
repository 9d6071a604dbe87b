"""The words that clients of the old protocol send, the same over TCP and UDP.

A request is a line ended by CRLF (LF alone will do); its first word says what it is. Nothing is ever answered, and what
is not known is left out, so no bytes whatever can be an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LINE = 1024
"""Bytes of a line at most, the size of the reference's reads; a longer one is left out."""
NUMBERED = frozenset(("GET", "LISTEN_PORT", "FRAGMENT_SIZE"))
"""Words that need a number."""
WORDS = NUMBERED | {"START", "PAUSE", "END", "ALIVE"}
_NUMBER = re.compile(rb"-?[0-9]{1,9}\Z")


class Command(NamedTuple):
    """One request; `number` is 0 for words that need none."""

    word: str
    number: int = 0


def parse(line: bytes) -> Command | None:
    """Return the request of one line, None for a line that is none."""
    words = line.split()
    if not words or len(line) > LINE:
        return None
    word = words[0].decode("latin-1")
    if word not in WORDS:
        return None
    if word not in NUMBERED:
        return Command(word)
    if len(words) < 2 or not _NUMBER.match(words[1]):
        return None
    return Command(word, int(words[1]))


def commands(datagram: bytes) -> Iterator[Command]:
    """Yield the requests of a datagram, which are whole also where its last line has no end."""
    for line in datagram.split(b"\n"):
        if (command := parse(line)) is not None:
            yield command


class Lines:
    """Requests that come in pieces, as TCP delivers them."""

    __slots__ = ("_rest", "_skipping")

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Command]:
        """Return the requests that are whole with these bytes; at most LINE bytes are kept for the next call."""
        *lines, rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if len(rest) > LINE:
            self._skipping = True
        self._rest = b"" if self._skipping else rest
        return [command for line in lines if (command := parse(line)) is not None]
