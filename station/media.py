"""A media folder: segments, their index, the playlist, and what was removed from it.

Written by ingest and record alike, so that both keep the same promises: what the
index lists is whole and durable; what it lacks is dropped at start; what
retention took away is noted in `removed.jsonl` before it goes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from station import files
from station.index import Index, Segment
from station.playlist import Playlist
from station.utc import to_text

log = logging.getLogger(__name__)

REMOVED = "removed.jsonl"
LOST = "lost"
_DAY = re.compile(r"\d{8}")


class MediaFolder:
    """The one writer of an instance's media folder."""

    def __init__(self, folder: Path, tick: float) -> None:
        """Open the folder and bring it in order after whatever happened. Raises OSError."""
        self.folder = folder
        self.index = Index(folder)
        self.removed = self._removed_names()
        self._repair()
        self.playlist = Playlist(folder, tick, self.index.segments)

    def _removed_names(self) -> set[str]:
        names = set()
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / REMOVED).read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    note = json.loads(line)
                    # What was lost, and not let go, may come back from a source.
                    if note["reason"] != LOST:
                        names.add(str(note["name"]))
        return names

    def _segment_files(self) -> dict[str, int]:
        """Name and size of every file in the folders of the days, finished or not."""
        found = {}
        for day in self.folder.iterdir():
            if _DAY.fullmatch(day.name) and day.is_dir():
                for hour in day.iterdir():
                    with os.scandir(hour) as entries:
                        for entry in entries:
                            found[f"{day.name}/{hour.name}/{entry.name}"] = entry.stat().st_size
        return found

    def _repair(self) -> None:
        present = self._segment_files()
        lost = [segment for segment in self.index.segments if present.get(segment.name) != segment.size]
        if lost:
            log.error("%d segments of the index are gone or cut short, the first is %s", len(lost), lost[0].name)
            self.take_off(lost, LOST)
        listed = {segment.name for segment in self.index.segments}
        dropped = [name for name in present if name not in listed]
        for name in dropped:
            (self.folder / name).unlink(missing_ok=True)
        if dropped:
            log.info("dropped %d files that the index lacks", len(dropped))
        for hidden in self.folder.glob(".*.????????"):
            hidden.unlink(missing_ok=True)

    def add(self, segment: Segment, data: bytes) -> None:
        """Keep a segment: content, then index, then playlist.

        Raises OSError, as on a full disk; then nothing of it is left.
        """
        path = self.folder / segment.name
        files.make_folder(path.parent, durable=True)
        files.write(path, data, durable=True)
        try:
            self.index.append(segment)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._list(segment)

    def adopt(self, segment: Segment, partial: Path) -> None:
        """Keep a segment whose content lies in `partial` on the same disk; see `add`."""
        path = self.folder / segment.name
        files.make_folder(path.parent, durable=True)
        files.sync_file(partial)
        partial.replace(path)
        self.index.append(segment)
        self._list(segment)

    def _list(self, segment: Segment) -> None:
        try:
            self.playlist.add(segment)
        except OSError as error:
            # The recording is safe; viewers get the next one.
            log.warning("cannot write the playlist: %s", error)

    def take_off(self, segments: Iterable[Segment], reason: str) -> int:
        """Remove segments: noted, then unlisted, then deleted, so that a crash leaves no line without a file.

        Returns the bytes freed. Raises OSError.
        """
        going = {segment.name: segment for segment in segments}
        if not going:
            return 0
        notes = [
            json.dumps({"name": name, "sha256": one.sha256, "removed": to_text(time.time()), "reason": reason})
            for name, one in going.items()
        ]
        try:
            self._unlist(going, notes, reason)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # The disk has no room even for the note: the oldest file makes some.
            (self.folder / next(iter(going))).unlink(missing_ok=True)
            self._unlist(going, notes, reason)
        freed = 0
        for name, segment in going.items():
            (self.folder / name).unlink(missing_ok=True)
            freed += segment.size
        for hour in {(self.folder / name).parent for name in going}:
            with contextlib.suppress(OSError):  # not empty
                hour.rmdir()
                hour.parent.rmdir()
        return freed

    def _unlist(self, going: Mapping[str, Segment], notes: Iterable[str], reason: str) -> None:
        with (self.folder / REMOVED).open("ab") as file:
            end = file.tell()
            try:
                file.write("".join(note + "\n" for note in notes).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise
        self.index.rewrite(segment for segment in self.index.segments if segment.name not in going)
        if reason != LOST:
            self.removed |= set(going)
