"""Finds the manager's station, and packs what it gets: code, wheels, inventory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Action plugin: a shim over `stationmaster.manager_package`. Works on the controller."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell the manager's station; with `machine`, pack for it."""
        from stationmaster import catalogue, deploy, inventory, manager_package, rules

        variables = task_vars or {}
        super().run(tmp, variables)
        known = variables["hostvars"]
        try:
            event = inventory.from_ansible(known._inventory, known._variable_manager, self._loader)
            findings = rules.check(event, catalogue.load())
            if findings:
                told = [finding.to_dict() for finding in findings]
                return {"failed": True, "msg": deploy.findings_text(findings), "findings": told}
            name = manager_package.manager_of(event)
            machine = self._task.args.get("machine")
            if machine is None:
                return {"changed": False, "station": name}
            made = {
                "code": manager_package.code(),
                "wheels": manager_package.wheels(machine),
                "inventory": manager_package.inventory(Path(variables["ansible_inventory_sources"][0])),
            }
        except inventory.UnusableInventory as unusable:
            return {"failed": True, "msg": deploy.findings_text(unusable.findings)}
        except (manager_package.PackageError, OSError) as error:
            return {"failed": True, "msg": str(error)}
        return {
            "changed": False,
            "archives": {
                kind: {"path": str(path), "name": manager_package.name_of(path)} for kind, path in made.items()
            },
            "revision": str(deploy.Revision(manager_package.CHECKOUT)),
            "event": event.name,
            "known_hosts": manager_package.known_hosts(event),
        }
