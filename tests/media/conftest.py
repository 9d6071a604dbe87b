import contextlib
import subprocess

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


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of so many megabytes: a disk that can be filled without harm."""
    mounted = []

    def mount(megabytes):
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        options = f"size={megabytes}m,nr_inodes=2000"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)
