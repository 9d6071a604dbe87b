"""Hellos on their way into the database: all that came while one batch was written are the next one.

A hello is answered after its transaction is durable, so that no crash lets it be sent again.
One commit for many keeps that cheap: what costs is the wait for the disk, not the rows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import select, text

from api.database import Database
from api.problems import Problem
from api.tables import Station

log = logging.getLogger("stationmaster.hello")

Outcome = Literal["taken", "unknown", "rotated", "replay", "left"]
BOOTS_KEPT = 64
"""Boot ids remembered of each station; a hello of an older boot has an old time, too."""
LARGEST_BATCH = 500

GATHER = 0.02
"""Seconds that the first hello of a batch waits for others: a commit costs as much as several hellos."""
ENOUGH = 32
"""Hellos of a batch that wait for no more."""


@dataclass(slots=True)
class Entry:
    """A hello whose signature was right under the station's secret of that number."""

    id: str
    secret_number: int
    boot: str
    counter: int
    at: float
    address: str
    said: str
    """The hello as JSON, for the database."""
    plain: dict[str, Any]
    """The same as plain data."""
    shutdown: bool
    view: Callable[[Entry], None]
    """Called once it is durable, in the writer's thread."""
    loop: asyncio.AbstractEventLoop
    answered: asyncio.Future[Outcome]
    rebooted: bool = field(default=False)


_KNOWN = select(
    Station.id, Station.enrolment, Station.secret_number, Station.boot_id, Station.counter, Station.left_boots
)
# One statement a batch: with one a row, the interpreter's lock would change hands for each of them.
_SQLITE = text("""
UPDATE stations SET
  seen_at = v.value ->> 'at', address = v.value ->> 'address', boot_id = v.value ->> 'boot',
  counter = v.value ->> 'counter', said = v.value ->> 'said', left_boots = v.value ->> 'left_boots',
  rebooted_at = coalesce(v.value ->> 'rebooted_at', rebooted_at), shutdown_at = v.value ->> 'shutdown_at'
FROM json_each(:rows) AS v WHERE stations.id = v.value ->> 'id'
""")
_POSTGRESQL = text("""
UPDATE stations SET
  seen_at = v.at, address = v.address, boot_id = v.boot, counter = v.counter, said = v.said::json,
  left_boots = v.left_boots::json, rebooted_at = coalesce(v.rebooted_at, stations.rebooted_at),
  shutdown_at = v.shutdown_at
FROM json_to_recordset(CAST(:rows AS json)) AS v(
  id text, at double precision, address text, boot text, counter bigint, said text, left_boots text,
  rebooted_at double precision, shutdown_at double precision)
WHERE stations.id = v.id
""")


class HelloWriter:
    """One thread that writes hellos in batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Entry] = []
        self._wake = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="hellos", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what there is, and end."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(4)

    def submit(self, entry: Entry) -> None:
        """Take a hello; its future gets the outcome once it is durable."""
        with self._wake:
            self._waiting.append(entry)
            if len(self._waiting) in (1, ENOUGH):  # to wake it for each would cost more than the hello
                self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._ending)
                self._wake.wait_for(lambda: len(self._waiting) >= ENOUGH or self._ending, GATHER)
                batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            if not batch:
                return
            outcomes: list[Outcome] | Problem
            try:
                outcomes = self._write(batch)
            except Exception:
                log.exception("%d hellos could not be written", len(batch))
                outcomes = Problem(
                    503, "NotStored", "The hello could not be stored.", "Say hello again later.", retryable=True
                )
            _answer(batch, outcomes)
            if isinstance(outcomes, list):
                for entry, outcome in zip(batch, outcomes, strict=True):
                    if outcome == "taken":
                        entry.view(entry)

    def _write(self, batch: list[Entry]) -> list[Outcome]:
        # in the order of ids, so that two managers never wait for each other's rows
        query = _KNOWN.where(Station.id.in_({entry.id for entry in batch})).order_by(Station.id)
        with self._database.writing() as session:
            if not self._database.is_sqlite:
                query = query.with_for_update()
            known = {row[0]: list(row[1:]) for row in session.execute(query)}
            rows: dict[str, dict[str, Any]] = {}
            outcomes = [_judge(known.get(entry.id), entry, rows) for entry in batch]
            if rows:
                statement = _SQLITE if self._database.is_sqlite else _POSTGRESQL
                session.execute(statement, {"rows": json.dumps(list(rows.values()))})
        return outcomes


def _judge(known: list[Any] | None, entry: Entry, rows: dict[str, dict[str, Any]]) -> Outcome:
    """Return what becomes of an entry; a taken one changes `known` and `rows`."""
    if known is None or known[0] != "enrolled":
        return "unknown"
    _, number, boot, counter, left = known
    if number != entry.secret_number:
        return "rotated"
    if entry.boot == boot:
        if entry.counter <= counter:
            return "replay"
    elif entry.boot in left:
        return "left"
    elif boot is not None:
        left = [*left, boot][-BOOTS_KEPT:]
        entry.rebooted = True
    known[2:] = [entry.boot, entry.counter, left]
    before = rows.get(entry.id, {}).get("rebooted_at")
    rows[entry.id] = {
        "id": entry.id,
        "at": entry.at,
        "address": entry.address,
        "boot": entry.boot,
        "counter": entry.counter,
        "said": entry.said,
        "left_boots": json.dumps(left),
        "rebooted_at": entry.at if entry.rebooted else before,
        "shutdown_at": entry.at if entry.shutdown else None,
    }
    return "taken"


def _answer(batch: list[Entry], outcomes: list[Outcome] | Problem) -> None:
    def settle(entries: Iterable[tuple[Entry, Outcome | Problem]]) -> None:
        for entry, outcome in entries:
            if entry.answered.done():
                continue  # the one who asked has gone
            if isinstance(outcome, Problem):
                entry.answered.set_exception(outcome)
            else:
                entry.answered.set_result(outcome)

    told: list[tuple[Entry, Outcome | Problem]] = (
        [(entry, outcomes) for entry in batch]
        if isinstance(outcomes, Problem)
        else list(zip(batch, outcomes, strict=True))
    )
    for loop in {id(entry.loop): entry.loop for entry in batch}.values():
        try:
            loop.call_soon_threadsafe(settle, [one for one in told if one[0].loop is loop])
        except RuntimeError:
            log.debug("the loop that waited has ended")
