"""Which tests stay together when several processes share the work."""

from xdist.scheduler import LoadScopeScheduling

SHARED = {"tests/e2e"}
"""Folders whose files share a lab; elsewhere each file has its own."""


class ByLab(LoadScopeScheduling):
    """Gives all tests of a file to one process, and all of a folder where they share a lab."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder in SHARED else file


def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist how to distribute."""
    return ByLab(config, log)
