"""Descriptors of what runs now: a file in `running/` for each stream, by which a catalogue finds it.

The original removes its files on SIGINT only; what a crash left was listed for ever, a ghost. Ours are locked
(flock) while their process lives, so whoever finds one without a lock knows that nobody serves it; and a first
line of several words, which old readers pass over, tells ours from those of other programs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)
FOLDER = Path("running")
"""Where the original's servers write and its catalogue reads, below the working folder."""
LARGEST = 1 << 20
"""Bytes of a descriptor; 10,000 paths of images have half of it."""
_NOTE = "# written by stationmaster, locked while it runs"
_OURS = re.compile(re.escape(_NOTE) + r"(?:; HTTP port ([0-9]{1,5}), stream ([A-Za-z0-9_-]{1,64}))?\s*$", re.MULTILINE)


class RunningError(Exception):
    """A running descriptor that cannot be written; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A descriptor that a folder has: its name and text; `http_port` 0 is no HTTP, `key` names the stream there."""

    name: str
    text: str
    http_port: int = 0
    key: str = ""


class Running:
    """The running descriptors of this process; as a context manager it removes them at the end."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Take the folder, which is made when there is something to write."""
        self._folder = folder
        self._open: list[tuple[Path, int]] = []

    def add(self, text: str, http_port: int = 0, key: str = "") -> Path:
        """Write a descriptor and hold its lock.

        Args:
            text: as `--save` writes it.
            http_port: where the stream is served by HTTP, 0 for nowhere.
            key: of the stream there.

        Returns:
            The file, named by time and chance as the original's.

        Raises:
            RunningError: the folder takes no file.
        """
        note = _NOTE + (f"; HTTP port {http_port}, stream {key}" if http_port else "")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{time.time():.2f}{secrets.randbelow(10**9):09d}"
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            self._open.append((path, file))
            # Locked before it has a first byte: an empty file is nobody's ghost.
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(file, f"{note}\n{text}".encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise RunningError(
                f"cannot write into the folder {self._folder} that a catalogue reads: {error.strerror}; "
                "make it writable, or start in another folder"
            ) from error
        return path

    def close(self) -> None:
        """Remove the files."""
        for path, file in self._open:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(file)
        self._open.clear()

    def __enter__(self) -> Running:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files."""
        self.close()


def find(folder: Path) -> list[Found]:
    """Return the descriptors of a folder in order of their names, without ghosts of ours.

    Files of other programs are returned as they are: only their writers know whether they still run. Hidden files
    and what cannot be read are left out. Raises OSError when the folder cannot be listed.
    """
    found = []
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(OSError):
            one = _read(path)
            if one is not None:
                found.append(one)
    return found


def clean(folder: Path) -> list[Path]:
    """Remove what processes of ours left that ended without removing it; returns the files."""
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                if _remove(path):
                    removed.append(path)
    if removed:
        log.info("removed %d descriptors of processes that have ended", len(removed))
    return removed


def _open_file(path: Path) -> int | None:
    if path.name.startswith("."):
        return None
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if os.fstat(file).st_size > LARGEST:
        os.close(file)
        return None
    return file


def _text(file: int) -> str:
    return os.pread(file, LARGEST, 0).decode("utf-8", "surrogateescape")


def _read(path: Path) -> Found | None:
    file = _open_file(path)
    if file is None:
        return None
    try:
        text = _text(file)
        ours = _OURS.match(text)
        if ours and not _locked(file):
            return None
        return Found(path.name, text, int(ours[1] or 0), ours[2] or "") if ours else Found(path.name, text)
    finally:
        os.close(file)


def _remove(path: Path) -> bool:
    file = _open_file(path)
    if file is None:
        return False
    try:
        if _OURS.match(_text(file)) and not _locked(file):
            path.unlink()
            return True
    finally:
        os.close(file)
    return False


def _locked(file: int) -> bool:
    """Tell whether somebody holds the lock; a shared one is tried, so that those who look do not see one another."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        # held, or a file system without locks: then nothing tells a ghost, and it is shown
        return True
    return False
