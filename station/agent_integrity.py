"""Whether the applied generation's files are as they were applied: read anew only when something about them changed."""

from __future__ import annotations

import os
import time
from typing import Any

from station.applier import files
from station.applier.layout import Layout

ROOT = (0, 0)
READ_AGAIN = 600.0
"""Seconds after which all is read again, for a disk that changed a file behind our back."""

_Sign = tuple[tuple[int, ...], ...]


class Integrity:
    """Remembers what the files looked like when they were last read.

    Inode, size, mode, owner and change time of a file and of its folders: nobody edits, adds or removes a
    file without changing one of them. `owner` is who owns the files, user and group.
    """

    def __init__(self, layout: Layout, owner: tuple[int, int] = ROOT) -> None:
        self._layout = layout
        self._owner = owner
        self._known: tuple[int, _Sign] | None = None
        self._intact = False
        self._read_at = 0.0
        self.readings = 0

    def look(self, number: int, manifest: dict[str, Any]) -> bool:
        """Return whether generation `number` is intact. Raises OSError if its files may not be read."""
        folder = self._layout.generation(number)
        looks = (number, _sign(folder, manifest))
        if looks != self._known or time.monotonic() - self._read_at > READ_AGAIN:
            self._intact = not files.drift(folder, manifest, self._owner)
            self._known, self._read_at = looks, time.monotonic()
            self.readings += 1
        return self._intact


def _sign(folder: str, manifest: dict[str, Any]) -> _Sign:
    paths = {*manifest["files"], *manifest["links"]}
    for path in list(paths):
        while path:
            path = path.rpartition("/")[0]
            paths.add(path)
    found: list[tuple[int, ...]] = []
    for path in sorted(paths):
        try:
            status = os.lstat(f"{folder}/{path}")
        except FileNotFoundError:
            found.append((0,))
            continue
        found.append((
            status.st_ino, status.st_size, status.st_mode, status.st_uid, status.st_gid, status.st_ctime_ns,
        ))  # fmt: skip
    return tuple(found)
