"""What a run's supervisor, and whoever adopts the run, write into the database: events, the lease, the end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.run_folder import RunFolder
from api.run_sql import Driver, InSession, Statements
from api.run_states import ACTIVE, CHANNEL, ENDED, LEASE

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BATCH = 500
"""Events in one transaction."""
EVENT = (
    "INSERT INTO run_events (run, number, at, kind, station, data) VALUES (:run, :number, :at, :kind, :station, :data) "
    "ON CONFLICT DO NOTHING"
)


def tell_all(statements: Statements) -> None:
    """Wake the managers that share a PostgreSQL, once the transaction is committed."""
    if not statements.is_sqlite:
        statements.execute(f"NOTIFY {CHANNEL}", {})


def _locking(statements: Statements) -> str:
    return "" if statements.is_sqlite else " FOR UPDATE"


class Shipment:
    """Carries the events of a run from its file into the database, from wherever it stands there.

    Args:
        driver: of the database.
        run: the run's id.
        owner: data folder that must own the run; another one's word about it counts no more.
        events: the file, one event a line.
    """

    def __init__(self, driver: Driver, run: str, owner: str, events: Path) -> None:
        self._driver = driver
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
            The run's state, `canceling` once somebody wants it canceled; None if the run is no
            longer the owner's, or has ended.
        """
        key = {"run": self._run}
        while True:
            rows, offset = self._read()
            asked = "SELECT state, owner FROM runs WHERE id = :run"
            if not rows and not renew:
                return self._state(self._driver.look(asked, key))
            with self._driver.transaction() as statements:
                state = self._state(statements.execute(asked + _locking(statements), key))
                if state is None:
                    return None
                statements.many(EVENT, rows)
                last = self._number + len(rows)
                statements.execute(
                    "UPDATE runs SET lease_until = :until, "
                    "events = CASE WHEN events < :last THEN :last ELSE events END, "
                    "state = CASE WHEN state = 'starting' THEN 'running' ELSE state END WHERE id = :run",
                    {**key, "until": time.time() + LEASE, "last": last},
                )
            self._offset, self._number = offset, last
            if len(rows) < BATCH:
                return "running" if state == "starting" else state

    def _state(self, found: list[Any]) -> str | None:
        state, owner = found[0] if found else (None, None)
        return state if owner == self._owner and state in ACTIVE else None

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
                event = json.loads(line)
                event["data"] = json.dumps(event["data"]).replace("\\u0000", "")  # PostgreSQL has no such character
                rows.append({"run": self._run, "number": self._number + len(rows) + 1, **event})
        return rows, offset


def finish(statements: Statements, run: str, state: str, reason: str, result: dict[str, Any]) -> bool:
    """End a run, with those folded into it: state, last event with the total, locks.

    Args:
        statements: the transaction that it is done in.
        run: the run's id.
        state: one of `ENDED`.
        reason: why, in a sentence; empty for a success.
        result: of the whole run.

    Returns:
        Whether the run was there and had not ended before.
    """
    asked = "SELECT state, events, cancel_by, started_at, revision, dirty FROM runs WHERE id = :run"
    found = statements.execute(asked + _locking(statements), {"run": run})
    if not found or found[0][0] in ENDED:
        return False
    _, events, cancel_by, started_at, revision, dirty = found[0]
    if cancel_by and state.startswith("cancel"):
        reason = f"Canceled by {cancel_by}. {reason}".strip()
    reason = reason.replace("\0", "")
    at, total = time.time(), events + 1
    data = json.dumps({"state": state, "reason": reason, "total": total})
    last = {"run": run, "number": total, "at": at, "kind": "run_ended", "station": None, "data": data}
    statements.execute(EVENT, last)
    statements.execute("DELETE FROM run_locks WHERE run = :run", {"run": run})
    change = (
        "UPDATE runs SET state = :state, reason = :reason, ended_at = :at, result = :result, events = :events, "
        "started_at = :started_at, revision = :revision, dirty = :dirty WHERE id = :run"
    )
    told = {
        "state": state, "reason": reason, "at": at, "started_at": started_at, "revision": revision, "dirty": dirty,
    }  # fmt: skip
    statements.execute(change, {**told, "run": run, "result": _json(result), "events": total})
    parts = "SELECT id, stations FROM runs WHERE folded_into = :run AND ended_at IS NULL"
    for part, stations in statements.execute(parts, {"run": run}):
        names = json.loads(stations) if isinstance(stations, str) else stations
        own = {name: entry for name, entry in result.get("stations", {}).items() if name in names}
        statements.execute(change, {**told, "run": part, "result": _json({**result, "stations": own}), "events": 0})
    tell_all(statements)
    return True


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data).replace("\\u0000", "")


def end(session: Session, run: Any, state: str, reason: str, result: dict[str, Any]) -> None:
    """End a run whose row the session has; it is read again."""
    session.flush()
    finish(InSession(session), run.id, state, reason, result)
    session.refresh(run)


def give_back(statements: Statements, run: str) -> None:
    """Put a run into the queue again whose supervisor never began; one that was to be canceled is canceled."""
    found = statements.execute("SELECT state, cancel_by FROM runs WHERE id = :run" + _locking(statements), {"run": run})
    if not found or found[0][0] not in ACTIVE:
        return
    if found[0][1]:
        finish(statements, run, "canceled", "Before it began.", {})
        return
    statements.execute("DELETE FROM run_locks WHERE run = :run", {"run": run})
    statements.execute(
        "UPDATE runs SET state = 'queued', owner = NULL, lease_until = NULL, started_at = NULL, result = :nothing "
        "WHERE id = :run",
        {"run": run, "nothing": "{}"},
    )
    tell_all(statements)


def complete(driver: Driver, folder: RunFolder, owner: str) -> None:
    """Carry all that a folder has into the database: the events, then the result. Any number of times."""
    result = folder.result()
    if result is None:
        raise ValueError("the run has no result yet")
    if Shipment(driver, folder.run, owner, folder.events).ship() is None:
        return
    with driver.transaction() as statements:
        finish(statements, folder.run, result["state"], result["reason"], result["result"])
