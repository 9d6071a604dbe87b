"""Supervises a daemon that knows no sd_notify: nginx, RabbitMQ, sshd.

    python3 -m station.foreign --probe http://127.0.0.1:8080/healthz -- nginx -c nginx.conf

READY when the probe first succeeds, the watchdog fed only while it succeeds.
TERM and HUP go on to the daemon, whose exit status becomes ours.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from station import bound, notify
from station.config import EX_CONFIG, ConfigError, set_up_log

log = logging.getLogger(__name__)

STEP = 0.2
"""Seconds between two looks at the daemon."""


class Probe:
    """Asks whether a daemon serves: `http://host:port/path` answers below 400, or `tcp://host:port` accepts."""

    def __init__(self, place: str, timeout: float) -> None:
        """Raises ConfigError for a place that is neither."""
        parts = urlsplit(place)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "tcp") or not parts.hostname or (parts.scheme == "tcp" and not port):
            raise ConfigError("--probe", f"is {place!r}; needed is http://host:port/path or tcp://host:port")
        self._http = parts.scheme == "http"
        self._address = (parts.hostname, port or 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout

    def failure(self) -> str | None:
        """Ask once; None if all is well, else what is wrong. Waits at most the timeout for each step."""
        try:
            if not self._http:
                socket.create_connection(self._address, self._timeout).close()
                return None
            connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
            with contextlib.closing(connection):
                connection.request("GET", self._path, headers={"Connection": "close"})
                answer = connection.getresponse()
                return None if answer.status < 400 else f"HTTP {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__


def supervise(probe: Probe, interval: float, command: list[str], environment: Mapping[str, str] | None = None) -> int:
    """Run the daemon until it ends; returns its exit status, 128 + n for signal n. No `environment` means ours."""
    # It must not outlive us and hold its port.
    process = subprocess.Popen(bound.command(command, signal.SIGTERM), env=environment)
    stopping = False

    def forward(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = stopping or number != signal.SIGHUP
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    ready = False
    failure: str | None = ""
    due = 0.0
    while (status := process.poll()) is None:
        now = time.monotonic()
        if now >= due and not stopping:
            due = now + interval
            before, failure = failure, probe.failure()
            if failure is None and not ready:
                ready = True
                notify.ready("serving")
            elif failure is None:
                notify.watchdog()
            if failure != before:
                notify.status("serving" if failure is None else f"does not answer: {failure}")
                if failure is not None and ready:
                    log.warning("%s does not answer: %s", command[0], failure)
        time.sleep(STEP)
    notify.stopping()
    if not stopping:
        log.warning("%s ended by itself with %d", command[0], status)
    return status if status >= 0 else 128 - status


def main(argv: list[str] | None = None) -> int:
    """Run a foreign daemon; returns the exit status."""
    parser = argparse.ArgumentParser(prog="station.foreign", description="Supervise a daemon that knows no notify.")
    parser.add_argument("--probe", required=True, help="http://host:port/path or tcp://host:port")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two probes")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds that a probe may take")
    parser.add_argument("command", nargs="+", help="the daemon, in the foreground, after --")
    arguments = parser.parse_args(argv)
    set_up_log()
    try:
        return supervise(Probe(arguments.probe, arguments.timeout), arguments.interval, arguments.command)
    except (ConfigError, OSError) as error:
        log.error("%s", error)
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
