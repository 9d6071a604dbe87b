"""The folders `todo/ wip/ done/ fail/` of an instance: every step is one rename, and a restart takes it up again.

todo/<name>.json          waits; anyone may put it there
wip/<name>.json           is being worked on; wip/<id>.work/ is its working folder
done/<id>/                a finished product; complete only with its manifest.json
done/<name>.json          the job of a finished product
fail/<name>.json          what could not be done, with fail/<name>.reason.json beside it
replaced/<id>-<time>/     a product whose place a job with `replace` took
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from station import files
from station.job import LARGEST

log = logging.getLogger(__name__)

SETTLE = 3.0
"""Seconds without a change after which a file that is no JSON is a bad job and not one still being copied."""
REASON = ".reason.json"
PUBLISHING = "publishing"
"""Marks a working folder whose product is complete and durable: from then on a restart only moves it."""
POWER_CUTS = 20
"""A job may be cut off by this many reboots: they say little about the job, yet one that brings down the station
must not do so for ever."""


class Busy(Exception):
    """Another process works in this folder."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job file in `todo/`: its content, or (`problem`) why it has none that can be used."""

    path: Path
    value: Any
    problem: str | None
    stamp: tuple[int, int]


class JobFolder:
    """The job folders of one instance; safe for the threads of one process."""

    def __init__(self, root: Path, boot: str) -> None:
        """Open or make the folders below `root`; `boot` is this boot's id.

        Raises Busy if another process has them.
        """
        self.root = root
        self.todo, self.wip, self.done, self.fail = (root / name for name in ("todo", "wip", "done", "fail"))
        self._boot = boot
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._durable: dict[Path, tuple[int, int]] = {}
        self._lock = threading.RLock()
        for folder in (self.todo, self.wip, self.done, self.fail):
            files.make_folder(folder, durable=True)
        self._guard = (root / ".lock").open("w")
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._guard.close()
            raise Busy(f"{root}: another process works in this folder") from error

    def close(self) -> None:
        """Let another process have the folders."""
        self._guard.close()

    def scan(self) -> list[Waiting]:
        """The job files that are whole, oldest first; one still being written appears in a later scan."""
        found = []
        now = time.monotonic()
        seen: dict[Path, tuple[tuple[int, int], float]] = {}
        for path in _jobs(self.todo):
            try:
                facts = path.lstat()
            except OSError:
                continue
            stamp = (facts.st_mtime_ns, facts.st_size)
            known, since = self._seen.get(path, (None, now))
            seen[path] = (stamp, since if known == stamp else now)
            if known != stamp:
                continue
            value, problem = _read(path)
            if problem is None:
                self._keep(path, stamp)
            if problem is None or now - seen[path][1] >= SETTLE:
                found.append(Waiting(path, value, problem, stamp))
        self._seen = seen
        return sorted(found, key=lambda job: (job.stamp[0], job.path.name))

    def _keep(self, path: Path, stamp: tuple[int, int]) -> None:
        """Make a job durable, once: whoever copied it here will not have done so, and a power cut would empty it."""
        if self._durable.get(path) == stamp:
            return
        with contextlib.suppress(OSError):
            files.sync_file(path)
            files.sync_folder(path.parent)
            self._durable = {known: at for known, at in self._durable.items() if known.exists()} | {path: stamp}

    def claim(self, job: Waiting) -> Path | None:
        """Move a job to `wip/`; None if it changed or went away since it was read."""
        target = _free(self.wip, job.path.name)
        try:
            if job.path.lstat().st_mtime_ns != job.stamp[0] or _read(job.path)[0] != job.value:
                return None
            _move(job.path, target)
        except FileNotFoundError:
            return None
        return target

    def requeue(self, path: Path) -> Path:
        """Move a job back to `todo/`; returns its path there."""
        target = _free(self.todo, path.name)
        _move(path, target)
        return target

    def refuse(self, path: Path, reason: dict[str, Any]) -> Path:
        """Move a job to `fail/` with the reason beside it; returns its path there.

        The reason may be lost on a full disk, the move never is.
        """
        with self._lock:
            self.tidy()
            target = _free(self.fail, path.name)
            record = {"job": target.name, "at": _now(), **reason}
            try:
                files.write_json(target.with_name(target.stem + REASON), record, durable=True)
            except OSError as error:
                log.error("%s: the reason cannot be written: %s", target, error)
            _move(path, target)
        log.error("%s: %s", target, reason.get("reason"))
        return target

    def tidy(self) -> None:
        """Remove what stands beside nothing any more: reasons of jobs taken out of `fail/`."""
        with self._lock:
            for path in self.fail.glob("*" + REASON):
                if not path.with_name(path.name.removesuffix(REASON) + ".json").exists():
                    path.unlink(missing_ok=True)

    def failed(self) -> int:
        """How many jobs lie in `fail/`."""
        return sum(1 for _ in _jobs(self.fail))

    def work(self, id_: str) -> Path:
        """The working folder of a job."""
        return self.wip / f"{id_}.work"

    def finished(self, id_: str) -> bool:
        """Whether a complete product of this id lies in `done/`."""
        return (self.done / id_ / "manifest.json").exists()

    def begin(self, id_: str) -> tuple[int, int]:
        """Note that a job is begun; returns how often before it was cut off: by a crash, by a reboot.

        Raises OSError on a full disk: the job must not begin then.
        """
        path = self.work(id_) / "attempts.json"
        boots = _attempts(path)
        files.make_folder(path.parent)
        files.write_json(path, [*boots, self._boot], durable=True)
        return sum(boot == self._boot for boot in boots), sum(boot != self._boot for boot in boots)

    def forget(self, id_: str) -> None:
        """The job was put down on purpose: that attempt does not count."""
        path = self.work(id_) / "attempts.json"
        try:
            files.write_json(path, _attempts(path)[:-1], durable=True)
        except OSError as error:
            log.warning("%s: %s", path, error)

    def clean(self, id_: str) -> None:
        """Remove a job's working folder with the segments in it."""
        shutil.rmtree(self.work(id_), ignore_errors=True)

    def publish(self, path: Path, id_: str) -> None:
        """Move a durable product (`product/` and `manifest.json` in the working folder) to `done/<id>/`.

        `path` is the job in `wip/`. From the first line on, a crash is taken up by `recover`.
        """
        files.write(self.work(id_) / PUBLISHING, b"", durable=True)
        self._roll(path, id_)

    def _roll(self, path: Path, id_: str) -> None:
        with self._lock:
            work, target = self.work(id_), self.done / id_
            if (work / "product").exists():
                if target.exists():
                    aside = self.root / "replaced" / f"{id_}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z"
                    files.make_folder(aside.parent, durable=True)
                    _move(target, aside)
                _move(work / "product", target)
            if (work / "manifest.json").exists():
                _move(work / "manifest.json", target / "manifest.json")
            self._list()
            if path.exists():
                _move(path, _free(self.done, path.name))
            self.clean(id_)

    def finish(self, path: Path, id_: str) -> None:
        """Move a job that leaves no product to `done/`."""
        with self._lock:
            _move(path, _free(self.done, path.name))
            self.clean(id_)

    def _list(self) -> None:
        ids = sorted(folder.parent.name for folder in self.done.glob("*/manifest.json"))
        files.write_json(self.done / "index.json", ids, durable=True)

    def recover(self, names: dict[Path, str]) -> list[str]:
        """At start: finish what was being published, put back what was being made, remove what belongs to nothing.

        `names` maps each job in `wip/` to its id. Returns what was done, for the log.
        """
        told = []
        for path, id_ in sorted(names.items()):
            if (self.work(id_) / PUBLISHING).exists():
                self._roll(path, id_)
                told.append(f"{id_}: was being published; finished that")
            else:
                told.append(f"{id_}: was being worked on; queued again as {self.requeue(path)}")
        for work in self.wip.glob("*.work"):
            if (work / PUBLISHING).exists():
                self._roll(self.wip / "none.json", work.name.removesuffix(".work"))
        self._list()
        return told

    def working(self) -> list[Path]:
        """The job files in `wip/`."""
        return list(_jobs(self.wip))

    def sweep(self, ids: set[str]) -> None:
        """Remove working folders of jobs that are not among `ids`: their jobs were taken away."""
        for work in self.wip.glob("*.work"):
            if work.name.removesuffix(".work") not in ids:
                shutil.rmtree(work, ignore_errors=True)


def _jobs(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*.json"):
        # `index.json` is ours; reasons may come along when a person moves all of fail/ back.
        if not path.name.startswith(".") and not path.name.endswith(REASON) and path.name != "index.json":
            yield path


def _read(path: Path) -> tuple[Any, str | None]:
    try:
        if path.is_symlink() or not path.is_file():
            return None, "is no ordinary file; copy the job itself"
        if path.stat().st_size > LARGEST:
            return None, f"has more than {LARGEST} bytes; a job is small"
        return json.loads(path.read_bytes()), None
    except OSError as error:
        return None, f"cannot be read: {error.strerror}; it must be readable for {_user()}"
    except (ValueError, RecursionError) as error:
        return None, f"is no JSON: {error}"


def _user() -> str:
    return f"the instance's user (uid {os.getuid()})"


def _attempts(path: Path) -> list[str]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [str(boot) for boot in value] if isinstance(value, list) else []


def _free(folder: Path, name: str) -> Path:
    stem = name.removesuffix(".json")
    path, number = folder / name, 2
    while path.exists() or path.is_symlink() or path.with_name(path.stem + REASON).exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path


def _move(path: Path, target: Path) -> None:
    """Rename durably: the new name first, so that a power cut leaves at least one of the two."""
    path.rename(target)
    files.sync_folder(target.parent)
    files.sync_folder(path.parent)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
