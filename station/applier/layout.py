"""Where everything of ours lies on a station."""

from __future__ import annotations

import os

GENERATIONS_KEPT = 5
"""Generations kept to go back to; the current and the pinned one are kept besides."""
OURS = "stationmaster-"
"""How the name of every unit of ours begins."""


class Refusal(Exception):
    """The applier will not do what it was asked, and nothing was changed.

    `error` is the type's name as callers see it (`BlockedRole`, `Locked`, …), the
    text says what is wrong and what to do, `details` are further keys of the answer.
    """

    def __init__(self, error: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.error = error
        self.details = details


class Layout:
    """Paths below `root`: empty on a station, a temporary folder in tests."""

    def __init__(self, root: str = "") -> None:
        self.root = root
        self.home = root + "/var/lib/stationmaster"
        self.generations = self.home + "/generations"
        self.current = self.home + "/current"
        self.engine = self.home + "/engine"
        self.state = self.home + "/state.json"
        self.on_air = self.home + "/on-air.json"
        self.pending = self.home + "/pending.json"
        self.outcome = self.home + "/outcome.json"
        self.provision = self.home + "/provision.json"
        self.lock = self.home + "/lock"
        self.converging = self.home + "/converging"
        self.stopped = self.home + "/stopped"
        self.blocked_roles = (root + "/etc/stationmaster/blocked-roles", self.home + "/blocked-roles")
        self.started = root + "/run/stationmaster/started"
        self.units = root + "/usr/local/lib/systemd/system"
        self.units_target = self.current + "/units"
        self.data = root + "/srv/stationmaster"
        self.boot_id = root + "/proc/sys/kernel/random/boot_id"

    def tool(self, name: str) -> str:
        """Return the path of a program of the station's."""
        return f"{self.root}/usr/bin/{name}"

    def generation(self, number: int) -> str:
        """Return the folder of a generation."""
        return f"{self.generations}/{number}"

    def current_number(self) -> int:
        """Return the number of the current generation, 0 before the first."""
        try:
            return int(os.readlink(self.current).rpartition("/")[2])
        except (FileNotFoundError, ValueError):
            return 0

    def numbers(self) -> list[int]:
        """Return the numbers of all generations, oldest first."""
        try:
            return sorted(int(name) for name in os.listdir(self.generations) if name.isdecimal())
        except FileNotFoundError:
            return []

    def started_hashes(self) -> dict[str, str]:
        """Return the hash that each of our units was last started with, since boot."""
        hashes = {}
        try:
            names = os.listdir(self.started)
        except FileNotFoundError:
            return {}
        for name in names:
            if name.startswith(OURS):
                try:
                    with open(f"{self.started}/{name}", encoding="utf-8") as file:
                        hashes[name] = file.read().strip()
                except OSError:
                    continue  # it vanished, or is no file: as if never started
        return hashes

    def prepare(self) -> None:
        """Make the folders and the link that systemd reads our units through.

        Refusal `ForeignUnitFolder` if the operator keeps units of their own there.
        """
        for folder in (self.generations, self.engine, self.stopped):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        os.chmod(self.engine, 0o700)
        if os.path.islink(self.units) and os.readlink(self.units) == self.units_target:
            return
        os.makedirs(os.path.dirname(self.units), exist_ok=True)
        if os.path.isdir(self.units) and not os.path.islink(self.units):
            try:
                os.rmdir(self.units)
            except OSError:
                raise Refusal(
                    "ForeignUnitFolder",
                    f"{self.units} holds files that are not ours ({', '.join(sorted(os.listdir(self.units))[:3])}). "
                    "Stationmaster owns this folder: move them to /etc/systemd/system and apply again.",
                ) from None
        staged = self.units + ".stationmaster"
        if os.path.lexists(staged):
            os.unlink(staged)
        os.symlink(self.units_target, staged)
        os.rename(staged, self.units)
