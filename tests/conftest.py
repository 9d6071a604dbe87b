"""Which tests stay together when several processes share the work."""

import pytest

SHARED = {"e2e"}
"""Folders whose files share a lab; elsewhere each file has its own."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the marks
def pytest_collection_modifyitems(items):
    """Keep what shares a fixture, a lab above all, in one process."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in SHARED else str(item.path)))
