"""The segment index: one JSON line for each finished segment, in the order of recording.

It is the only thing that consumers of media read (DESIGN: media). A line is
written after its segment is durable, so what is listed is whole. Retention
rewrites the file without what it deleted, and readers notice.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from station import files, times, utc

INDEX = "index.jsonl"
CHUNK = 4 << 20
"""Bytes fetched at once: about 12,000 lines, 7 hours of a source."""
LONGEST_LINE = 4096
_NAME = re.compile(r"\d{8}/\d{2}/[A-Za-z0-9_.-]{1,200}\.ts")


class IndexUnavailable(Exception):
    """The index cannot be read now: source away, or an answer that is no index."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of the index.

    `name` is relative to the media folder; `pts` (of the first frame) and
    `duration` are in seconds, `size` in bytes, `utc` is the time of the first
    frame; `discontinuity` means that it does not continue the one before.
    """

    name: str
    seq: int
    pts: float
    utc: str
    duration: float
    frames: int
    size: int
    sha256: str
    discontinuity: bool
    boot_id: str

    @property
    def start(self) -> float:
        """UTC of the first frame in seconds since the epoch."""
        return utc.from_text(self.utc)

    @property
    def end(self) -> float:
        """UTC just after the last frame in seconds since the epoch."""
        return self.start + self.duration

    def line(self) -> bytes:
        """The line as it stands in the index."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


def parse(line: bytes) -> Segment:
    """Read one line; ValueError if it is torn, foreign, or names a path outside the media folder."""
    if len(line) > LONGEST_LINE:
        raise ValueError("line too long")
    value: Any = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    try:
        segment = Segment(
            name=str(value["name"]),
            seq=int(value["seq"]),
            pts=float(value["pts"]),
            utc=str(value["utc"]),
            duration=float(value["duration"]),
            frames=int(value["frames"]),
            size=int(value["size"]),
            sha256=str(value["sha256"]),
            discontinuity=bool(value["discontinuity"]),
            boot_id=str(value["boot_id"]),
        )
        utc.from_text(segment.utc)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no segment: {error}") from error
    # The name becomes a path and a URL on other stations.
    if not _NAME.fullmatch(segment.name) or ".." in segment.name:
        raise ValueError(f"bad segment name {segment.name!r}")
    return segment


def parse_lines(data: bytes) -> Iterator[Segment]:
    """All readable lines; what a power cut tore is passed over."""
    for line in data.split(b"\n"):
        if line:
            try:
                yield parse(line)
            except ValueError:
                continue


class Index:
    """The index of the instance's own media folder: the only writer of `index.jsonl`."""

    def __init__(self, folder: Path) -> None:
        """Open the index below `folder`; a torn end is cut off so that the next line begins a line."""
        self.folder = folder
        self.path = folder / INDEX
        self.segments: list[Segment] = []
        if not self.path.exists():
            files.write(self.path, b"", durable=True)
            return
        data = self.path.read_bytes()
        self.segments = list(parse_lines(data))
        whole = data.rfind(b"\n") + 1
        while whole and not next(parse_lines(data[(start := data.rfind(b"\n", 0, whole - 1) + 1) : whole]), None):
            whole = start
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    @property
    def last(self) -> Segment | None:
        """The newest line."""
        return self.segments[-1] if self.segments else None

    def append(self, segment: Segment) -> None:
        """List a segment: its content and the names of its folders are made durable first.

        Raises OSError, for instance on a full disk; then nothing is listed and
        the file ends where it ended before.
        """
        path = self.folder / segment.name
        files.sync_file(path)
        files.sync_folder(path.parent)
        files.sync_folder(path.parent.parent)
        files.sync_folder(self.folder)
        with self.path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(segment.line())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise
        self.segments.append(segment)

    def rewrite(self, keep: Iterable[Segment]) -> None:
        """Replace the index by fewer lines, in one rename; readers find the change and begin again."""
        segments = list(keep)
        files.write(self.path, b"".join(segment.line() for segment in segments), durable=True)
        self.segments = segments


class Reader(Protocol):
    """Follows an index."""

    def poll(self) -> list[Segment]:
        """Segments listed since the last call; see `reader`."""


class _Follower:
    """Keeps the place in an index that grows, and finds out when it was replaced."""

    def __init__(self) -> None:
        self.restarts = 0
        self._offset = 0
        self._last = b""

    def _bytes(self, start: int) -> bytes:
        raise NotImplementedError

    def poll(self) -> list[Segment]:
        found: list[Segment] = []
        while True:
            # Begin with the last line already known: if it is not there, the index is another one.
            data = self._bytes(self._offset - len(self._last))
            if not data.startswith(self._last):
                self.restarts += 1
                self._offset, self._last = 0, b""
                continue
            whole = data[: data.rfind(b"\n") + 1]
            fresh = whole[len(self._last) :]
            if not fresh:
                return found
            found.extend(parse_lines(fresh))
            self._offset += len(fresh)
            self._last = fresh[fresh.rfind(b"\n", 0, -1) + 1 :]
            if len(data) < CHUNK:
                return found


class _FileReader(_Follower):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _bytes(self, start: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(CHUNK)
        except OSError as error:
            raise IndexUnavailable(f"{self._path}: {error.strerror}") from error


class _HttpReader(_Follower):
    def __init__(self, url: str, timeout: float) -> None:
        super().__init__()
        self._url = url
        self._timeout = timeout

    def _bytes(self, start: int) -> bytes:
        request = urllib.request.Request(self._url, headers={"Range": f"bytes={start}-{start + CHUNK - 1}"})  # noqa: S310 (the URL comes from our own inventory)
        deadline = time.monotonic() + 4 * self._timeout
        data = b""
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                skip = start if answer.status == 200 else 0
                while len(data) < CHUNK + skip and (part := answer.read1(1 << 16)):
                    data += part
                    if time.monotonic() > deadline:
                        raise IndexUnavailable(f"{self._url}: too slow")
                return data[skip : skip + CHUNK]
        except urllib.error.HTTPError as error:
            if error.code == 416:  # shorter than the place that we know
                return b""
            raise IndexUnavailable(f"{self._url}: HTTP {error.code}") from error
        except (OSError, ValueError) as error:
            raise IndexUnavailable(f"{self._url}: {error}") from error


def reader(place: str | Path, timeout: float = times.INPUT_TIMEOUT) -> _FileReader | _HttpReader:
    """Follow the index below a media folder, given as a path or as an HTTP URL.

    Each `poll()` returns the segments that were listed since the last one, in
    order; it never waits for more than a few `timeout`s, and raises
    `IndexUnavailable` when the source is away (call again later). When the index was
    rewritten it begins again from the top, `restarts` grows, and segments come
    a second time: tell them by name.
    """
    text = str(place)
    if text.startswith(("http://", "https://")):
        return _HttpReader(text.rstrip("/") + "/" + INDEX, timeout)
    return _FileReader(Path(place) / INDEX)
