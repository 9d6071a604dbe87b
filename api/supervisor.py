"""The process of one run: `python -m api.supervisor FOLDER`.

It outlives the manager. It runs the playbook, writes each event into the folder, carries the
events into the database, keeps the run's lease, and ends the run when it is to be canceled or
takes too long. Started again on a folder whose supervisor died, it cleans up after that one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from api import run_ansible, run_events, run_result, run_tree, sweep
from api.run_folder import RunFolder
from api.run_sql import Driver
from api.run_states import RENEW
from api.run_store import Shipment, complete

log = logging.getLogger("stationmaster.supervisor")
WRITE = 0.1
"""Seconds between two looks at the events that came."""
SHIP = 0.3
"""Seconds between two looks at the database."""
FINISH = 60.0
"""Seconds to try to write the end into the database; after that a manager takes it from the folder."""
ATTEMPTS = 2
"""Supervisors that may die over the clean-up of a run."""


class Supervisor:
    """One run, from its begin to its result.

    Args:
        folder: the run's folder, whose lock is held.
        job: what to do.
    """

    def __init__(self, folder: RunFolder, job: dict[str, Any]) -> None:
        self._folder = folder
        self._job = job
        self._summary = run_result.Summary(job["stations"], job["project"], job["skipped"])
        self._events: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._last = self._began = time.monotonic()
        self._state: str | None = "starting"
        self._reached = time.monotonic()
        self._told_to_end = False
        self._stopped: tuple[str, str] | None = None
        self._killed = threading.Event()
        self._over = threading.Event()
        self._shipped = threading.Event()

    def run(self) -> None:
        """Run the playbook and write the result, exactly once and whatever happens."""
        signal.signal(signal.SIGTERM, self._terminate)
        run_tree.adopt_orphans()
        threads = [threading.Thread(target=each, daemon=True) for each in (self._write, self._watch)]
        shipper = threading.Thread(target=self._ship, daemon=True)
        for thread in (*threads, shipper):
            thread.start()
        rc, fault = None, ""
        try:
            rc = run_ansible.run(
                self._folder.private,
                self._job,
                Path(self._job["playbook"]),
                self._job["variables"],
                self._handle,
                self._killed.is_set,
            )
        except Exception as error:
            log.exception("the run failed to run")
            fault = f"{type(error).__name__}: {error}"
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._folder.end(self._judge(rc, fault))
            self._clear()
            self._shipped.set()
            shipper.join()

    def clean_up(self, begun: dict[str, Any]) -> None:
        """End what a dead supervisor left, here and on the stations, and call the run lost."""
        run_tree.adopt_orphans()
        run_tree.end_marked(self._job["run"])
        shipper = threading.Thread(target=self._ship, daemon=True)
        shipper.start()
        reason = "The run's supervisor ended without a result: it was killed, or the host went down."
        unproven = dict.fromkeys(self._job["stations"], "was not looked at")
        try:
            if begun["attempt"] <= ATTEMPTS:
                unproven = self._sweep(begun["at"])
        finally:
            result = self._summary.result(None)[2]
            self._folder.end(_with_unproven("lost", reason, result, unproven))
            self._clear()
            self._shipped.set()
            shipper.join()

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True

    def _handle(self, event: dict[str, Any]) -> None:
        self._last = time.monotonic()
        self._events.put(event)

    def _write(self) -> None:
        """Append events to the file, in batches, until there are no more."""
        number = 0
        with os.fdopen(os.open(self._folder.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            while not (self._over.is_set() and self._events.empty()):
                lines = []
                while not self._events.empty():
                    event = self._events.get()
                    number += 1
                    lines.append(self._line(number, event))
                file.write(b"".join(lines))
                file.flush()
                self._over.wait(WRITE)
            os.fsync(file.fileno())

    def _line(self, number: int, event: dict[str, Any]) -> bytes:
        try:
            self._summary.see(number, event)
            kept = run_events.kept(event, self._job["project"])
        except Exception as error:  # an event of a shape that nobody thought of must not stop the others
            log.exception("event %d", number)
            kept = {"kind": "unreadable", "station": None, "data": {"reason": type(error).__name__}}
        return json.dumps({"at": time.time(), **kept}, default=str).encode() + b"\n"

    def _watch(self) -> None:
        """End the run's processes as soon as there is a reason."""
        while not self._over.wait(WRITE):
            self._stopped = self._reason_to_stop()
            if self._stopped:
                run_tree.end_children()
                self._killed.set()
                return

    def _reason_to_stop(self) -> tuple[str, str] | None:
        now, job = time.monotonic(), self._job
        if self._state == "canceling":
            return "canceled", ""
        if self._state is None:
            return "lost", "The run was taken from this manager."
        if self._told_to_end:
            return "canceled", "The run's supervisor was told to end: the host goes down, or its unit was stopped."
        if now - self._began > job["run_timeout"]:
            return "timed_out", f"Not done after {job['run_timeout']:g} s."
        if now - self._last > job["silence_timeout"]:
            return "timed_out", f"Silent for {job['silence_timeout']:g} s."
        if job["fence"] is not None and now - self._reached > job["fence"]:
            return (
                "lost",
                f"The database was out of reach for {job['fence']:g} s, so that the stations may be given away.",
            )
        return None

    def _judge(self, rc: int | None, fault: str) -> dict[str, Any]:
        if self._stopped is None:
            state, reason, result = self._summary.result(rc)
            if fault:
                state, reason = "incomplete", fault
            return {"state": state, "reason": reason, "result": result}
        run_tree.end_children(grace=0)  # also what began while the rest was being ended
        unproven = self._sweep(time.time() - (time.monotonic() - self._began))
        return _with_unproven(*self._stopped, self._summary.result(None)[2], unproven)

    def _sweep(self, began: float) -> dict[str, str]:
        try:
            return sweep.sweep(self._folder.path / "sweep", self._job, began)
        except Exception as error:
            log.exception("the sweep failed")
            return dict.fromkeys(self._job["stations"], f"was not looked at: {type(error).__name__}")

    def _clear(self) -> None:
        for path in (self._folder.private, self._folder.path / "sweep"):
            shutil.rmtree(path, ignore_errors=True)

    def _ship(self) -> None:
        """Carry events into the database until the end is written there, too."""
        driver = Driver(self._job["database"])
        shipment = Shipment(driver, self._job["run"], self._job["owner"], self._folder.events)
        renewed = -RENEW
        while not self._shipped.wait(SHIP):
            try:
                due = time.monotonic() - renewed >= RENEW
                self._state = shipment.ship(renew=due)
                self._reached = time.monotonic()
                renewed = self._reached if due else renewed
            except Exception as error:
                log.warning("the database is out of reach: %s", error)
        self._finish(driver)
        driver.close()

    def _finish(self, driver: Driver) -> None:
        deadline = time.monotonic() + FINISH
        while True:
            try:
                complete(driver, self._folder, self._job["owner"])
                return
            except Exception as error:
                log.warning("the result cannot be written to the database: %s", error)
            if time.monotonic() > deadline:
                return
            time.sleep(1)


def _with_unproven(state: str, reason: str, result: dict[str, Any], unproven: dict[str, str]) -> dict[str, Any]:
    if unproven:
        state = "cancel_unverified" if state == "canceled" else state
        named = ", ".join(f"{name} ({why})" for name, why in sorted(unproven.items()))
        reason = f"{reason} Not proven to be free of the run: {named}.".strip()
        result = {**result, "unproven": unproven}
    return {"state": state, "reason": reason, "result": result}


def main(arguments: list[str]) -> int:
    """Supervise the run of a folder; do nothing where another supervisor does, or there is nothing to do."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    folder = RunFolder(Path(arguments[0]).absolute())
    with folder.held() as mine:
        job = folder.job()
        if not mine or job is None or folder.result() is not None:
            return 0
        begun = folder.begun()
        attempt = begun["attempt"] + 1 if begun else 0
        note = {"pid": os.getpid(), "at": begun["at"] if begun else time.time(), "attempt": attempt}
        folder.begin(note)
        supervisor = Supervisor(folder, job)
        if begun:
            supervisor.clean_up(note)
        else:
            supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
