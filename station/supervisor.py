"""Runs one ffmpeg at a time: pipes, progress, stalls, stopping, back-off.

Used by every role that keeps an ffmpeg going. What to run and what to make of
its output is the caller's; this module owns the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from station import bound
from station.exits import Ending, judge

log = logging.getLogger(__name__)

PIPE_SIZE = 1 << 20
"""The most an unprivileged process may ask for: 2 s of 4 Mbit/s, while we are busy."""
BACKOFF_FIRST = 1.0
BACKOFF_LIMIT = 5.0
"""A camera that comes back is recorded again within seconds; a try a second from 60 rooms would be noise."""
STEADY_AFTER = 30.0
"""A run of this length forgives the failures before it."""
STOP_GRACE = 3.0
"""ffmpeg with a stalled input does not obey a TERM for 13 s and more [measured]: then KILL."""
LOGGED_LINES = 20
"""Lines of ffmpeg passed on to the journal per LOGGED_PERIOD; a broken stream makes thousands."""
LOGGED_PERIOD = 10.0
_LOUD = re.compile(r"\[(warning|error|fatal|panic)\]")
_NOISE = ("deprecated pixel format used", "Finishing stream")
"""Warnings that every run makes and nobody can mend."""


class Backoff:
    """How long to wait before the next try, in seconds."""

    def __init__(self, first: float = BACKOFF_FIRST, limit: float = BACKOFF_LIMIT) -> None:
        self._first = first
        self._limit = limit
        self._next = first

    def after(self, lasted: float) -> float:
        """The pause after a run that lasted so many seconds."""
        if lasted >= STEADY_AFTER:
            self._next = self._first
        pause = self._next
        self._next = min(self._next * 2, self._limit)
        return pause


class Advance:
    """Watches a value that must grow: output and even progress lines prove nothing [measured]."""

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._highest: float | None = None
        self.since = now

    @property
    def begun(self) -> bool:
        """Whether there has been a value at all."""
        return self._highest is not None

    def see(self, value: float, now: float) -> None:
        """A value at a time of the steady clock; only a higher one counts."""
        if self._highest is None or value > self._highest:
            self._highest = value
            self.since = now

    def stalled(self, now: float) -> bool:
        """No advance for longer than the limit (seconds)."""
        return now - self.since > self._limit


class Child:
    """One run of a program with pipes of its own.

    `command` gets the descriptors of the named pipes and returns the argument
    list; each pipe is written by the child and read here, never blocking. What is
    in `secrets` is blacked out in everything that the child says.
    """

    def __init__(
        self,
        command: Callable[[Mapping[str, int]], Sequence[str]],
        pipes: Sequence[str],
        *,
        secrets: Sequence[str] = (),
        nice: int = 0,
    ) -> None:
        self._secrets = secrets
        ends = {name: os.pipe() for name in pipes}
        self.pipes = {name: read for name, (read, _) in ends.items()}
        written = {name: write for name, (_, write) in ends.items()}
        for read in self.pipes.values():
            os.set_blocking(read, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        arguments = list(command(written))
        # The child must die with us, or it would hold the device; a cgroup does that too, but not by hand.
        program = ["/usr/bin/nice", "-n", str(nice), *arguments] if nice else arguments
        self.started = time.monotonic()
        self.errors: deque[str] = deque(maxlen=40)
        self._asked: float | None = None
        self._error_rest = b""
        self._logged: deque[float] = deque()
        self._suppressed = 0
        try:
            self._process = subprocess.Popen(
                bound.command(program),
                stdin=subprocess.DEVNULL,
                stdout=written.get("stdout", subprocess.DEVNULL),
                stderr=written.get("stderr", subprocess.DEVNULL),
                pass_fds=[fd for name, fd in written.items() if name not in ("stdout", "stderr")],
                # A terminal's Ctrl-C reaches us, and we stop it in order.
                start_new_session=True,
            )
        except OSError:
            self.close()
            raise
        finally:
            for fd in written.values():
                os.close(fd)

    @property
    def pid(self) -> int:
        """The process id of the program itself (what stands before it execs it)."""
        return self._process.pid

    def read(self, name: str, size: int = 1 << 18) -> bytes | None:
        """What is in a pipe now: b"" at its end, None if there is nothing yet."""
        try:
            return os.read(self.pipes[name], size)
        except BlockingIOError:
            return None

    def take_errors(self, data: bytes) -> list[str]:
        """Take bytes of stderr (`-loglevel level+info`): keeps and logs what went wrong; returns all lines."""
        lines = (self._error_rest + data).split(b"\n")
        self._error_rest = lines.pop()[-4096:]
        texts = []
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            for secret in self._secrets:
                text = text.replace(secret, "***")
            texts.append(text)
            if _LOUD.search(text) and not any(noise in text for noise in _NOISE):
                self.errors.append(text)
                self._log(text)
        return texts

    def _log(self, text: str) -> None:
        now = time.monotonic()
        while self._logged and self._logged[0] < now - LOGGED_PERIOD:
            self._logged.popleft()
        if len(self._logged) >= LOGGED_LINES:
            self._suppressed += 1
            return
        if self._suppressed:
            log.warning("ffmpeg: %d more lines", self._suppressed)
            self._suppressed = 0
        self._logged.append(now)
        log.warning("ffmpeg: %s", text)

    def stop(self, now: float) -> None:
        """Ask it to end: TERM at the first call, KILL at a call more than STOP_GRACE later."""
        if self._asked is None:
            self._asked = now
            self._signal(signal.SIGTERM)
        elif now - self._asked > STOP_GRACE:
            self._signal(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._asked is not None

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def ending(self) -> Ending:
        """Why it ended; waits for it, which after `ended()` or the end of its pipes is at once."""
        return judge(self._process.wait(), list(self.errors), asked=self.stopping)

    def close(self) -> None:
        """Close our ends of the pipes."""
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes = {}


def progress(data: bytes) -> dict[str, str]:
    """The newest values of `-progress` output: fps, out_time_us, dup_frames, drop_frames, speed…"""
    values = {}
    for line in data.decode("ascii", "replace").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = value.strip()
    return values
