"""What a run's supervisor, and whoever adopts the run, write into the database: events, the lease, the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from api.clock import now
from api.database import Database
from api.run_folder import RunFolder
from api.run_states import ACTIVE, CHANNEL, ENDED, LEASE
from api.tables import Run, RunEvent, RunLock

BATCH = 500
"""Events in one transaction."""


def tell_all(database: Database, session: Session) -> None:
    """Wake the managers that share a PostgreSQL, once the transaction is committed."""
    if not database.is_sqlite:
        session.execute(text(f"NOTIFY {CHANNEL}"))


class Shipment:
    """Carries the events of a run from its file into the database, from wherever it stands there.

    Args:
        database: where to.
        run: the run's id.
        owner: data folder that must own the run; another one's word about it counts no more.
        events: the file, one event a line.
    """

    def __init__(self, database: Database, run: str, owner: str, events: Path) -> None:
        self._database = database
        self._run = run
        self._owner = owner
        self._events = events
        self._offset = 0
        self._number = 0

    def ship(self, renew: bool = False) -> str | None:
        """Carry over what is new.

        Args:
            renew: whether to write down that the supervisor lives, even without any event.

        Returns:
            The run's state, with `canceling` once somebody wants it canceled; None if the run
            is no longer the owner's, or has ended.
        """
        while True:
            rows, offset = self._read()
            if not rows and not renew:
                with self._database.reading() as session:
                    found = session.execute(select(Run.state, Run.owner).where(Run.id == self._run)).one_or_none()
                return found.state if found and found.owner == self._owner and found.state in ACTIVE else None
            with self._database.writing() as session:
                run = session.get(Run, self._run, with_for_update=True)
                if run is None or run.owner != self._owner or run.state not in ACTIVE:
                    return None
                if rows:
                    insert = self._database.insert(RunEvent).on_conflict_do_nothing()
                    session.execute(insert, rows)
                    run.events = max(run.events, rows[-1]["number"])
                run.lease_until = now() + LEASE
                if run.state == "starting":
                    run.state = "running"
                state = run.state
            self._offset, self._number = offset, self._number + len(rows)
            if len(rows) < BATCH:
                return state

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the next events as rows, and the place in the file behind them; half a line is none yet."""
        rows: list[dict[str, Any]] = []
        offset = self._offset
        try:
            file = self._events.open("rb")
        except FileNotFoundError:
            return rows, offset
        with file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n") or len(rows) == BATCH:
                    break
                offset += len(line)
                rows.append({"run": self._run, "number": self._number + len(rows) + 1, **json.loads(line)})
        return rows, offset


def finish(database: Database, identity: str, state: str, reason: str, result: dict[str, Any]) -> bool:
    """End a run in a transaction of its own; return whether it had not ended before."""
    with database.writing() as session:
        run = session.get(Run, identity, with_for_update=True)
        if run is None or run.state in ENDED:
            return False
        end(database, session, run, state, reason, result)
    return True


def end(database: Database, session: Session, run: Run, state: str, reason: str, result: dict[str, Any]) -> None:
    """End a run, with those folded into it: state, last event with the total, locks.

    The caller holds the run's row for update and knows that it has not ended.
    """
    if run.cancel_by and state.startswith("cancel"):
        reason = f"Canceled by {run.cancel_by}. {reason}".strip()
    total = run.events + 1
    data = {"state": state, "reason": reason, "total": total}
    session.add(RunEvent(run=run.id, number=total, at=now(), kind="run_ended", station=None, data=data))
    session.execute(delete(RunLock).where(RunLock.run == run.id))
    run.state, run.reason, run.result, run.events, run.ended_at = state, reason, result, total, now()
    for folded in session.scalars(select(Run).where(Run.folded_into == run.id, Run.state.not_in(ENDED))):
        stations = {name: entry for name, entry in result.get("stations", {}).items() if name in folded.stations}
        folded.state, folded.reason, folded.ended_at = state, reason, run.ended_at
        folded.result = {**result, "stations": stations}
        folded.started_at, folded.revision, folded.dirty = run.started_at, run.revision, run.dirty
    tell_all(database, session)


def give_back(database: Database, identity: str) -> None:
    """Put a run into the queue again whose supervisor never began; one that was to be canceled is canceled."""
    with database.writing() as session:
        run = session.get(Run, identity, with_for_update=True)
        if run is None or run.state not in ACTIVE:
            return
        if run.cancel_by:
            end(database, session, run, "canceled", "Before it began.", {})
            return
        session.execute(delete(RunLock).where(RunLock.run == identity))
        session.execute(
            update(Run)
            .where(Run.id == identity)
            .values(state="queued", owner=None, lease_until=None, started_at=None, result={})
        )
        tell_all(database, session)


def complete(database: Database, folder: RunFolder, owner: str) -> bool:
    """Carry all that a folder has into the database: the events, then the result. Any number of times."""
    result = folder.result()
    if result is None:
        raise ValueError("the run has no result yet")
    Shipment(database, folder.run, owner, folder.events).ship()
    return finish(database, folder.run, result["state"], result["reason"], result["result"])
