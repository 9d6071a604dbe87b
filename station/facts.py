"""Reads what the filters of the encoder report about each frame.

`metadata=print` and `ametadata=print` write records of the form

    frame:12   pts:480000  pts_time:0.48
    lavfi.r128.M=-23.1
    station=a0

to one pipe; the key `station` is added last by us and says which filter spoke.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

KEY = "station"
LONGEST = 1 << 16
_HEAD = re.compile(rb"frame:\d+\s+pts:(-?\d+)")


@dataclass(frozen=True, slots=True)
class Fact:
    """One record: who (`v`, `a0`, `a1`…), the PTS in the filter's ticks, and the values."""

    who: str
    pts: int
    values: dict[str, str]


class Parser:
    """Turns the bytes of the pipe into facts."""

    def __init__(self) -> None:
        self._rest = b""
        self._pts: int | None = None
        self._values: dict[str, str] = {}

    def feed(self, data: bytes) -> Iterator[Fact]:
        """Yield the records that these bytes complete."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-LONGEST:]
        for line in lines:
            if head := _HEAD.match(line):
                self._pts, self._values = int(head[1]), {}
                continue
            key, _, value = line.decode("ascii", "replace").partition("=")
            if key != KEY:
                self._values[key] = value
            elif self._pts is not None:
                yield Fact(value, self._pts, self._values)
                self._pts = None
