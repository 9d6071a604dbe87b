"""Which tests stay together when several processes share the work."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = {"tests/e2e"}
"""Folders whose files share a lab; elsewhere each file has its own."""
LABS = [
    "tests/e2e",
    "tests/pages/test_lab.py",
    "tests/engine/test_lab.py",
    "tests/lab/test_real.py",
    "tests/media/test_real.py",
    "tests/agent/test_lab.py",
    "tests/api/test_manager_role.py",
    "tests/encode/test_lab.py",
    "tests/stills/test_lab.py",
]
"""What has a lab of its own, the longest first: minutes of mostly waiting."""
LONG = [
    "tests/api/test_concurrency.py",
    "tests/api/test_runs.py",
    "tests/api/test_runs_crash.py",
    "tests/upload/test_faults.py",
    "tests/engine/test_crash.py",
    "tests/encode/test_queue.py",
    "tests/api/test_runs_traps.py",
    "tests/media/test_ingest.py",
    "tests/pages/test_browser.py",
    "tests/api/test_openapi.py",
    "tests/encode/test_products.py",
    "tests/api/test_client.py",
    "tests/media/test_sources.py",
    "tests/api/test_inventory.py",
    "tests/api/test_lines.py",
    "tests/media/test_record.py",
    "tests/api/test_canary.py",
    "tests/api/test_stations.py",
    "tests/agent/test_agent.py",
    "tests/api/test_door.py",
]
"""Files that take half a minute and more without a lab, the longest first: mostly work for the processors."""


MEASURED_AGAIN = 2
"""How often a test of pace is run once more where it failed.

Neighbours take the processors of a shared machine away for seconds. They are not there each time; what is slow by
itself is: the best of three tells it, as timeit's least of five does.
"""
MANAGER = [Path(__file__).parent / name for name in ("api", "agent", "pages")]
"""Tests there start a manager, which judges its inventory in a process of its own: seconds each, not fast checks."""


def pytest_collection_modifyitems(items):
    """Mark what starts a manager, and what is measured again."""
    for item in items:
        if item.get_closest_marker("pace"):
            item.add_marker(pytest.mark.flaky(reruns=MEASURED_AGAIN))
        if any(item.path.is_relative_to(folder) for folder in MANAGER):
            item.add_marker(pytest.mark.manager)


def pytest_ignore_collect(collection_path, config):
    """Spare the fast checks the import of what they would leave out anyway."""
    if collection_path in MANAGER and "not manager" in (config.option.markexpr or ""):
        return True
    return None


class ByLab(LoadScopeScheduling):
    """Gives all tests of a file to one process, and all of a folder where they share a lab.

    What takes long comes first, so that no process is left alone with it at the end. The last process begins with
    what works, the others with the labs, where most time is waiting: side by side they fill the processors.
    """

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder in SHARED else file

    def _assign_work_unit(self, node):
        order = [*LONG, *LABS] if node is self.nodes[-1] else [*LABS, *LONG]
        first = min(self.workqueue, key=lambda scope: order.index(scope) if scope in order else len(order))
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist how to distribute."""
    return ByLab(config, log)
