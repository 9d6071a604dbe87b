"""Sends the station's journal to the collector: systemd-journal-upload, supervised.

The uploader ends whenever the collector is away. That is no failure of the
station: we wait, look whether the collector is there, and start it again. It
goes on after the last entry that was confirmed.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

from station import bound, config, notify
from station.foreign import Probe
from station.metrics import Metrics

log = logging.getLogger(__name__)

UPLOAD = "/lib/systemd/systemd-journal-upload"
STEP = 0.5
"""Seconds between two looks."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the next try, doubled each time: a room that comes back is heard of within half a minute."""
SETTLED = 60.0
"""Seconds that the uploader has to run for the wait to be short again."""


class Sender:
    """Runs the uploader again and again.

    Args:
        url: of the collector, `http://host:port`.
        state: file in which the uploader keeps what was confirmed.
        metrics: what is told of it.
        directory: journal files to send in place of the machine's own.
    """

    def __init__(self, url: str, state: Path, metrics: Metrics, directory: Path | None = None) -> None:
        place = url.removeprefix("http://").rstrip("/")
        self._probe = Probe(f"tcp://{place}", 2.0)
        self._place = place
        self._metrics = metrics
        more = [f"--directory={directory}", "--follow"] if directory else []
        self._command = [UPLOAD, f"--url={url}", f"--save-state={state}", *more]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def stop(self, *_: object) -> None:
        """Have `run` end."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()

    def run(self) -> None:
        """Send until told to stop."""
        notify.ready("starting")
        wait = FIRST_WAIT
        while not self._stopping:
            failure = self._probe.failure()
            if failure is None:
                begun = time.monotonic()
                self._send()
                if time.monotonic() - begun >= SETTLED:
                    wait = FIRST_WAIT
                failure = "it ended the connection"
            if not self._stopping:
                self._tell(0, f"waiting for the collector at {self._place}: {failure}")
                self._pause(wait)
                wait = min(2 * wait, LONGEST_WAIT)
        notify.stopping()

    def _send(self) -> None:
        self._tell(1, f"sending to {self._place}")
        self._process = subprocess.Popen(bound.command(self._command, signal.SIGTERM), env=notify.without())
        if self._stopping:
            self._process.terminate()
        while self._process.poll() is None:
            notify.watchdog()
            time.sleep(STEP)
        if not self._stopping:
            log.info("the uploader ended with %d", self._process.returncode)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            notify.watchdog()
            time.sleep(STEP)

    def _tell(self, connected: int, text: str) -> None:
        notify.status(text)
        self._metrics.set("stationmaster_journal_connected", connected, "1 while the journal is sent")
        self._metrics.write()


def main(argv: list[str] | None = None) -> int:
    """Send until a TERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="station.journal", description="Send the journal to the collector.")
    parser.add_argument("--config", required=True, help="the instance's config.json")
    parser.add_argument("--directory", type=Path, help="journal files to send in place of the machine's own")
    parser.add_argument("url", help="the collector, http://host:port")
    arguments = parser.parse_args(argv)
    config.set_up_log()
    try:
        told = config.load(arguments.config)
        metrics = Metrics(told.paths.metrics, {"role": told.role, "instance": told.instance})
        sender = Sender(arguments.url, told.paths.data / "state", metrics, arguments.directory)
    except config.ConfigError as error:
        log.error("%s", error)
        return config.EX_CONFIG
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, sender.stop)
    sender.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
