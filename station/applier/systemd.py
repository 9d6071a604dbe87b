"""Asking and telling systemd, by its own tools."""

from __future__ import annotations

import os

from station.applier.layout import Layout
from station.applier.light import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,NeedDaemonReload,FragmentPath,UnitFileState,NRestarts,ConditionResult,"
    "Type,ExecMainStatus,StatusText"
)
JOURNAL_LINES = 15
"""Lines of a failed unit's journal that go into the result."""
ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "Result": "success"}


class Status(dict[str, str]):
    """The properties of one unit, as `systemctl show` prints them."""

    @property
    def running(self) -> bool:
        """Whether a process of the unit works, or is just starting or ending."""
        return self["ActiveState"] in ("active", "reloading", "activating", "deactivating") and not self.looping

    @property
    def looping(self) -> bool:
        """Whether the unit is tried again and again: it waits for the next try, or is in its third or a later one."""
        return self["SubState"] == "auto-restart" or (self.starting and int(self.get("NRestarts") or 0) > 1)

    @property
    def starting(self) -> bool:
        """Whether a start of the unit has not ended yet."""
        return self["ActiveState"] == "activating"

    @property
    def done(self) -> bool:
        """Whether a unit that runs once did so."""
        return self.get("Type") == "oneshot" and self["ActiveState"] == "inactive" and self["Result"] == "success"

    @property
    def masked(self) -> bool:
        """Whether the operator masked the unit."""
        return self["LoadState"] == "masked" or self.get("UnitFileState", "").startswith("masked")


class Systemd:
    """The station's service manager."""

    def __init__(self, layout: Layout) -> None:
        self._systemctl = layout.tool("systemctl")
        self._journalctl = layout.tool("journalctl")
        self._run = layout.tool("systemd-run")
        self._root = layout.root

    def show(self, units: Iterable[str]) -> dict[str, Status]:
        """Return the status of each unit, in one call; unknown ones read as not found."""
        names = sorted(units)
        if not names:
            return {}
        statuses = {name: Status(ABSENT) for name in names}
        for block in output([self._systemctl, "show", f"--property={PROPERTIES}", "--", *names]).split("\n\n"):
            found = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if found.get("Id") in statuses:
                statuses[found["Id"]].update(found)
        return statuses

    def glance(self, units: Iterable[str]) -> dict[str, Status]:
        """Return load, active and sub state of each unit, and nothing else: enough to see that all is well.

        For six units it takes systemd and systemctl 10 ms where `show`, which reads every
        property and each cgroup, takes 30.
        """
        names = sorted(units)
        if not names:
            return {}
        statuses = {name: Status(ABSENT) for name in names}
        options = ["--all", "--plain", "--full", "--no-legend", "--no-pager"]
        for line in output([self._systemctl, "list-units", *options, "--", *names]).splitlines():
            words = line.split()
            if words and words[0] in statuses:
                statuses[words[0]].update(zip(("LoadState", "ActiveState", "SubState"), words[1:4], strict=False))
        return statuses

    def tell(self, verb: str, units: Iterable[str] = (), timeout: float | None = None, wait: bool = True) -> bool:
        """Run a systemctl verb; return whether it ended well within `timeout` seconds.

        After the timeout its jobs go on in systemd; only the waiting ends.
        """
        import subprocess

        command = [self._systemctl, *([] if wait else ["--no-block"]), verb, "--", *sorted(units)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def journal(self, unit: str) -> list[str]:
        """Return the last lines of a unit's journal."""
        text = output(
            [
                self._journalctl,
                "--no-pager",
                "--quiet",
                f"--lines={JOURNAL_LINES}",
                "--output=short-iso",
                f"--unit={unit}",
            ]
        )
        return text.splitlines()[-JOURNAL_LINES:]

    def run_apart(self, unit: str, command: list[str], timeout: float) -> bool:
        """Run a command as a unit of its own that outlives this connection; wait for its end.

        Return whether it ended well within `timeout` seconds. If this process dies, or the
        time is up, the command goes on.
        """
        import subprocess

        start = [self._run, "--quiet", "--wait", "--collect", f"--unit={unit}", "--service-type=exec", "--", *command]
        environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin"), "LC_ALL": "C"}
        try:
            done = subprocess.run(
                start, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0
