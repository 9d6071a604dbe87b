"""The control groups of stations: what tells a station's processes from all others.

Every station has a group of its own, `stationmaster-lab/<lab>/<station>`, in
each hierarchy: its processes are found there, never by name or by a recorded
process id. On hosts with cgroup v1 or hybrid cgroups there is one hierarchy per
controller; with cgroup v2 there is one for all, and where systemd is PID 1 it is
asked for a scope.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .errors import LabError
from .system import inner_pid, kill, suppress_gone, wait_until

TOP = "stationmaster-lab"
USED = ("cpu", "cpuacct", "pids", "blkio", "memory", "devices")
"""Controllers that stations may set limits in; the others need values of the parent (cpuset) or do not limit."""


def hierarchies(mounts: str | None = None) -> list[Path]:
    """Return the mount points of the cgroup hierarchies that stations use, the one that names processes first.

    `mounts` is the text of /proc/self/mountinfo.
    """
    text = Path("/proc/self/mountinfo").read_text() if mounts is None else mounts
    first: list[Path] = []
    rest: list[Path] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        point = Path(left.split()[4])
        words = set(options.split(","))
        if kind == "cgroup" and "name=systemd" in words:
            first.insert(0, point)
        elif kind == "cgroup2":
            first.append(point)
        elif kind == "cgroup" and words & set(USED):
            rest.append(point)
    if not first:
        raise LabError("this machine has no cgroup v2 and no name=systemd hierarchy mounted: stations cannot boot")
    return first + rest


def unified(points: list[Path]) -> bool:
    """Tell whether the host has cgroup v2 only."""
    return len(points) == 1


def systemd_host() -> bool:
    """Tell whether the host's own PID 1 is systemd (the test of sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


class StationGroup:
    """The control groups of one station."""

    def __init__(self, lab: str, station: str) -> None:
        """Name the groups of `station` in lab `lab`."""
        self.points = hierarchies()
        self.unified = unified(self.points)
        self.scope = f"{TOP}-{lab}-{station}.scope" if self.unified and systemd_host() else None
        below = f"system.slice/{self.scope}" if self.scope else f"{TOP}/{lab}/{station}"
        self.folders = [point / below for point in self.points]

    def prepare(self) -> None:
        """Make the groups; with a scope systemd does it."""
        if self.scope:
            return
        for folder in self.folders:
            # another lab's end may remove the common parent in between
            wait_until(partial(_made, folder), 2)
        if self.unified:
            lab, top = self.folders[0].parents[:2]
            for folder in (self.points[0], top, lab):
                enable_controllers(folder)

    def launch_prefix(self) -> list[str]:
        """Return the words before a command that make it start in a group of its own where systemd rules."""
        if not self.scope:
            return []
        return [
            "systemd-run", "--quiet", "--scope", "--collect", f"--unit={self.scope}", "--slice=system.slice",
            "--property=Delegate=yes",
        ]  # fmt: skip

    def controllers(self) -> list[str]:
        """Return the folders below /sys/fs/cgroup that the station's init must make writable (v1 only)."""
        return [] if self.unified else [point.name for point in self.points]

    def pids(self) -> list[int]:
        """Return all living processes of the station, as this machine numbers them."""
        return [pid for pid, _ in self._living()]

    def leader(self) -> int | None:
        """Return the station's PID 1 as this machine numbers it, None when the station is off."""
        return next((pid for pid, inner in self._living() if inner[1:] == [1]), None)

    def outside(self) -> int | None:
        """Return a process of the station that is not in its PID namespace: launcher or nspawn."""
        return next((pid for pid, inner in self._living() if len(inner) == 1), None)

    def _living(self) -> Iterator[tuple[int, list[int]]]:
        """Give each living process with its ids from this machine's namespace inwards, none read before its turn."""
        for listing in _walk(self.folders[0]):
            words: list[str] = []
            with suppress_gone():
                words = (listing / "cgroup.procs").read_text().split()
            for pid in map(int, words):
                if inner := inner_pid(pid):
                    yield pid, inner

    def kill(self, seconds: float = 10) -> None:
        """Kill all processes of the station, its PID 1 first, and wait for their end.

        Raises LabError when some are left after `seconds`.
        """
        if leader := self.leader():
            kill([leader])
            wait_until(lambda: not self.pids(), 2)

        def gone() -> bool:
            left = self.pids()
            kill(left, signal.SIGKILL)
            return not left

        if not wait_until(gone, seconds):
            raise LabError(f"processes {self.pids()} of {self.folders[0].name} do not end")

    def remove(self) -> None:
        """Remove the groups, innermost first; those that hold processes stay."""
        for folder in self.folders:
            for inner in reversed(list(_walk(folder))):
                _rmdir(inner)
            if not self.scope:
                for parent in folder.parents[:2]:
                    _rmdir(parent)


def stations_of(lab: str) -> set[str]:
    """Return the stations of a lab that have control groups, whatever else is known of it."""
    found: set[str] = set()
    for point in hierarchies():
        found.update(path.name for path in point.glob(f"{TOP}/{lab}/*/"))
        scopes = (path.name for path in point.glob(f"system.slice/{TOP}-{lab}-*.scope"))
        found.update(name.removeprefix(f"{TOP}-{lab}-").removesuffix(".scope") for name in scopes)
    return found


def enable_controllers(folder: Path) -> None:
    """Enable for a v2 group's children every controller that it has itself."""
    with suppress_gone():
        for name in (folder / "cgroup.controllers").read_text().split():
            try:
                (folder / "cgroup.subtree_control").write_text(f"+{name}")
            except OSError as error:
                raise LabError(f"controller {name} cannot be enabled in {folder}: {error.strerror}") from error


def _walk(folder: Path) -> Iterator[Path]:
    with suppress_gone():
        yield folder
        with os.scandir(folder) as entries:
            below = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for each in below:
            yield from _walk(each)


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        return False
    return True


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
