"""The folder of one run on the host that owns it: what to do, what happened, how it ended.

A lock file tells whether the supervisor lives: the kernel lets it go however the process
ends, and no number of a process can be taken for another's. What is read here was written
whole: single files by rename, events line by line.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class RunFolder:
    """Files of a run below `data/runs/<id>`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = path / "events.jsonl"
        self.private = path / "private"
        """What ansible-runner works in: made fresh, removed at the end."""
        self.log = path / "supervisor.log"
        self._job = path / "job.json"
        self._begun = path / "begun.json"
        self._result = path / "result.json"
        self._lock = path / "lock"

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.name

    def prepare(self, job: dict[str, Any]) -> None:
        """Make the folder, for its owner only, and say what to do."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.touch(mode=0o600)
        write_whole(self._job, job)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock of the supervisor, if nobody does; gives whether it was to be had."""
        try:
            handle = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True  # there is not even a folder, so there is no supervisor
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def job(self) -> dict[str, Any] | None:
        """Return what to do, or None once that was taken back."""
        return _read(self._job)

    def take_back(self) -> None:
        """Keep a supervisor that is only just starting from doing anything; the lock must be held."""
        self._job.unlink(missing_ok=True)

    def begin(self, note: dict[str, Any]) -> None:
        """Write down that the supervisor has begun."""
        write_whole(self._begun, note)

    def begun(self) -> dict[str, Any] | None:
        """Return what the supervisor wrote when it began, None if it did not."""
        return _read(self._begun)

    def end(self, result: dict[str, Any]) -> None:
        """Write the result, once: a second one is ignored."""
        if not self._result.exists():
            write_whole(self._result, result)

    def result(self) -> dict[str, Any] | None:
        """Return the result, None before the end."""
        return _read(self._result)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def write_whole(path: Path, data: dict[str, Any]) -> None:
    """Write a file of JSON that is there as a whole or not at all, for its owner only, durably."""
    staged = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return data
