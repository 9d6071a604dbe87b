"""Which queued run begins now: all its stations free, a place free, and nobody overtaken who waits for one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from api.clock import now
from api.database import Database
from api.run_fold import names
from api.run_states import ACTIVE, LEASE, QUEUED
from api.run_store import end
from api.tables import Lock, Run, RunLock

MUTEX = "dispatch"


@dataclass(frozen=True)
class Terms:
    """What a dispatch goes by: who asks, how many runs it may have, and what it knows of the stations."""

    owner: str
    at_once: int
    wait_timeout: float
    keys: Callable[[Iterable[str]], set[str]]
    """Station names to the keys of their locks: the names, and the ids of the machines that have them."""
    in_order: Callable[[Iterable[str]], set[str]]
    """Which of some stations need no apply."""
    revision: Callable[[], tuple[str, bool]]
    """Of the inventory, and whether it has changes that are not committed."""


def make_mutex(database: Database) -> None:
    """Make the row that the mutex is, once, in a transaction of its own: one that is not committed blocks others."""
    with database.writing() as session:
        session.execute(database.insert(Lock).values(name=MUTEX).on_conflict_do_nothing())


def take_mutex(database: Database, session: Session, wait: bool) -> bool:
    """Be the only one that changes the queue, until the session's end; SQLite's write lock is that already.

    Args:
        database: whose session it is.
        session: in its transaction.
        wait: whether to wait for another process, or return False.
    """
    if database.is_sqlite:
        return True
    asked = select(Lock).where(Lock.name == MUTEX).with_for_update(skip_locked=not wait)
    return session.scalar(asked) is not None


def waiting(session: Session) -> list[Run]:
    """Return the queue, first come first."""
    asked = select(Run).where(Run.state.in_(QUEUED), Run.folded_into.is_(None)).order_by(Run.created_at, Run.id)
    return list(session.scalars(asked))


def dispatch(session: Session, terms: Terms) -> tuple[list[Run], list[Run]]:
    """Begin what can begin.

    The session's transaction holds the mutex.

    Returns:
        The runs that got their stations and need a supervisor, and those that ended here.
    """
    begun: list[Run] = []
    ended: list[Run] = []
    taken = {lock.station: lock.run for lock in session.scalars(select(RunLock))}
    asked = select(func.count()).select_from(Run).where(Run.owner == terms.owner, Run.state.in_(ACTIVE))
    places = terms.at_once - (session.scalar(asked) or 0)
    awaited: dict[str, str] = {}
    for run in waiting(session):
        if now() - run.created_at > terms.wait_timeout:
            reason = f"Waited for {terms.wait_timeout:g} s. {run.reason}".strip()
            end(session, run, "timed_out", reason, {})
            ended.append(run)
            continue
        keys = terms.keys(run.stations)
        busy = {key: taken.get(key) or awaited[key] for key in keys if key in taken or key in awaited}
        skipped = [] if busy else _in_order(run, terms)
        if not busy and len(skipped) == len(run.stations):
            _begin(session, run, terms, skipped)
            end(session, run, "succeeded", "All stations are in order.", run.result)
            ended.append(run)
        elif not busy and places > 0:
            _begin(session, run, terms, skipped)
            keys = terms.keys(set(run.stations) - set(skipped))
            session.execute(insert(RunLock), [{"station": key, "run": run.id} for key in sorted(keys)])
            run.state, run.owner, run.lease_until = "starting", terms.owner, now() + LEASE
            taken.update(dict.fromkeys(keys, run.id))
            places -= 1
            begun.append(run)
        else:
            awaited.update(dict.fromkeys(keys - awaited.keys(), run.id))
            _wait(run, busy)
    return begun, ended


def _in_order(run: Run, terms: Terms) -> list[str]:
    forced = run.parameters.get("force") or run.parameters.get("interrupt") or run.parameters.get("dry_run")
    if run.action != "apply" or forced or run.retry_of:
        return []
    in_order = terms.in_order(run.stations)
    return [name for name in run.stations if name in in_order]


def _begin(session: Session, run: Run, terms: Terms, skipped: list[str]) -> None:
    run.revision, run.dirty = terms.revision()
    run.started_at, run.reason = now(), ""
    told: Mapping[str, str] = {"state": "skipped", "reason": "in order by its hello"}
    run.result = {"stations": {name: dict(told) for name in skipped}} if skipped else {}


def _wait(run: Run, busy: dict[str, str]) -> None:
    if busy:
        runs = names(set(busy.values()), 2)
        reason = f"Waits for {names(key for key in busy if not key.startswith('id:'))}: run {runs}."
    else:
        reason = "Waits for a place."
    if (run.state, run.reason) != ("waiting", reason):
        run.state, run.reason = "waiting", reason
