"""The applier's own copy on the station: fast to start, and there for converge at boot."""

from __future__ import annotations

import os

from station.applier import durable
from station.applier.layout import Layout


def install(layout: Layout, sha256: str, sources: dict[str, str]) -> None:
    """Keep the engine that runs now, compiled, and make it the current one.

    `sources` maps paths (`station/applier/main.py`) to text; it is empty if this copy
    already runs from the station's disk.
    """
    folder = f"{layout.engine}/{sha256}"
    if not os.path.exists(folder + "/__main__.py") and sources:
        _write(layout, folder, sources)
    current = f"{layout.engine}/current"
    if not os.path.islink(current) or os.readlink(current) != sha256:
        durable.point(current, sha256)
        for name in os.listdir(layout.engine):
            if name not in ("current", sha256):
                durable.remove_tree(f"{layout.engine}/{name}")


def _write(layout: Layout, folder: str, sources: dict[str, str]) -> None:
    import py_compile

    staged = f"{layout.engine}/.stage-{os.path.basename(folder)}"
    durable.remove_tree(staged)
    folders = [staged]
    os.mkdir(staged, 0o700)
    for path in sorted(sources):
        below = staged
        for part in path.split("/")[:-1]:
            below += "/" + part
            if not os.path.isdir(below):
                os.makedirs(below + "/__pycache__", 0o700)
                folders += [below, below + "/__pycache__"]
        durable.create(f"{staged}/{path}", sources[path].encode(), 0o600)
    for path in sources:
        if path != "__main__.py":
            compiled = py_compile.compile(
                f"{staged}/{path}",
                dfile=f"{folder}/{path}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            handle = os.open(str(compiled), os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    for path in reversed(folders):
        durable.sync_folder(path)
    os.rename(staged, folder)
    durable.sync_folder(layout.engine)
