"""Removes what is older than the settings keep: ended runs with their events and files, messages, and records."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

from sqlalchemy import ColumnElement, delete, exists, select

from api import run_figures
from api.clock import now
from api.database import Database
from api.settings import Settings
from api.tables import Audit, Message, Override, Registration, Run, RunLock, Wanted

log = logging.getLogger("stationmaster.retention")

EVERY = 600.0
"""Seconds between two looks: messages may come by the second."""
FIRST = 60.0
"""Seconds from the manager's start to the first look: a start has more urgent work."""
BATCH = 10
"""Runs removed in one transaction, each with up to 4,000 events: hellos have to wait for it."""
MESSAGES = 2000
"""Messages removed in one transaction."""
STRAY = 86400.0
"""Seconds that a run's folder without a row stays: that of a run whose row another manager has removed."""
AUDIT = 12
"""How many times longer than runs the audit is kept."""


class Retention:
    """Part of the manager that removes what is old.

    Args:
        settings: how long, and where the runs' folders are.
        database: where the rest is.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        """Begin; the first look is a minute later."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in work."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _work(self) -> None:
        pause = FIRST
        while not self._stop.wait(pause):
            pause = EVERY
            try:
                self.sweep()
            except Exception:  # a database that is away now is there at the next look
                log.exception("what is old could not be removed")

    def sweep(self) -> int:
        """Remove what is old now; return how many runs that was."""
        before = now() - self._settings.retention_days * 86400
        removed = 0
        while not self._stop.is_set():
            count = self._remove_runs(before)
            removed += count
            if count < BATCH:
                break
        self._remove_messages()
        self._remove_records(before)
        self._remove_folders()
        if removed:
            log.info("%d runs older than %g days are removed", removed, self._settings.retention_days)
        return removed

    def _remove_runs(self, before: float) -> int:
        """Remove some ended runs. What has not ended, or still has a station, stays however old it is."""
        with self._database.writing() as session:
            locked = exists().where(RunLock.run == Run.id)
            old = select(Run.id).where(Run.ended_at < before, ~locked).order_by(Run.ended_at).limit(BATCH)
            chosen = list(session.scalars(old.with_for_update(skip_locked=True)))
            if chosen:
                run_figures.keep(session, run_figures.tally(run_figures.rows_of(session, Run.id.in_(chosen))))
                session.execute(delete(Run).where(Run.id.in_(chosen)))  # events go with them
        for run in chosen:
            shutil.rmtree(self._folders / run, ignore_errors=True)
        return len(chosen)

    def _remove_messages(self) -> None:
        """Remove messages that are too old, and the oldest of too many."""
        with self._database.reading() as session:
            newest = select(Message.at).order_by(Message.at.desc(), Message.number.desc())
            surplus = session.scalar(newest.offset(self._settings.messages_kept).limit(1))
        old: ColumnElement[bool] = Message.at < now() - self._settings.message_seconds
        if surplus is not None:
            old |= Message.at <= surplus
        while not self._stop.is_set():
            with self._database.writing() as session:
                chosen = list(session.scalars(select(Message.number).where(old).limit(MESSAGES)))
                session.execute(delete(Message).where(Message.number.in_(chosen)))
            if len(chosen) < MESSAGES:
                return

    def _remove_records(self, before: float) -> None:
        with self._database.writing() as session:
            session.execute(delete(Override).where(Override.until < before))
            session.execute(delete(Registration).where(Registration.at < before))
            newest = select(Wanted.revision).order_by(Wanted.at.desc()).limit(1).scalar_subquery()
            session.execute(delete(Wanted).where(Wanted.at < before, Wanted.revision != newest))
            session.execute(delete(Audit).where(Audit.at < now() - AUDIT * self._settings.retention_days * 86400))

    def _remove_folders(self) -> None:
        """Remove folders of runs that are in no table any more."""
        found = {path.name: path for path in self._folders.glob("*") if path.is_dir() and _age(path) > STRAY}
        with self._database.reading() as session:
            for name, path in found.items():
                if session.get(Run, name) is None:
                    shutil.rmtree(path, ignore_errors=True)

    @property
    def _folders(self) -> Path:
        return self._settings.data / "runs"


def _age(path: Path) -> float:
    try:
        return now() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
