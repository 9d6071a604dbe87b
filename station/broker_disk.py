"""What a power cut leaves of a broker: its files are synchronised every second, and what was torn is set aside.

RabbitMQ 3.10 does not synchronise streams at all, nor the files that it makes at its first start; after a power cut
within their first half minute those were empty, and it never started again [measured].
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import threading
from pathlib import Path

from station import files

log = logging.getLogger(__name__)
SECOND = 1.0
"""Seconds between two rounds: as much may be lost of what was confirmed, if the power goes on all nodes at once."""
NEVER_EMPTY = ("meta.dets", "names.dets", "schema.DAT")
"""Files that RabbitMQ cannot start with when they are empty."""
ASIDE = "torn"


def set_torn_aside(database: Path) -> bool:
    """Move a node's files away if a power cut has torn them; returns whether it had.

    Whoever has last values publishes them again to the new log. In a cluster the others know the old node: there a
    person must decide, and is told what to do by the documentation.
    """
    torn = [path for name in NEVER_EMPTY for path in database.rglob(name) if path.stat().st_size == 0]
    if not torn:
        return False
    place = database.with_name(f"{database.name}.{ASIDE}")
    shutil.rmtree(place, ignore_errors=True)
    database.rename(place)
    log.error("a power cut has torn %s: the node begins anew, its files are in %s", torn[0], place)
    return True


class Synchroniser:
    """Synchronises what changed below a folder; each round takes what the last one has not seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[int, int, int]] = {}

    def round(self) -> int:
        """Synchronise files that changed, and the folders of new and replaced ones; returns how many files."""
        count = 0
        found: dict[Path, tuple[int, int, int]] = {}
        folders: set[Path] = set()
        for place, _, names in os.walk(self._folder):
            for path in (Path(place, name) for name in names):
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    continue
                found[path] = (status.st_ino, status.st_mtime_ns, status.st_size)
                known = self._known.get(path)
                if known != found[path] and stat.S_ISREG(status.st_mode):
                    # it may be gone again, or no longer ours to open
                    with contextlib.suppress(OSError):
                        files.sync_file(path)
                        count += 1
                    if known is None or known[0] != status.st_ino:
                        folders |= {path.parent, path.parent.parent}
        for folder in folders:
            with contextlib.suppress(OSError):
                files.sync_folder(folder)
        self._known = found
        return count

    def run(self, stop: threading.Event) -> None:
        """Synchronise every second until `stop`."""
        while not stop.wait(SECOND):
            self.round()
