"""What was uploaded, and what was not: receipts, and the list of what failed.

A receipt says that every byte is at the target and was verified there; others
delete recordings on its word. So it is written once all is verified, in one
rename, durable, and read with suspicion.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from station import files, index, utc
from station.index import Segment

log = logging.getLogger(__name__)
LAST_DELAY = 300.0
"""Seconds: when the uplink is back, nobody waits longer than 5 minutes."""


class Receipts:
    """The folder `receipts/` of an instance: one file per id, and `index.json`, a list of the ids."""

    def __init__(self, folder: Path) -> None:
        """Read the receipts; a file that is no receipt is passed over and said in the log."""
        self.folder = folder
        files.make_folder(folder, durable=True)
        self._known: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            if path.name != "index.json":
                self._read(path)
        self._write_index()

    def _read(self, path: Path) -> None:
        try:
            receipt = json.loads(path.read_text())
            if not path.stem.startswith(receipt["id"]) or not isinstance(receipt["verified_at"], str):
                raise ValueError("not the receipt of its name")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is passed over: %s", path, error)
            return
        self._known[path.stem] = receipt

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the receipt with an id."""
        return self._known.get(name)

    def ids(self) -> list[str]:
        """Return the ids of all receipts, sorted."""
        return sorted(self._known)

    def write(self, receipt: dict[str, Any], *, name: str = "") -> None:
        """Write a receipt (with `id` and `verified_at`); it is durable when this returns.

        `name` takes the place of the id in the file's name. Raises OSError.
        """
        name = name or receipt["id"]
        files.write_json(self.folder / f"{name}.json", receipt, durable=True)
        new = name not in self._known
        self._known[name] = receipt
        if new:
            self._write_index()

    def _write_index(self) -> None:
        # Made from the folder at each start, so its loss costs nothing.
        files.write_json(self.folder / "index.json", self.ids(), durable=True)


class Failures:
    """The list of what failed (`failed.json`): id, attempts, last error, next try; survives a restart."""

    def __init__(self, path: Path, first_delay: float) -> None:
        """`first_delay` in seconds comes before the second attempt; each further delay is twice as long."""
        self.path = path
        self._first_delay = first_delay
        self._rows: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            self._rows = {str(row["id"]): dict(row) for row in json.loads(path.read_text())["failed"]}
        self.write()

    def add(self, name: str, version: str, error: str, *, output: str = "", now: float | None = None) -> float:
        """Note a failed attempt at one version (the manifest's sha256) and return the seconds until the next."""
        now = time.time() if now is None else now
        row = self._row(name, version) or {
            "id": name,
            "version": version,
            "attempts": 0,
            "first_failed": utc.to_text(now),
        }
        row["attempts"] += 1
        delay = min(self._first_delay * 2 ** min(row["attempts"] - 1, 32), LAST_DELAY)
        # Jitter: after a cut, the stations of an event must not all come back in the same second.
        delay *= random.uniform(0.8, 1.0)  # noqa: S311 - no secret
        row |= {
            "last_error": error,
            "last_failed": utc.to_text(now),
            "next_try": utc.to_text(now + delay),
            "delay": delay,
        }
        if output:
            row["output"] = output
        self._rows[name] = row
        self.write()
        return float(delay)

    def _row(self, name: str, version: str) -> dict[str, Any] | None:
        row = self._rows.get(name)
        return row if row and row.get("version") == version else None

    def due(self, name: str, version: str, now: float | None = None) -> float:
        """Return when an id may be tried, in seconds since the epoch; 0 for one that did not fail."""
        now = time.time() if now is None else now
        row = self._row(name, version)
        if row is None:
            return 0.0
        try:
            when = utc.from_text(row["next_try"])
        except (KeyError, ValueError, TypeError):
            return 0.0
        # A clock that was set back must not put an attempt off for years.
        return when if when <= now + LAST_DELAY else 0.0

    def attempts(self, name: str, version: str) -> int:
        """Return how often a version failed."""
        row = self._row(name, version)
        return int(row.get("attempts", 0)) if row else 0

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, the one tried next first."""
        return sorted(self._rows.values(), key=lambda row: str(row.get("next_try", "")))

    def drop(self, name: str) -> None:
        """Forget an id: it succeeded, or nobody wants it any more."""
        if self._rows.pop(name, None):
            self.write()

    def keep(self, wanted: Collection[str]) -> None:
        """Forget all ids but these."""
        if gone := set(self._rows) - set(wanted):
            for name in gone:
                del self._rows[name]
            self.write()

    def write(self) -> None:
        """Write the list. A full disk must not stop an upload, so a failure is only logged."""
        try:
            files.write_json(self.path, {"failed": self.rows()}, durable=True)
        except OSError as error:
            log.warning("cannot write %s: %s", self.path, os.strerror(error.errno or 0))


class CopiedSegments:
    """`index.jsonl` of what a target has of a recording: name and checksum, over restarts."""

    def __init__(self, path: Path) -> None:
        """Read the index; a line that a power cut tore is dropped."""
        self._path = path
        self._known: dict[str, str] = {}
        if path.exists():
            self._known = {segment.name: segment.sha256 for segment in index.parse_lines(path.read_bytes())}
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                files.write(path, data[: data.rfind(b"\n") + 1], durable=True)

    @property
    def lines(self) -> int:
        """Number of segments."""
        return len(self._known)

    def has(self, segment: Segment) -> bool:
        """Say whether the target has a segment, with this content."""
        return self._known.get(segment.name) == segment.sha256

    def add(self, batch: Sequence[Segment]) -> None:
        """Note what was copied and verified; durable when this returns. Raises OSError."""
        new = [segment for segment in batch if not self.has(segment)]
        with self._path.open("ab") as file:
            file.write(b"".join(segment.line() for segment in new))
        files.sync_file(self._path)
        files.sync_folder(self._path.parent)
        self._known.update((segment.name, segment.sha256) for segment in new)
