"""One table at the end: what became of each station."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

# Ansible loads plugins by file: the package beside this folder is not yet importable
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

DOCUMENTATION = """
name: stationmaster_table
type: aggregate
short_description: A table of what became of each station
description:
  - Prints station, what changed, what was restarted, what is held and why, what failed and why.
  - Says nothing after playbooks that applied nothing.
requirements:
  - Enabled in C(callbacks_enabled)
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Callback plugin: a shim over `stationmaster.table`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stationmaster_table"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[str, dict[str, Any]] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Make the group of stations to provision known, so that plays for it do not warn while it is empty."""
        from stationmaster.deploy import NEEDS_PROVISION

        inventory = play.get_variable_manager()._inventory
        if inventory is not None and NEEDS_PROVISION not in inventory.groups:
            inventory.add_group(NEEDS_PROVISION)

    def _remember(self, result: Any) -> None:
        told = result.result.get("stationmaster")
        if told is not None:
            self._results[result.host.get_name()] = told

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember what a station answered."""
        self._remember(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Remember what a station answered."""
        del ignore_errors
        self._remember(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Remember that a station could not be reached, if it would have been applied."""
        if result.task.action == "station_apply":
            self._results[result.host.get_name()] = {"result": "unreachable"}

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the table."""
        del stats
        if self._results:
            from stationmaster.table import rows

            for line in rows(self._results):
                self._display.display(line)
