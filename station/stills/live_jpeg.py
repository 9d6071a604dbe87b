"""Takes a row of JPEG pictures apart, as ffmpeg's image2pipe writes it: by their markers (ITU-T T.81, annex B).

To look for the two bytes of the end marker alone is not enough: a table may hold them.
"""

from __future__ import annotations

LARGEST = 20 << 20
"""Bytes of one picture; more is no picture."""
_START = b"\xff\xd8\xff"
_FILL, _SOI, _EOI, _SOS, _TEM = 0xFF, 0xD8, 0xD9, 0xDA, 0x01
_LONE = {_SOI, _TEM, *range(0xD0, 0xD8)}
"""Markers without a length behind them; those from D0 to D7 stand within a picture's data."""


class Splitter:
    """Collects bytes until they are whole pictures."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._scanning = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pictures that have become whole, oldest first; what is no picture is left out."""
        self._data += data
        found = []
        while True:
            self._align()
            end = self._end()
            if end is None:
                break
            if end:
                found.append(bytes(self._data[:end]))
            self._drop(end or 1)
        if len(self._data) > LARGEST:
            self._drop(len(self._data))
        return found

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._at = 0
        self._scanning = False

    def _align(self) -> None:
        """Leave out what stands before a picture."""
        if self._at == 0 and not self._data.startswith(_START):
            start = self._data.find(_START)
            self._drop(start if start >= 0 else max(0, len(self._data) - len(_START) + 1))

    def _end(self) -> int | None:
        """Where the first picture ends; None while that has not come, 0 if it is none."""
        data = self._data
        while True:
            if self._scanning:
                # a byte FF of the picture's data is followed by 00
                self._at = data.find(b"\xff", self._at)
                if self._at < 0:
                    self._at = len(data)
            if self._at + 2 > len(data):
                return None
            if data[self._at] != _FILL:
                return 0
            marker = data[self._at + 1]
            if self._scanning and marker == 0:
                self._at += 2
            elif marker == _FILL:
                self._at += 1
            elif marker == _EOI:
                return self._at + 2
            elif marker in _LONE:
                self._at += 2
            elif self._at + 4 > len(data):
                return None
            else:
                self._at += 2 + int.from_bytes(data[self._at + 2 : self._at + 4], "big")
                self._scanning = marker == _SOS
