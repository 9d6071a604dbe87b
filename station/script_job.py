"""A job done by a program of the crew's own: `[program, <the job as one JSON argument>]`.

Exit 0 is success, anything else is a failed job; what the program printed is
kept (its end) to lie beside the job. `encode` and `upload` both use this.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from station.times import STOP_TIMEOUT

OUTPUT_LIMIT = 64 * 1024
"""Bytes of a program's output that are kept: the end, where the reason stands."""
ARGUMENT_LIMIT = 128 * 1024 - 1
"""Bytes that one argument may have: MAX_ARG_STRLEN of Linux (32 pages), less its NUL."""


class ScriptError(Exception):
    """A program that cannot be started at all; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How a program of the crew's ended.

    `exit_code` is None when a signal ended it (`signal` says which one);
    `timed_out` and `stopped` say that we ended it. `output` is the end of
    stdout and stderr together; `seconds` is the time it ran.
    """

    ok: bool
    exit_code: int | None
    signal: int | None
    timed_out: bool
    stopped: bool
    output: str
    seconds: float

    @property
    def reason(self) -> str:
        """One line for the crew: why this counts as success or failure."""
        if self.stopped:
            return "stopped because the unit was stopped"
        if self.timed_out:
            return f"ended by force after {self.seconds:.0f} s: it ran longer than it may"
        if self.signal is not None:
            return f"ended by signal {self.signal} ({signal.Signals(self.signal).name})"
        return "finished" if self.ok else f"exit status {self.exit_code}"

    def report(self) -> dict[str, Any]:
        """Return the result as plain data for a file beside the job."""
        return {**asdict(self), "reason": self.reason}


def command_of(program: str | Path) -> list[str]:
    """Return the command that starts `program`, an absolute path.

    A file without the execute bit (an event's file may arrive so) is started
    through its own `#!` line. Raises ScriptError with what to do otherwise.
    """
    path = Path(program)
    if not path.is_absolute():
        raise ScriptError(f"{program}: not an absolute path, so it is not clear which program is meant")
    if not path.is_file():
        raise ScriptError(f"{program}: no such program on this station; install it or put it among the event's files")
    if os.access(path, os.X_OK):
        return [str(path)]
    try:
        with path.open("rb") as file:
            first = file.readline(4096).decode(errors="replace")
    except OSError as error:
        raise ScriptError(f"{program}: cannot be read: {error.strerror}") from error
    if first.startswith("#!") and first[2:].strip():
        return [*shlex.split(first[2:]), str(path)]
    raise ScriptError(
        f"{program}: neither executable nor starting with a #! line; add `#!/usr/bin/env python3` or the like"
    )


def run_script(
    program: str | Path,
    job: Mapping[str, Any],
    *,
    timeout: float | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    tick: Callable[[], bool] | None = None,
) -> ScriptResult:
    """Run `program` with `job` as its one JSON argument and wait for its end.

    `timeout` is in seconds (None: it may take as long as it likes), `folder`
    its working directory, `environment` is added to ours. `tick` is called
    several times a second while it runs and returns whether to go on. The
    program and all its descendants in its session are ended with it.
    Arguments are readable by every user: `job` must hold no secret.
    Raises ScriptError when it cannot be started.
    """
    argument = json.dumps(job, ensure_ascii=False, sort_keys=True)
    if len(argument.encode()) > ARGUMENT_LIMIT:
        raise ScriptError(f"the job has {len(argument.encode())} bytes; an argument may have {ARGUMENT_LIMIT}")
    try:
        process = subprocess.Popen(
            [*command_of(program), argument],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ScriptError(f"{program}: cannot be started: {error.strerror}") from error
    begun = time.monotonic()
    output = _Tail(process)
    timed_out = stopped = False
    try:
        while process.poll() is None:
            output.read(0.2)
            if tick is not None and not tick():
                stopped = True
                break
            if timeout is not None and time.monotonic() - begun > timeout:
                timed_out = True
                break
    finally:
        end_group(process)
        output.read(0)
        output.close()
    code = process.returncode
    return ScriptResult(
        ok=code == 0 and not timed_out and not stopped,
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        timed_out=timed_out,
        stopped=stopped,
        output=output.text(),
        seconds=round(time.monotonic() - begun, 3),
    )


class _Tail:
    """The end of what a process prints, read without ever waiting for its descendants."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - opened with PIPE above
        self._pipe = process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._kept = b""
        self._open = True

    def read(self, wait: float) -> None:
        """Take what is there; `wait` (seconds) for it at most once."""
        if not self._open:
            time.sleep(wait)
            return
        self._selector.select(wait)
        for _ in range(64):  # bounded: a program that never stops printing must not keep us from the clock
            chunk = self._chunk()
            if not chunk:
                return
            self._kept = (self._kept + chunk)[-OUTPUT_LIMIT:]

    def _chunk(self) -> bytes | None:
        try:
            chunk = os.read(self._pipe.fileno(), 65536)
        except BlockingIOError:
            return None
        self._open = bool(chunk)
        if not chunk:
            self._selector.unregister(self._pipe)
        return chunk

    def text(self) -> str:
        return self._kept.decode(errors="replace")

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it left behind in its session: TERM, then KILL."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT / 2)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
