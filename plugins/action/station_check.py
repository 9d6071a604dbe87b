"""Checks the whole inventory, then renders the bundles of the play's stations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.plugins.action import ActionBase

# Ansible loads plugins by file: the package beside this folder is not yet importable
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Action plugin: a shim over `stationmaster.rules` and `stationmaster.deploy`."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with all findings, or leave a payload per station in the run's private folder."""
        from stationmaster import catalogue, deploy, inventory, rules

        variables = task_vars or {}
        super().run(tmp, variables)
        try:
            deploy.refuse_partial_apply(context.CLIARGS, variables)
            known = variables["hostvars"]
            event = inventory.from_ansible(known._inventory, known._variable_manager, self._loader)
        except deploy.Refused as refused:
            return {"failed": True, "msg": str(refused)}
        except inventory.UnusableInventory as unusable:
            return {"failed": True, "msg": deploy.findings_text(unusable.findings)}
        revision = deploy.Revision(event.folder)
        findings = rules.check(event, catalogue.load())
        if findings:
            told = [finding.to_dict() for finding in findings]
            return {"failed": True, "msg": deploy.findings_text(findings), "findings": told}
        request = deploy.base_request("apply", variables, self._task.check_mode, self._task.diff)
        request["force"] = bool(self._task.args.get("provision"))
        request["only_provision"] = request["force"] or deploy.only_provision(context.CLIARGS)
        stations = [name for name in variables["ansible_play_hosts_all"] if name in event.stations]
        deploy.render_all(event, stations, request, Path(constants.DEFAULT_LOCAL_TMP), str(revision))
        return {"changed": False}
