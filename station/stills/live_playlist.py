"""Whether a live playlist is one: its source may have ended long ago, and left the file.

ffmpeg would show the last segment of such a file at each start, as if it were of now.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from station.config import Source
from station.playlist import PLAYLIST
from station.utc import from_text, to_text

LARGEST = 1 << 20
"""Bytes of a playlist; that of an ingest has some hundreds."""
TIME = "#EXT-X-PROGRAM-DATE-TIME:"
LENGTH = "#EXTINF:"


class Away(Exception):
    """There is nothing live to be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a playlist told: `last` is its last segment, `end` that one's end in UTC, where it says so."""

    last: str
    end: float | None


def parse(text: str) -> Look:
    """Read a playlist (RFC 8216). Raises Away where there is no segment in it."""
    last, end, length = "", None, 0.0
    begin: float | None = None
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            if line.startswith(TIME):
                begin = from_text(line.removeprefix(TIME).strip())
            elif line.startswith(LENGTH):
                length = float(line.removeprefix(LENGTH).partition(",")[0])
        if line.strip() and not line.startswith("#"):
            last, end = line, None if begin is None else begin + length
            begin = end
    if not text.startswith("#EXTM3U") or not last:
        raise Away("its playlist lists nothing yet")
    return Look(last, end)


class Watch:
    """Looks at the playlist of a source.

    Args:
        source: whose; on this station its file is read.
        fresh: seconds; a playlist whose end is at most so far from now is live without a second look. Beyond, as
            when the clocks of two stations differ, it is live once it changed between two looks.
        timeout: seconds for an answer.
    """

    def __init__(self, source: Source, fresh: float, timeout: float) -> None:
        self._source = source
        self._fresh = fresh
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._known: Look | None = None

    @property
    def place(self) -> str:
        """The playlist as ffmpeg is told it."""
        return f"file:{self._source.path / PLAYLIST}" if self._source.path else self._source.url + PLAYLIST

    def forget(self) -> None:
        """Take no earlier look for a proof any more."""
        self._known = None

    async def look(self) -> None:
        """Return where the source is live. Raises Away."""
        try:
            text = self._read(self._source.path) if self._source.path else await self._fetch()
        except TimeoutError as error:
            raise Away("no answer") from error
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise Away(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        found, known = parse(text), self._known
        self._known = found
        if found.end is not None and abs(time.time() - found.end) <= self._fresh:
            return
        if known is None or known.last == found.last:
            raise Away(f"nothing new since {to_text(found.end)[:19]}Z" if found.end else "nothing new in its playlist")

    def _read(self, folder: Path) -> str:
        with (folder / PLAYLIST).open("rb") as file:
            return file.read(LARGEST).decode(errors="replace")

    async def _fetch(self) -> str:
        # a session of its own: looks are rare, and nothing stays open meanwhile
        async with (
            aiohttp.ClientSession(timeout=self._timeout) as client,
            client.get(self._source.url + PLAYLIST) as answer,
        ):
            if answer.status != 200:
                raise Away(f"HTTP {answer.status}")
            data = b""
            async for piece in answer.content.iter_chunked(1 << 16):
                data += piece
                if len(data) > LARGEST:
                    raise Away("its playlist is too long to be one")
            return data.decode(errors="replace")
