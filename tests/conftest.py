"""Which tests stay together when several processes share the work."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = {"tests/e2e"}
"""Folders whose files share a lab; elsewhere each file has its own."""


MANAGER = [Path(__file__).parent / name for name in ("api", "agent", "pages")]
"""Tests there start a manager, which judges its inventory in a process of its own: seconds each, not fast checks."""


def pytest_collection_modifyitems(items):
    """Mark what starts a manager."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in MANAGER):
            item.add_marker(pytest.mark.manager)


class ByLab(LoadScopeScheduling):
    """Gives all tests of a file to one process, and all of a folder where they share a lab."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder in SHARED else file


def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist how to distribute."""
    return ByLab(config, log)
