"""The station's lock: one verb at a time, whoever started it.

Two files. `lock` is held by whoever talks to the operator, from the first look to the
answer. `converging` is held by the part that outlives the connection; a verb takes
both, and lets `converging` go just before it hands over. So a verb whose connection
died still keeps others out until its converge has ended.
"""

from __future__ import annotations

import fcntl
import os
import time

from station.applier.layout import Layout, Refusal
from station.applier.light import dumps, loads

PAUSE = 0.05
"""Seconds between two tries."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _describe(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            holder = loads(file.read())
        return f"{holder['author']} ({holder['verb']}, run {holder['run'] or '-'}) since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "someone who left no name"


def holder(path: str) -> str | None:
    """Return who holds a lock file now, or None; for `status`, which takes no lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(path)
    finally:
        os.close(handle)
    return None


class Lock:
    """One lock file, taken with flock and signed by its holder."""

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        self._path = path
        self._request = request
        self._handle = -1

    def take(self, deadline: float) -> None:
        """Take the lock before `deadline` (time.monotonic); Refusal `Locked` names the holder."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(handle)
                    name = _describe(self._path)
                    raise Refusal(
                        "Locked", f"The station is locked by {name}. Wait for it to end, then try again.", holder=name
                    ) from None
                time.sleep(PAUSE)
        signature = {
            "author": self._request.get("author", "?"),
            "run": self._request.get("run"),
            "verb": self._request.get("verb", "?"),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, dumps(signature).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Let the lock go; the file stays, so that its inode is always the same."""
        if self._handle >= 0:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


class StationLock:
    """Both locks, as a context; `hand_over` releases the second for the converge part."""

    def __init__(self, layout: Layout, request: dict[str, Any]) -> None:
        self._verb = Lock(layout.lock, request)
        self._converging = Lock(layout.converging, request)
        self._layout = layout
        self._wait = float(request["lock_wait"])
        self._idle = bool(request["check"])

    def __enter__(self) -> StationLock:
        """Take both within the request's `lock_wait` seconds; a check takes none.

        Refusals: `Locked`, `NeverApplied` where nothing of ours is on the station.
        """
        if not os.path.isdir(self._layout.home):
            raise Refusal("NeverApplied", "The station was never provisioned: run site.yml for it first.")
        if self._idle:
            return self
        deadline = time.monotonic() + self._wait
        self._verb.take(deadline)
        try:
            self._converging.take(deadline)
        except Refusal:
            self._verb.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release both."""
        self._converging.release()
        self._verb.release()

    def hand_over(self) -> None:
        """Let the converge part have its lock."""
        self._converging.release()

    def take_back(self) -> None:
        """Wait for the converge part to end, and take its lock again."""
        self._converging.take(time.monotonic() + self._wait)
