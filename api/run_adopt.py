"""Looks after the runs of this data folder, whether this process or an earlier one began them.

A supervisor lives as long as it holds its folder's lock. Dead with a result: the result is
taken. Dead without one: a new supervisor cleans up and calls the run lost. Never begun: the run
goes back into the queue. Runs of other hosts are judged by their lease alone.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Mapping

from sqlalchemy import select

from api.clock import now
from api.database import Database
from api.run_dispatch import take_mutex
from api.run_folder import RunFolder
from api.run_sql import Driver
from api.run_states import ACTIVE, RENEW
from api.run_store import complete, end, finish, give_back
from api.tables import Run

log = logging.getLogger("stationmaster.runs")
EARLIER = float("-inf")
"""When a run was begun that an earlier process began."""
MOST = 4
"""Supervisors that may die on a run."""
START = 60.0
"""Seconds that a supervisor in a unit of its own may take from its start to its lock."""


class Adoption:
    """The runs that this manager has begun and not yet seen the end of.

    Args:
        database: of the manager.
        owner: id of its data folder.
        folder: gives a run's folder.
        children: supervisors that are processes of ours, by run.
        start: starts a supervisor on a folder, with the number of those that died before.
        in_units: whether supervisors are units: then the end of the process that starts one tells nothing.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        folder: Callable[[str], RunFolder],
        children: Mapping[str, subprocess.Popen[bytes]],
        start: Callable[[RunFolder, int], None],
        in_units: bool,
    ) -> None:
        self._database = database
        self._driver = Driver(database.url.render_as_string(hide_password=False))
        self._owner = owner
        self._folder = folder
        self._children = children
        self._start = start
        self._in_units = in_units
        self._own: dict[str, float] = {}
        self._done: set[str] = set()
        self._leases_seen = 0.0
        self.following = False
        """Whether a run under way has a supervisor that is no child of ours."""

    def own(self, run: str) -> None:
        """Take note of a run that was begun just now."""
        self._own[run] = time.monotonic()

    def tidy(self) -> None:
        """Have the folders of runs removed that ended while no manager was there."""
        runs = self._folder("x").path.parent
        if runs.is_dir():
            self._done.update(path.name for path in runs.iterdir() if path.is_dir())

    def close(self) -> None:
        """Close its connection to the database."""
        self._driver.close()

    def look(self) -> list[str]:
        """Look at each run once; return those that ended since the last look."""
        with self._database.reading() as session:
            active = set(session.scalars(select(Run.id).where(Run.owner == self._owner, Run.state.in_(ACTIVE))))
        self.following = False
        for run in active - self._own.keys():
            self._own[run] = EARLIER
        for run in active:
            try:
                self._look_after(run)
            except Exception:
                log.exception("looking after run %s failed", run)
        ended = [run for run in self._own if run not in active]
        for run in ended:
            del self._own[run]
        self._done = {run for run in {*self._done, *ended} - active if not self._remove(run)}
        if time.monotonic() - self._leases_seen > RENEW:
            self._leases_seen = time.monotonic()
            self._judge_leases()
        return ended

    def _remove(self, run: str) -> bool:
        folder = self._folder(run)
        with folder.held() as free:
            if free:
                folder.remove()
        return free

    def _look_after(self, run: str) -> None:
        if run in self._children:
            return
        folder, attempt = self._folder(run), None
        with folder.held() as free:
            if not free:
                self.following = True
                return
            begun = folder.begun()
            if folder.result() is not None:
                complete(self._driver, folder, self._owner)
                return
            if begun is not None:
                attempt = begun["attempt"] + 1
            elif self._own[run] == EARLIER:
                log.warning("run %s was never begun and goes back into the queue", run)
                folder.take_back()
                with self._driver.transaction() as statements:
                    give_back(statements, run)
            elif self._in_units and time.monotonic() - self._own[run] < START:
                self.following = True
            else:
                folder.take_back()
                told = folder.log.read_text(errors="replace")[-1000:] if folder.log.exists() else ""
                self._finish(run, "incomplete", f"Its supervisor did not begin: {told}")
        if attempt is not None and attempt > MOST:
            self._finish(run, "lost", "Its supervisors died one after another.")
        elif attempt is not None:
            log.warning("the supervisor of run %s died", run)
            self._start(folder, attempt)

    def _finish(self, run: str, state: str, reason: str) -> None:
        with self._driver.transaction() as statements:
            finish(statements, run, state, reason, {})

    def _judge_leases(self) -> None:
        """Call the runs of other hosts lost whose supervisors have not been heard of for the time of a lease."""
        overdue = select(Run).where(Run.state.in_(ACTIVE), Run.owner != self._owner, Run.lease_until < now())
        with self._database.reading() as session:
            if session.scalar(overdue.limit(1)) is None:
                return
        with self._database.writing() as session:
            if take_mutex(self._database, session, wait=False):
                for run in session.scalars(overdue.with_for_update()):
                    reason = "The host that works on it has not been heard of since its lease ended."
                    end(session, run, "lost", reason, {})
