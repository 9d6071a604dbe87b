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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from station.remote import Remote, minimal_environment

IO_TIMEOUT = 30
"""Seconds without a byte on a connection after which rclone gives it up."""
STALL_LIMIT = 90
"""Seconds without advance after which we end rclone. Beyond IO_TIMEOUT, for rclone tries a file three times."""
HASH_RATE = 4 << 20
"""Bytes in a second that the slowest target hashes or sends back; it only bounds how long we wait for a checksum."""
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
    """A file at a target: bytes, and the checksum that was asked for (empty: the target states none)."""

    size: int
    digest: str


class Rclone:
    """rclone for one target.

    `tick` is called several times a second while a command runs; whatever it raises ends the
    command. `report` is given progress. `rate` says the limit in bytes per
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
        self._hashes: list[str] | None = None

    def copy(self, source: str, destination: str, names: Sequence[str], *, parallel: int = 1) -> None:
        """Send the named files below the folder `source` to the folder `destination`, `parallel` at a time."""
        with self._listed(names) as chosen:
            self.run("copy", *chosen, "--ignore-times", "--transfers", str(parallel), source, destination)

    def move(self, source: str, destination: str, names: Sequence[str]) -> None:
        """Rename the named files below one folder at the target to another; what differs is never overwritten."""
        with self._listed(names) as chosen:
            self.run("move", *chosen, "--immutable", "--delete-empty-src-dirs", source, destination)

    def replace(self, source: str, destination: str) -> None:
        """Rename one file at the target, over another one if it is there."""
        self.run("moveto", "--ignore-times", source, destination)

    def delete(self, path: str) -> None:
        """Delete one file at the target."""
        self.run("deletefile", path)

    def listing(self, folder: str, names: Sequence[str], *, hash_name: str = "", size: int = 0) -> dict[str, Entry]:
        """Look for the named files below a folder at the target; those that are there, by name.

        Args:
            folder: the folder, as `Remote.path` makes it.
            names: paths below it.
            hash_name: checksum to ask for.
            size: bytes that the target has to hash, which bounds the wait.
        """
        options = ["--hash-type", hash_name] if hash_name else []
        with self._listed(names) as chosen:
            options += ["-R", "--files-only", "--no-modtime", "--no-mimetype", *chosen]
            text = self.run("lsjson", *options, folder, patience=size / HASH_RATE)
        return {
            item["Path"]: Entry(int(item["Size"]), str(item.get("Hashes", {}).get(hash_name, "")))
            for item in _parsed(text)
        }

    def hashes(self) -> list[str]:
        """Return the names of the checksums that the target states; it is asked once."""
        if self._hashes is None:
            self._hashes = list(_parsed(self.run("backend", "features", self.remote.path())).get("Hashes") or [])
        return self._hashes

    @property
    def hashes_known(self) -> bool:
        """Say whether the target was asked and states checksums."""
        return bool(self._hashes)

    def read_back(self, folder: str, names: Sequence[str], size: int) -> dict[str, str]:
        """Download the named files below a folder, `size` bytes, and return their SHA-256 by name."""
        with self._listed(names) as chosen:
            text = self.run("hashsum", "sha256", "--download", *chosen, folder, patience=size / HASH_RATE)
        pairs = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
        return {path: digest for digest, path in pairs}

    @contextlib.contextmanager
    def _listed(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Arguments that make rclone look at these files alone, not at a folder with ten thousand others."""
        with tempfile.NamedTemporaryFile("w", dir=self.remote.config.parent, prefix="list-") as listing:
            listing.write("".join(name + "\n" for name in names))
            listing.flush()
            yield ["--files-from-raw", listing.name, "--no-traverse"]

    def run(self, *arguments: str, patience: float = 0) -> str:
        """Run one command and return what it printed.

        Args:
            arguments: command and arguments.
            patience: seconds more than usual to wait while nothing advances.

        Raises:
            RcloneError: it failed or stalled; whatever `tick` raises.
        """
        rate = self._rate()
        limit = ["--bwlimit", f"{rate}B"] if rate else []
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


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RcloneError(f"rclone printed no JSON: {text[:80]!r}") from error


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
