"""Action plugin `stationmaster_lab`: a shim over stationmaster.lab. Runs on the controller, for all hosts at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stationmaster.lab.errors import LabError
from stationmaster.lab.verbs import perform
from stationmaster.lab.wish import Wish


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Bring the lab of this inventory to a state."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was done, or the lab's error."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        if self._task.check_mode:
            return result | {"skipped": True, "msg": "a lab is real or not: check mode leaves it as it is"}
        arguments = self._task.args
        limited = variables["ansible_play_hosts_all"] if variables.get("ansible_limit") else None
        try:
            wish = Wish(
                hosts=_hosts(variables),
                inventory=Path(variables["ansible_inventory_sources"][0]),
                subnet=arguments.get("subnet") or None,
                only=_words(arguments.get("stations")) or limited,
                disk_size=arguments["disk_size"],
                extra_packages=_words(arguments.get("extra_packages")),
                seconds=float(arguments["timeout"]),
                say=Display().display,
            )
            return result | perform(arguments["state"], wish)
        except LabError as error:
            return result | {"failed": True, "msg": str(error)}


def _words(value: str | list[str] | None) -> list[str]:
    return value.replace(",", " ").split() if isinstance(value, str) else list(value or ())


def _hosts(variables: dict[str, Any]) -> list[dict[str, str | None]]:
    groups, hostvars = variables["groups"], variables["hostvars"]
    names = sorted({*groups.get("rooms", ()), *groups.get("services", ())})
    return [
        {"name": name, "address": hostvars[name].get("ansible_host"), "mac": hostvars[name].get("station_mac")}
        for name in names
    ]
