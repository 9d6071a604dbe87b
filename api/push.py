"""Push: a station that is not as wanted gets a run of its own accord, if the event's setting says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from api.clock import now
from api.inventory import Finding, Snapshot
from api.problems import Problem
from api.push_rules import (
    Memory,
    Outcome,
    after_end,
    after_hello,
    after_submit,
    by_a_person,
    needs_push,
    outcome_of,
)
from api.tables import Registration, Run, Station

if TYPE_CHECKING:
    from api.manager import Manager
    from api.station_view import StationView

log = logging.getLogger("stationmaster.push")

AUTHOR = "push"
KIND = "push"
"""How its entries on a station's record are called."""
COLLECT = 1.0
"""Seconds without a further station before runs are started: a room that boots at once is one run."""
LONGEST_COLLECT = 4.0
"""Seconds that the first of them waits at most: less than an interval of hellos."""
CATCH_UP = 5.0
"""Seconds between two looks for runs that ended elsewhere, on another manager of the same database."""
A_PERSONS = frozenset({"apply", "provision", "start"})
"""Actions of a person that may have mended what a push failed at."""


class Push:
    """Part of the manager that starts runs by itself.

    Args:
        manager: with inventory, registry and runs.
        clock: what time it is, in seconds since 1970.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._inventory = manager.inventory
        self._registry = manager.registry
        self._runs = manager.runs
        self._database = manager.database
        self._interval = manager.settings.hello_interval
        self._memory: dict[str, Memory] = {}
        self._due: dict[str, float] = {}
        self._last_due = 0.0
        self._refused: dict[str, str] = {}
        self._caught_up = 0.0
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="push", daemon=True)
        self._registry.subscribe(self.heard)
        self._inventory.subscribe(self.edited)
        self._inventory.subscribe_refused(self.refused)
        self._runs.subscribe(self.ended)

    def start(self) -> None:
        """Begin, knowing what became of earlier pushes."""
        self.remember()
        self._thread.start()

    def stop(self) -> None:
        """End; runs go on."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(4)

    def remember(self) -> None:
        """Read the outcomes of earlier pushes from the stations' records, and the runs under way."""
        query = (
            select(Station.name, Registration.at, Registration.result)
            .join(Registration, Registration.station == Station.id)
            .where(Registration.kind == KIND, Station.name.is_not(None))
            .order_by(Registration.id)
        )
        with self._database.reading() as session:
            records = session.execute(query).all()
            under_way = session.scalars(select(Run).where(Run.ended_at.is_(None), Run.author == AUTHOR)).all()
        with self._lock:
            for name, at, result in records:
                if name is not None and result.get("hash"):
                    known = Memory(hash=result["hash"], attempts=1)
                    self._memory[name] = after_end(known, Outcome(result["outcome"]), at)
            for run in under_way:
                for name in run.stations:
                    self._memory[name] = after_submit(Memory(), self._inventory.wanted_of(name) or "", run.id)

    def heard(self, view: StationView) -> None:
        """Take a hello; called by the registry, so it only looks and remembers."""
        self._consider(view, self._clock())

    def _consider(self, view: StationView, at: float) -> None:
        name = view.name
        if name is None:
            return
        wanted = self._inventory.wanted_of(name)
        with self._lock:
            before = self._memory.get(name, Memory())
            memory = after_hello(before, view.said)
            if memory is not before:
                self._memory[name] = memory
            if name in self._due or needs_push(view, wanted, memory, at, self._interval) is None:
                return
            self._due[name] = at
            self._last_due = at
        self._wake.set()

    def edited(self, snapshot: Snapshot) -> None:
        """Take a new state of the inventory; only when all its wanted hashes are known."""
        if len(self._inventory.wanted()) < len(snapshot.event.stations):
            return
        self._refused.clear()
        at = self._clock()
        for view in self._registry.views():
            self._consider(view, at)
        with self._lock:
            self._last_due = 0.0  # all that the edit concerns is known at once: nothing to wait for
        self._wake.set()

    def refused(self, findings: list[Finding]) -> None:
        """Write findings of a state that is not used onto the records of the stations that they name."""
        for finding in findings:
            for name in finding["stations"]:
                text = f"{finding['error']} {finding['message']}"
                if self._refused.get(name) != text and self._registry.view(name) is not None:
                    self._refused[name] = text
                    self._registry.note(name, KIND, {"outcome": str(Outcome.REFUSED), "error": finding})

    def ended(self, run: Run) -> None:
        """Take the end of a run, whoever asked for it."""
        at = run.ended_at or self._clock()
        if (run.parameters or {}).get("dry_run") or run.action not in A_PERSONS:
            return
        notes: list[tuple[str, dict[str, Any]]] = []
        with self._lock:
            for name in run.stations:
                memory = self._memory.get(name, Memory())
                outcome, error = outcome_of(run.state, run.result, name)
                if memory.run == run.id:
                    self._memory[name] = after_end(memory, outcome, at)
                    notes.append((name, _record(run, memory.hash, outcome, error)))
                elif run.author != AUTHOR:
                    applied = run.action == "apply"
                    entry = (run.result.get("stations") or {}).get(name) or {}
                    hashed = (entry.get("apply") or {}).get("wanted") or self._inventory.wanted_of(name)
                    self._memory[name] = by_a_person(hashed, outcome if applied else None, at)
        for name, result in notes:
            self._registry.note(name, KIND, result)

    def step(self, at: float) -> None:
        """Start the runs that are due, and look for runs of which the end was not told."""
        if at - self._caught_up >= CATCH_UP:
            self._caught_up = at
            self._catch_up()
        with self._lock:
            if not self._due:
                return
            oldest = min(self._due.values())
            if at - self._last_due < COLLECT and at - oldest < LONGEST_COLLECT:
                return
            names, self._due = list(self._due), {}
        chosen = self._still_needed(names, at)
        for target, stations in self._grouped(chosen):
            self._submit(target, stations, at)

    def _still_needed(self, names: Iterable[str], at: float) -> list[str]:
        with self._database.reading() as session:
            runs = session.scalars(select(Run.stations).where(Run.ended_at.is_(None))).all()
        busy = {name for stations in runs for name in stations}
        chosen = []
        for name in names:
            # a station that a run has, or waits for, says hello after it and is looked at then
            view = None if name in busy else self._registry.view(name)
            if view is not None:
                wanted, memory = self._inventory.wanted_of(name), self._memory.get(name, Memory())
                if needs_push(view, wanted, memory, at, self._interval) is not None:
                    chosen.append(name)
        return chosen

    def _grouped(self, names: list[str]) -> list[tuple[dict[str, str], list[str]]]:
        snapshot = self._inventory.current()
        rooms: dict[str | None, list[str]] = {}
        for name in names:
            rooms.setdefault(snapshot.room_of(name), []).append(name)
        groups: list[tuple[dict[str, str], list[str]]] = []
        for room, members in rooms.items():
            if room is not None and len(members) > 1:
                groups.append(({"room": room}, sorted(members)))
            else:
                groups += [({"station": name}, [name]) for name in sorted(members)]
        return groups

    def _submit(self, target: dict[str, str], stations: list[str], at: float) -> None:
        from api.run_request import RunRequest

        wanted = {name: self._inventory.wanted_of(name) for name in stations}
        try:
            request = RunRequest.model_validate({"action": "apply", "target": target})
            run = self._runs.submit(request, AUTHOR, stations=stations, automatic=True)
        except Problem as problem:
            log.warning("no run for %s: %s", ", ".join(stations), problem)
            with self._lock:
                for name in stations:
                    self._memory[name] = after_end(self._memory.get(name, Memory()), Outcome.UNKNOWN, at)
            return
        log.info("run %s for %s, which are not as wanted", run.id, ", ".join(stations))
        with self._lock:
            for name in stations:
                self._memory[name] = after_submit(self._memory.get(name, Memory()), wanted[name] or "", run.id)

    def _catch_up(self) -> None:
        with self._lock:
            waiting = {memory.run for memory in self._memory.values() if memory.run is not None}
        if not waiting:
            return
        with self._database.reading() as session:
            rows = session.scalars(select(Run).where(Run.id.in_(waiting))).all()
            session.expunge_all()
        for run in rows:
            if run.ended_at is not None:
                self.ended(run)
        for lost in waiting - {run.id for run in rows}:
            with self._lock:  # removed by retention
                for name, memory in self._memory.items():
                    if memory.run == lost:
                        self._memory[name] = after_end(memory, Outcome.UNKNOWN, self._clock())

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(COLLECT / 4 if self._due else CATCH_UP)
            self._wake.clear()
            try:
                self.step(self._clock())
            except Exception:
                log.exception("push failed; it tries again")


def _record(run: Run, wanted: str | None, outcome: Outcome, error: dict[str, Any] | None) -> dict[str, Any]:
    return {"outcome": str(outcome), "hash": wanted, "run": run.id, "error": error}
