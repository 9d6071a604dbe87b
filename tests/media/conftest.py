import contextlib

import pytest

from tests.media import kit


@pytest.fixture
def closing():
    """Closes whatever is handed to it, last first."""
    with contextlib.ExitStack() as stack:

        def add(thing):
            stack.callback(thing.close)
            return thing

        yield add


@pytest.fixture
def ingest(tmp_path, closing):
    """Makes ingest instances; by default of the test card."""

    def make(source=None, name="ingest", **rest):
        options = {"source": source or {"type": "testcard"}, "video": kit.SMALL, **rest.pop("options", {})}
        return closing(kit.Instance(tmp_path / name, "ingest", options, **rest))

    return make
