"""What a person decided about a job that keeps failing: give it up, or try it now.

A decision is a file in the instance's folder `decisions/`, so that it holds
without the manager and over restarts. The worker looks there at each turn.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from station import files

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


class Decisions:
    """The decisions of one instance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str, verb: str) -> Path:
        if not _ID.fullmatch(name):
            raise ValueError(f"{name!r} is no id")
        return self.folder / f"{name}.{verb}"

    def give_up(self, name: str) -> None:
        """Do not try this id any more."""
        files.make_folder(self.folder, durable=True)
        files.write(self._path(name, "given-up"), "", durable=True)

    def retry(self, name: str) -> None:
        """Try this id now, and again from the shortest delay; takes back `give_up`."""
        files.make_folder(self.folder, durable=True)
        with contextlib.suppress(FileNotFoundError):
            self._path(name, "given-up").unlink()
        files.write(self._path(name, "retry"), "", durable=True)

    def given_up(self) -> set[str]:
        """Return the ids that are not to be tried."""
        return {path.name.removesuffix(".given-up") for path in self.folder.glob("*.given-up")}

    def take_retries(self) -> set[str]:
        """Return the ids to be tried now, each once."""
        found = set()
        for path in self.folder.glob("*.retry"):
            with contextlib.suppress(OSError):
                path.unlink()
                found.add(path.name.removesuffix(".retry"))
        return found
