"""What the check would say if some lines stood in the inventory: judged in a copy, which is removed whatever happens.

The inventory itself is never written: a followed folder would come into force with them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from api.inventory import Inventory
from api.inventory_child import Worker
from api.inventory_worker import Judged
from api.problems import Problem

log = logging.getLogger("stationmaster.inventory")

ADDED = "\U0010fffdlines.yml"
"""Name of the file with the lines: it is read last, for the room's next place is after all others."""
PATIENCE = 30.0
"""Seconds to wait for the checks before; one takes one to a few seconds."""
WAITING = 8
"""Questions that may wait at a time: each keeps one of the 40 threads that answer everything else, too."""
BESIDE = ("group_vars", "host_vars")
"""What Ansible reads beside an inventory that is a file."""
FILES = "files"

_places = threading.BoundedSemaphore(WAITING)


def judge_with(inventory: Inventory, path: Path, text: str) -> Judged:
    """Judge an inventory as if it had one more file; never more than one check at a time.

    Args:
        inventory: whose checks take turns.
        path: the inventory, a folder or a file; it is only read.
        text: the file, YAML.

    Returns:
        The judgement; the file is named `ADDED` in it.

    Raises:
        Problem: 503 if too many wait, the inventory cannot be copied, or the check itself failed.
    """
    with _turn(inventory.checking):
        try:
            with _copy(path) as folder:
                (folder / ADDED).write_text(text)
                judged = Worker(folder, None).judged()
        except OSError as error:
            log.warning("the inventory cannot be copied: %s", error)
            raise _cannot("it cannot be copied; the manager's journal has the reason") from error
    if judged.failed or not (judged.event or judged.findings):
        raise _cannot(judged.failed or "there is no judgement")
    return judged


def _cannot(why: str) -> Problem:
    return Problem(
        503,
        "InventoryUnusable",
        f"The inventory cannot be checked with the lines in it: {why}.",
        "Try again; if it stays, write the lines by hand and run 'stationmaster check'.",
        retryable=True,
    )


@contextlib.contextmanager
def _turn(lock: threading.Lock) -> Iterator[None]:
    busy = Problem(
        503,
        "TooManyChecks",
        "Other checks of the inventory are running.",
        "Try again in a few seconds.",
        retryable=True,
    )
    if not _places.acquire(blocking=False):
        raise busy
    try:
        if not lock.acquire(timeout=PATIENCE):
            raise busy
        try:
            yield
        finally:
            lock.release()
    finally:
        _places.release()


@contextlib.contextmanager
def _copy(path: Path) -> Iterator[Path]:
    """Give a folder that Ansible reads like the inventory, below one that nobody else can enter."""
    with tempfile.TemporaryDirectory(prefix="stationmaster-lines-") as made:
        folder = Path(made) / "inventory"
        whole = path.is_dir()
        source = (path if whole else path.parent).resolve()
        shutil.copytree(
            source, folder, symlinks=True, ignore=_left_out(source, None if whole else (path.name, *BESIDE))
        )
        folder.chmod(0o700)
        for link in _links(folder):
            _point(link, source, folder)
        if (source / FILES).exists():
            # Ansible does not read it as inventory, and it may hold gigabytes
            (folder / FILES).symlink_to((source / FILES).resolve())
        yield folder


def _left_out(top: Path, kept: Iterable[str] | None) -> Callable[[str, list[str]], set[str]]:
    """Return what `copytree` asks for the names to leave out: what is hidden, and at the top all that is not kept."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name.startswith(".") or name == "__pycache__"}
        if Path(folder) != top:
            return hidden
        return hidden | {FILES} | (set() if kept is None else set(names).difference(kept))

    return ignored


def _links(folder: Path) -> list[Path]:
    return [
        Path(place, name)
        for place, folders, names in os.walk(folder)
        for name in (*folders, *names)
        if Path(place, name).is_symlink()
    ]


def _point(link: Path, source: Path, folder: Path) -> None:
    """Let a copied link mean what it means in the inventory: its counterpart in the copy, else the very file."""
    real = (source / link.relative_to(folder)).resolve()
    inside = folder / real.relative_to(source) if real.is_relative_to(source) else None
    link.unlink()
    link.symlink_to(os.path.relpath(inside, link.parent) if inside and inside.exists() else real)
