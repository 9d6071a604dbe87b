"""The manager's side of `api.inventory_worker`."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from api.inventory_worker import Judged, Message
from api.settings import CHECKOUT

log = logging.getLogger("stationmaster.inventory")

SECONDS = 120.0
"""Longest that one state may take; 500 stations take a tenth of it."""
KEPT_BACK = ("STATIONMASTER_DATABASE_URL",)
"""Environment that is not for the inventory's own scripts."""


class Worker:
    """One judgement of the inventory.

    Args:
        folder: the inventory.
        revision: recorded in what is rendered; None to judge only.
    """

    def __init__(self, folder: Path, revision: str | None) -> None:
        render = ["--render", revision] if revision is not None else []
        command = [sys.executable, "-m", "api.inventory_worker", *render, str(folder)]
        environment = {key: value for key, value in os.environ.items() if key not in KEPT_BACK}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._ended = False
        self._timer = threading.Timer(SECONDS, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def messages(self) -> Iterator[Message]:
        """Yield what the worker tells; if it fails before it judged, a `Judged` that says so."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        judged = False
        try:
            while True:
                message = pickle.load(self._process.stdout)  # noqa: S301 - from our own child, of our own classes
                judged = judged or isinstance(message, Judged)
                yield message
        except (EOFError, pickle.UnpicklingError):
            status = self._process.wait()
        finally:
            self._close()
        if status != 0 and not self._ended:
            log.warning("the check of the inventory ended with status %s: %s", status, self._said)
        if not judged:
            yield Judged(
                [], failed=f"the check itself ended with status {status}; the manager's journal has the reason"
            )

    def judged(self) -> Judged:
        """Return only the judgement."""
        found = Judged([])
        for message in self.messages():
            if isinstance(message, Judged):
                found = message
        return found

    def end(self) -> None:
        """Kill it, with the scripts of the inventory that it runs."""
        self._ended = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _give_up(self) -> None:
        log.warning("the check of the inventory took more than %.0f s: does a script of it hang?", SECONDS)
        self.end()

    def _close(self) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self.end()
            self._process.wait()
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdout.close()
        self._errors.seek(0)
        self._said = self._errors.read()[-2000:].decode(errors="replace").strip()
        self._errors.close()
