"""Running rclone: one command at a time, watched, with progress and a readable reason when it fails.

Debian 12's rclone 1.60 does the transfers (a file that was cut off begins
again; a file that is whole is not sent twice). We decide what is sent, notice
a stall, and verify.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from station.remote import Remote, minimal_environment

IO_TIMEOUT = 30
"""Seconds without a byte on a connection after which rclone gives it up."""
STALL_LIMIT = 90
"""Seconds without advance after which we end rclone. Beyond IO_TIMEOUT, for rclone tries a file three times."""
HASH_RATE = 4 << 20
"""Bytes in a second that the slowest target hashes or sends back; it only bounds how long we wait for a checksum."""
FOLDER_MISSING = 3
"""rclone's exit status for a folder that does not exist."""
KILL_AFTER = 5.0


class RcloneError(Exception):
    """rclone failed; the message is fit for the list of what failed. `code` is the exit status, None for a stall."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: bytes of this command, bytes in a second, seconds left (None: unknown)."""

    done: int
    total: int
    rate: float
    eta: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file at a target; `hashes` holds what the target states, by the names sha1 and md5."""

    size: int
    hashes: dict[str, str]


class Rclone:
    """rclone for one target.

    `tick` is called several times a second while a command runs; whatever it raises ends the
    command. `report` is given progress. `rate` says the limit in bits per
    second (None: none), asked at each command.
    """

    def __init__(
        self,
        remote: Remote,
        tick: Callable[[], object],
        report: Callable[[Progress], object] = lambda progress: None,
        rate: Callable[[], int | None] = lambda: None,
        *,
        stall_limit: float = STALL_LIMIT,
    ) -> None:
        self.remote = remote
        self._tick = tick
        self._report = report
        self._rate = rate
        self._stall_limit = stall_limit

    def copy(self, source: str, destination: str, names: Sequence[str], *, parallel: int = 1) -> None:
        """Send the named files below the folder `source` to the folder `destination`, `parallel` at a time."""
        with tempfile.NamedTemporaryFile("w", dir=self.remote.config.parent, prefix="list-") as listing:
            listing.write("".join(name + "\n" for name in names))
            listing.flush()
            chosen = ["--files-from-raw", listing.name, "--no-traverse", "--ignore-times"]
            self.run("copy", *chosen, "--transfers", str(parallel), source, destination)

    def move(self, source: str, destination: str) -> None:
        """Rename all files below one folder at the target to another; one that differs is never overwritten."""
        self.run("move", "--immutable", source, destination)

    def delete(self, path: str) -> None:
        """Delete one file at the target."""
        self.run("deletefile", path)

    def prune(self, folder: str) -> None:
        """Remove a folder at the target if nothing but empty folders is in it."""
        with contextlib.suppress(RcloneError):
            self.run("rmdirs", folder)

    def listing(self, folder: str, *, hashes: Sequence[str] = (), size: int = 0) -> dict[str, Entry]:
        """List all files below a folder at the target, by path; a missing folder is empty.

        Args:
            folder: the folder, as `Remote.path` makes it.
            hashes: names of the checksums to ask for.
            size: bytes that the target has to hash, which bounds the wait.
        """
        options = [part for name in hashes for part in ("--hash-type", name)]
        try:
            text = self.run(
                "lsjson",
                "-R",
                "--files-only",
                "--no-modtime",
                "--no-mimetype",
                *options,
                folder,
                patience=size / HASH_RATE,
            )
        except RcloneError as error:
            if error.code == FOLDER_MISSING:
                return {}
            raise
        return {
            item["Path"]: Entry(int(item["Size"]), {key: str(value) for key, value in item.get("Hashes", {}).items()})
            for item in json.loads(text)
        }

    def hashes(self) -> list[str]:
        """Return the names of the checksums that the target states."""
        return list(json.loads(self.run("backend", "features", self.remote.path())).get("Hashes") or [])

    def read_back(self, folder: str, size: int) -> dict[str, str]:
        """Download all files below a folder and return their SHA-256, by path."""
        text = self.run("hashsum", "sha256", "--download", folder, patience=size / HASH_RATE)
        pairs = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
        return {path: digest for digest, path in pairs}

    def run(self, *arguments: str, patience: float = 0) -> str:
        """Run one command and return what it printed.

        Args:
            arguments: command and arguments.
            patience: seconds more than usual to wait while nothing advances.

        Raises:
            RcloneError: it failed or stalled; whatever `tick` raises.
        """
        rate = self._rate()
        limit = ["--bwlimit", f"{max(rate // 8, 1)}B"] if rate else []
        command = ["rclone", "--config", str(self.remote.config), "--use-json-log", *limit]
        command += ["--stats", "1s", "--stats-log-level", "NOTICE", "--ask-password=false"]
        command += ["--retries", "1", "--low-level-retries", "3", "--contimeout", "15s", "--timeout", f"{IO_TIMEOUT}s"]
        folder = self.remote.config.parent
        with tempfile.TemporaryFile(dir=folder) as output:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env=minimal_environment(folder),
                start_new_session=True,
            )
            log = _Log(process)
            try:
                self._watch(process, log, patience)
            finally:
                _end(process)
                log.close()
            if process.returncode:
                raise RcloneError(self.remote.scrub(log.reason(process.returncode)), process.returncode)
            output.seek(0)
            return output.read().decode()

    def _watch(self, process: subprocess.Popen[bytes], log: _Log, patience: float) -> None:
        last, since = -1, time.monotonic()
        while process.poll() is None:
            self._tick()
            for progress in log.read(0.25):
                self._report(progress)
                if progress.done != last:
                    last, since = progress.done, time.monotonic()
            if time.monotonic() - since > self._stall_limit + patience:
                raise RcloneError(self.remote.scrub(f"no advance for {self._stall_limit + patience:.0f} s; {log.last}"))
        log.read(0)


class _Log:
    """rclone's JSON log: progress and the last errors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - opened with PIPE by the only caller
        self._pipe = process.stderr
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._rest = b""
        self._errors: list[str] = []
        self._open = True

    @property
    def last(self) -> str:
        return self._errors[-1] if self._errors else "rclone said nothing"

    def read(self, wait: float) -> list[Progress]:
        """Take what is there; wait `wait` seconds for it at most."""
        if not self._open:
            time.sleep(wait)
            return []
        self._selector.select(wait)
        chunks = []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipe.fileno(), 1 << 16):
                chunks.append(chunk)
            self._open = False
            self._selector.unregister(self._pipe)
        *lines, self._rest = (self._rest + b"".join(chunks)).split(b"\n")
        return [progress for line in lines if (progress := self._take(line.decode(errors="replace")))]

    def _take(self, line: str) -> Progress | None:
        try:
            entry: Any = json.loads(line)
        except ValueError:
            entry = {"level": "error", "msg": re.sub(r"^[\d/]+ [\d:]+ ", "", line)} if line.strip() else {}
        stats = entry.get("stats")
        if isinstance(stats, dict):
            return Progress(int(stats["bytes"]), int(stats["totalBytes"]), float(stats["speed"]), stats.get("eta"))
        if entry.get("level") in ("error", "critical", "fatal"):
            about = f"{entry['object']}: " if entry.get("object") else ""
            self._errors = [*self._errors, about + str(entry.get("msg", "")).strip()][-4:]
        return None

    def reason(self, code: int) -> str:
        # rclone says the same thing once per attempt and once more at the end.
        unique = list(dict.fromkeys(" ".join(text.split()) for text in self._errors))
        return (f"rclone ended with {code}: " + "; ".join(unique or ["no reason given"]))[:1000]

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(KILL_AFTER)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
