"""Free space of the disk that a media folder is on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes free for us and bytes in all; inodes count too, a disk can be full of names."""

    free: int
    total: int

    @property
    def share(self) -> float:
        """The free share, 0 to 1."""
        return self.free / self.total if self.total else 0.0


def space(folder: Path) -> Space:
    """Measure it. Raises OSError."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    total = found.f_blocks * found.f_frsize
    return Space(0 if found.f_files and not found.f_favail else free, total)


def report(now: Space, reserve: int, rate: float, *, full: bool, warn_hours: float) -> dict[str, Any]:
    """The `disk` part of status.json.

    `rate` is what the instance writes, in bytes a second; `reserve` (bytes) is
    what retention keeps free; `full` says that the last write failed.
    """
    hours = now.free / rate / 3600 if rate > 0 else None
    state = "full" if full else "low" if hours is not None and hours < warn_hours else "ok"
    return {**asdict(now), "reserve": reserve, "hours_left": None if hours is None else round(hours, 2), "state": state}
