"""Segments of a source on this disk: verified against the index, fetched once, or read where they lie."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from station import fetch, index, times
from station.config import Source
from station.index import Segment


class SourceAway(Exception):
    """The source cannot be reached now; trying again later may help."""


class SegmentMissing(Exception):
    """The index lists the segment, but it is gone or not what the index says; waiting does not help."""


@dataclass(slots=True)
class SourceIndex:
    """The index of a source, kept up to date; may be used by several threads.

    `pause` (seconds) is the least time between two looks at the source.
    """

    source: Source
    pause: float = times.MEDIA_TICK
    _reader: index.Reader = field(init=False)
    _segments: dict[str, Segment] = field(default_factory=dict)
    _restarts: int = 0
    _looked: float = float("-inf")
    _away: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._reader = index.reader(self.source.path or self.source.url)

    def segments(self) -> list[Segment]:
        """All segments that the source has now. Raises SourceAway when its index cannot be read."""
        with self._lock:
            if time.monotonic() - self._looked >= self.pause:
                self._look()
            if self._away:
                raise SourceAway(self._away)
            return list(self._segments.values())

    def _look(self) -> None:
        try:
            found = self._reader.poll()
        except index.IndexUnavailable as error:
            # Remembered for the pause: many jobs may ask, and each answer takes a few time-outs.
            self._away, self._looked = str(error), time.monotonic()
            return
        restarts = getattr(self._reader, "restarts", 0)
        if restarts != self._restarts:
            # The index was replaced by one with less in it: what it no longer lists is gone.
            self._restarts = restarts
            self._segments.clear()
        self._segments.update((segment.name, segment) for segment in found)
        self._away, self._looked = "", time.monotonic()


class Fetcher:
    """Puts verified segments of one source at hand.

    A source on this station is read in place; another one's segments are
    copied into `folder`, where a copy that is there already is used again.
    """

    def __init__(self, source: Source, folder: Path, timeout: float = times.INPUT_TIMEOUT) -> None:
        """`timeout` in seconds is how long a source may send nothing."""
        self._source = source
        self._folder = folder
        self._timeout = timeout

    def get(self, segment: Segment) -> Path:
        """Return the path of a segment's verified content.

        Raises SourceAway, SegmentMissing, or OSError if this disk cannot hold it.
        """
        if self._source.path is not None:
            return self._local(self._source.path / segment.name, segment)
        path = self._folder / Path(segment.name).name
        if path.is_file() and _digest(path) == segment.sha256:
            return path
        self._folder.mkdir(parents=True, exist_ok=True)
        # A second try, for a cable may have turned a bit that TCP did not notice; a third would bring the same.
        for _ in range(2):
            if self._download(segment, path):
                return path
        raise SegmentMissing(f"{segment.name}: {self._source.name} no longer has it, or not as its index says")

    def _local(self, path: Path, segment: Segment) -> Path:
        try:
            whole = _digest(path) == segment.sha256
        except FileNotFoundError as error:
            raise SegmentMissing(f"{segment.name}: {self._source.name} no longer has it") from error
        except OSError as error:
            raise SourceAway(f"{path}: {error.strerror}") from error
        if not whole:
            raise SegmentMissing(f"{segment.name}: the file of {self._source.name} is not what its index says")
        return path

    def _download(self, segment: Segment, path: Path) -> bool:
        url = urllib.parse.urljoin(self._source.url, urllib.parse.quote(segment.name))
        part = path.with_suffix(".part")
        try:
            fetch.download(url, part, size=segment.size, sha256=segment.sha256, timeout=self._timeout)
        except fetch.Away as error:
            raise SourceAway(str(error)) from error
        except fetch.Refused:
            return False
        part.replace(path)
        return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
