"""The heartbeat of a worker that is busy for hours: stop when asked, feed the watchdog while all is well."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from station import notify


class Stopped(Exception):
    """The worker was asked to stop."""


class Beat:
    """Called often by whatever takes long.

    The watchdog is fed from here and only from here: a transfer that stands
    still is noticed by the one that watches it, a hang of the program by systemd.
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._stop = threading.Event()
        self._interval = interval
        self._fed = 0.0

    def install(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def stop(self) -> None:
        """Make the next tick raise Stopped."""
        self._stop.set()

    def tick(self) -> bool:
        """Feed the watchdog, at most once per interval; raises Stopped, else returns True (to go on)."""
        if self._stop.is_set():
            raise Stopped
        now = time.monotonic()
        if now - self._fed >= self._interval:
            notify.watchdog()
            self._fed = now
        return True

    def wait(self, seconds: float) -> None:
        """Wait, ticking; raises Stopped at once when asked to stop."""
        end = time.monotonic() + seconds
        self.tick()
        while (left := end - time.monotonic()) > 0:
            self._stop.wait(min(left, self._interval))
            self.tick()
