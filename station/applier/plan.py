"""What has to happen to the units, from what runs and what should."""

from __future__ import annotations

import os

from station.applier.layout import OURS, Layout
from station.applier.systemd import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Plan:
    """Units to start, restart and stop; those to wait for; those that are held; and what had drifted."""

    def __init__(self) -> None:
        self.start: list[str] = []
        self.restart: list[str] = []
        self.stop: list[str] = []
        self.starting: list[str] = []
        self.held: list[dict[str, str]] = []
        self.drift: list[dict[str, str]] = []
        self.reload = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.start or self.restart or self.stop or self.reload)


def names_of_interest(layout: Layout, *manifests: dict[str, Any]) -> set[str]:
    """Return all units that some manifest names or that was started since boot."""
    names = set(layout.started_hashes())
    for manifest in manifests:
        names |= manifest["units"].keys()
    return names


def started_with_edits(layout: Layout, have: dict[str, Any], damage: dict[str, str]) -> list[str]:
    """Return the units that were started after a hand had changed a file of theirs.

    What they run is not what their hash says, so that mending the file is not enough.
    """
    found = []
    for name, unit in have["units"].items():
        edited = [path for path in ("units/" + name, *unit["reads"]) if path in damage]
        if edited:
            try:
                start = os.stat(f"{layout.started}/{name}").st_mtime_ns
            except OSError:
                continue  # it was never started: nothing to mend but the file
            if any(_changed_at(f"{layout.current}/{path}") <= start for path in edited):
                found.append(name)
    return found


def _changed_at(path: str) -> int:
    """Return when a file was changed; for one that is gone when its folder was, 0 if that is gone, too."""
    for place in (path, os.path.dirname(path)):
        if os.path.lexists(place):
            return os.lstat(place).st_ctime_ns
    return 0


def running_hashes(statuses: dict[str, Status], started: dict[str, str]) -> dict[str, str]:
    """Return the running units with the hash that each was started with, "" if unknown."""
    return {name: started.get(name, "") for name, status in statuses.items() if status.running}


def live_running(manifest: dict[str, Any], statuses: dict[str, Status]) -> set[str]:
    """Return the running units that a manifest calls live: whose interruption the audience would notice."""
    units = manifest["units"]
    return {name for name, status in statuses.items() if status.running and units.get(name, {}).get("live")}


def _hold_reason(name: str, status: Status, state: dict[str, Any], layout: Layout) -> str | None:
    """Return why the operator's word keeps us off a unit, or None."""
    if status.masked:
        return "masked on the station (systemctl unmask lets it go)"
    stop = state["stopped"].get(name)
    if stop:
        return f"stopped by {stop['who']} on {stop['since']}"
    fragment = status.get("FragmentPath", "")
    if fragment and not fragment.startswith((layout.units, layout.home)):
        return f"replaced by {fragment} on the station"
    return None


def plan_units(
    target: dict[str, Any],
    have: dict[str, Any],
    statuses: dict[str, Status],
    started: dict[str, str],
    state: dict[str, Any],
    guard: bool,
    layout: Layout,
) -> Plan:
    """Compare what runs with what `target` wants.

    `have` is the manifest that is current now; `guard` keeps running live units from
    being restarted or stopped (on air without the operator's word).
    """
    plan = Plan()
    for name, unit in sorted(target["units"].items()):
        status = statuses[name]
        reason = _hold_reason(name, status, state, layout)
        if reason:
            plan.held.append({"unit": name, "reason": reason})
            continue
        plan.reload = plan.reload or status.get("NeedDaemonReload") == "yes"
        current = started.get(name, "")
        if status.running:
            if current == unit["hash"]:
                if status.starting:
                    plan.starting.append(name)
                continue
            if guard and unit["live"]:
                plan.held.append({"unit": name, "reason": "on air"})
                continue
            plan.restart.append(name)
        elif unit.get("start", True) and not (status.done and current == unit["hash"]):
            plan.start.append(name)
            known = have["units"].get(name)
            if known and known["hash"] == unit["hash"]:
                what = "failed" if status["ActiveState"] == "failed" or status.looping else "not running"
                plan.drift.append({"unit": name, "what": what})
    for name in sorted((have["units"].keys() | started.keys()) - target["units"].keys()):
        status = statuses[name]
        if not name.startswith(OURS) or status["ActiveState"] == "inactive":
            continue
        live = have["units"].get(name, {}).get("live", False)
        if guard and live and status.running:
            plan.held.append({"unit": name, "reason": "on air, to be removed"})
        else:
            plan.stop.append(name)
    return plan
