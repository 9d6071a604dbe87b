"""Runs the applier on a station, in one execution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase

# Ansible loads plugins by file: the package beside this folder is not yet importable
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# here and not in run(): Ansible imports this file before it forks a worker for each station
from stationmaster import deploy, payload


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Action plugin: a shim over `stationmaster.deploy` and `stationmaster.payload`."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send what `station_check` rendered, or with `verb` a request made here; tell what came of it."""
        variables = task_vars or {}
        super().run(tmp, variables)
        verb = self._task.args.get("verb", "apply")
        try:
            if verb == "apply":
                data = deploy.payload_path(constants.DEFAULT_LOCAL_TMP, variables["inventory_hostname"]).read_bytes()
            else:
                request = deploy.verb_request(verb, variables, self._task.check_mode, self._task.diff)
                data = payload.Packer().pack(request)
        except FileNotFoundError:
            return {"failed": True, "msg": "No bundle was rendered for this station: station_check must come first."}
        except deploy.Refused as refused:
            return {"failed": True, "msg": str(refused)}
        # the play's environment names the run, by which the manager finds its processes on the station
        command = f"{self._compute_environment_string()} {payload.command()}".strip()
        done = self._low_level_execute_command(command, in_data=data, sudoable=True)
        result = payload.parse(done["stdout_lines"])
        if result is not None and result["result"] == "needs_contents":
            folder = deploy.contents_folder(constants.DEFAULT_LOCAL_TMP)
            data = payload.complete(data, {name: (folder / name).read_bytes() for name in result["contents"]})
            done = self._low_level_execute_command(command, in_data=data, sudoable=True)
            result = payload.parse(done["stdout_lines"])
        if result is None:
            told = (done["stdout"] + done["stderr"]).strip()[-2000:]
            return {
                "failed": True,
                "rc": done["rc"],
                "msg": f"The applier gave no result (status {done['rc']}): {told}",
            }
        answer: dict[str, Any] = deploy.answer(result, bool(self._task.args.get("provisioned")))
        return answer
