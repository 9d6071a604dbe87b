"""One run of ffmpeg that comes to an end: progress, stall, stop, and why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from station import bound

STALL = 60.0
"""Seconds without any progress or any use of the processor. Not the budget's stall limit: that is for live media; a
task of low priority beside live work may well wait for seconds."""
STUCK = 900.0
"""Seconds without progress after which a task that only burns time is ended: far longer than the slowest encoder
looks ahead."""
TAIL = 8192
"""Bytes of stderr that are kept; ffmpeg's reason stands at the end."""
FULL = "No space left on device"


class TaskFailed(Exception):
    """ffmpeg did not do it; the text ends with what it said."""


class TaskStalled(TaskFailed):
    """ffmpeg was ended because nothing moved any more."""


class DiskFull(TaskFailed):
    """There is no room for what ffmpeg writes."""


class TaskStopped(Exception):
    """The unit is being stopped."""


def guarded(command: Sequence[str]) -> list[str]:
    """The command, to be killed with the thread that starts it: what a killed encode leaves must not go on writing."""
    return bound.command(command)


def run(
    arguments: Sequence[str],
    folder: Path,
    progress: Callable[[float], None] = lambda seconds: None,
    stop: Callable[[], bool] = lambda: False,
    stall: float = STALL,
    level: str = "error",
) -> str:
    """Run `ffmpeg` with `arguments` in `folder` and return the end of what it said.

    `progress` gets the seconds of media done so far, several times a second;
    `stop` says whether the unit is being stopped; `stall` is in seconds, `level`
    is ffmpeg's log level. Raises TaskFailed or TaskStopped.
    """
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", level, "-progress", "pipe:1", "-y"]
    command += arguments
    log = folder / f"ffmpeg-{os.getpid()}-{time.monotonic_ns()}.log"
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("w+b"))
        stack.callback(log.unlink, missing_ok=True)
        process = subprocess.Popen(guarded(command), cwd=folder, stdout=subprocess.PIPE, stderr=file)
        stack.callback(_end, process)
        watch = _Watch(process, progress, stall)
        while process.poll() is None:
            if stop():
                raise TaskStopped
            if why := watch.look():
                raise TaskStalled(f"{why}; ffmpeg said: {_said(log)}")
        watch.look()
        said = _said(log)
    if process.returncode != 0:
        kind = DiskFull if FULL in said else TaskFailed
        raise kind(f"ffmpeg ended with {process.returncode}: {said}")
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def _said(log: Path) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return file.read().decode(errors="replace").strip()


class _Watch:
    """Reads progress and notices when there is none."""

    def __init__(self, process: subprocess.Popen[bytes], progress: Callable[[float], None], stall: float) -> None:
        assert process.stdout is not None  # noqa: S101 - opened with PIPE by run()
        self._pipe = process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._pid = process.pid
        self._progress = progress
        self._stall = stall
        self._rest = b""
        self._done = -1.0
        self._used = 0
        self._moved = self._worked = time.monotonic()

    def look(self) -> str | None:
        """Take what ffmpeg reports; a text if it should be ended."""
        if self._selector.get_map() and self._selector.select(0.25):
            self._read()
        elif not self._selector.get_map():
            time.sleep(0.05)
        now = time.monotonic()
        used = _ticks(self._pid)
        if used != self._used:
            self._used, self._worked = used, now
        if now - max(self._moved, self._worked) > self._stall:
            return f"neither progress nor work for {self._stall:.0f} s"
        if now - self._moved > max(STUCK, self._stall):
            return f"no progress for {STUCK:.0f} s"
        return None

    def _read(self) -> None:
        data = os.read(self._pipe.fileno(), 65536)
        if not data:
            self._selector.unregister(self._pipe)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            key, _, value = line.partition(b"=")
            # `out_time_ms` is in microseconds too, whatever its name says, but is absent before the first frame.
            if key == b"out_time_us" and value.strip().lstrip(b"-").isdigit():
                self._advance(int(value) / 1e6)

    def _advance(self, seconds: float) -> None:
        if seconds > self._done:
            self._done, self._moved = seconds, time.monotonic()
            self._progress(max(0.0, seconds))


def _ticks(pid: int) -> int:
    """Processor time that a process used, in clock ticks; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return 0


def probe(path: str, folder: Path, *options: str, timeout: float = 60) -> dict[str, Any]:
    """What ffprobe says of a file (or of any input ffmpeg reads): streams and format.

    `options` go before the input; `timeout` is in seconds. Raises TaskFailed with its reason.
    """
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", *options, path]
    try:
        done = subprocess.run(guarded(command), cwd=folder, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise TaskFailed(f"ffprobe {path}: no answer in {timeout:.0f} s") from error
    if done.returncode != 0:
        raise TaskFailed(f"ffprobe {path}: {done.stderr.decode(errors='replace').strip()[-TAIL:]}")
    value = json.loads(done.stdout)
    return value if isinstance(value, dict) else {}


def version() -> str:
    """The first line of `ffmpeg -version`, for the manifest."""
    done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()[0]
