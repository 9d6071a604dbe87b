"""From a run's row to the process that does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from api import run_ansible
from api.run_folder import RunFolder
from api.run_states import FENCE
from api.settings import CHECKOUT, Settings
from api.tables import Run

PLAYBOOKS = {
    "apply": "site.yml",
    "check": "playbooks/check.yml",
    "restart": "playbooks/restart.yml",
    "start": "playbooks/start.yml",
    "stop": "playbooks/stop.yml",
    "rollback": "playbooks/rollback.yml",
    "provision": "playbooks/provision.yml",
    "on-air": "playbooks/on-air.yml",
}
"""What each action runs; a caller never names a playbook."""
UNIT = "stationmaster-run-"
"""Begins the name of a run's systemd unit."""


def job_of(run: Run, settings: Settings, owner: str, inventory: Path, known_hosts: Path | None) -> dict[str, Any]:
    """Return what the supervisor of a run needs to know.

    Args:
        run: with the stations that are left after skipping in `result`.
        settings: of the manager.
        owner: id of the manager's data folder.
        inventory: of the run's revision, as a path for Ansible.
        known_hosts: the pinned host keys.
    """
    parameters = dict(run.parameters)
    dry = bool(parameters.pop("dry_run", False))
    parameters.pop("force", None)
    skipped = run.result.get("stations", {})
    return {
        "run": run.id,
        "owner": owner,
        "database": settings.url,
        "fence": None if settings.url.startswith("sqlite") else FENCE,
        "project": str(settings.project),
        "playbook": str(settings.project / PLAYBOOKS[run.action]),
        "inventory": str(inventory),
        "stations": [name for name in run.stations if name not in skipped],
        "skipped": skipped,
        "known_hosts": str(known_hosts) if known_hosts else None,
        "environment": run_ansible.passed_on(),
        "arguments": ["--check", "--diff"] if dry else [],
        "variables": {"run": run.id, "author": run.author, **parameters},
        "run_timeout": settings.run_timeout,
        "silence_timeout": settings.silence_timeout,
    }


def start(folder: RunFolder, in_unit: bool, attempt: int = 0) -> subprocess.Popen[bytes]:
    """Start the supervisor of a folder and return the process that tells of its end, or at least of its start.

    Args:
        folder: with its job.
        in_unit: whether it becomes a unit of its own, in the systemd of the user that this process runs as: to start
            one in the system's would be as much as being root.
        attempt: how many supervisors of this run died; each one's unit has its own name.
    """
    command = [sys.executable, "-m", "api.supervisor", str(folder.path)]
    if in_unit:
        unit = f"{UNIT}{folder.run}{f'-{attempt}' if attempt else ''}.service"
        # KillMode: SSH's kept connections live on for the next run; what is a run's own, its supervisor ends
        properties = [f"WorkingDirectory={CHECKOUT}", "KillMode=process", "UMask=0077", "Type=exec"]
        command = [
            "systemd-run", "--user", "--quiet", "--collect", f"--unit={unit}",
            *(f"--property={one}" for one in properties), "--", *command,
        ]  # fmt: skip
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
