"""An event of tests: a copy of the demo inventory, and a manager's inventory that follows it."""

import contextlib
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from api import inventory_sources
from api.database import Database
from api.inventory import Inventory
from api.settings import CHECKOUT, Settings

PATIENCE = 60


def copy(folder: Path) -> Path:
    """Copy the demo inventory."""
    return Path(shutil.copytree(CHECKOUT / "inventory", folder))


def edit(path: Path, old: str, new: str) -> None:
    """Replace a part of a file, in one rename."""
    text = path.read_text()
    assert old in text
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text.replace(old, new))
    staged.rename(path)


def until(condition, what: str = ""):
    """Wait until a condition holds; return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what or condition
        time.sleep(0.02)
    return found


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody."""
    who = ["-c", "user.name=Crew", "-c", "user.email=crew@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, subject: str) -> str:
    """Commit everything of a folder; return the commit's id."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


@contextlib.contextmanager
def following(data: Path, pause: float = 0.2, look: float = 0.5, **settings):
    """Give a started Inventory; the pauses of a followed folder are shorter than in earnest."""
    patch = pytest.MonkeyPatch()
    patch.setattr(inventory_sources, "PAUSE", pause)
    patch.setattr(inventory_sources, "LOOK", look)
    made = Settings(data=data, **settings)
    made.make_data()
    database = Database(made.url)
    database.migrate()
    inventory = Inventory(made, database)
    inventory.start()
    try:
        yield inventory
    finally:
        patch.undo()
        inventory.stop()
        database.close()


def in_force(inventory, revision: str | None = None, not_state: str | None = None):
    """Wait for a snapshot with all its wanted hashes, of a revision or other than a state; return it."""

    def found():
        snapshot = inventory._snapshot
        if snapshot is None or not inventory.is_settled() or snapshot.state == not_state:
            return None
        return snapshot if revision in (None, snapshot.revision) else None

    return until(found, f"revision {revision}: {inventory.newest}")
