"""The inventory that is in force: the last state that passed the check, and what it wants of each station."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from api.clock import now
from api.database import Database
from api.inventory_child import Worker
from api.inventory_sources import SourceProblem, State, source_of
from api.inventory_targets import Target, resolve
from api.inventory_worker import Judged, Rendered
from api.problems import Problem
from api.settings import Settings
from api.tables import Run, Wanted
from stationmaster.model import Event

log = logging.getLogger("stationmaster.inventory")

KEPT_REVISIONS = 20
"""Revisions whose wanted hashes stay in the database, to tell what an older one wanted."""

Finding = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """An inventory that passed the check. `event` is without secrets."""

    revision: str
    """Commit id, or `folder:<hash of the contents>` for a folder that is not in git."""
    dirty: bool
    """Whether the folder has changes that are not committed."""
    path: Path
    """What Ansible gets as inventory."""
    event: Event
    state: str
    """Differs from that of every other state, also between two dirty ones of a revision."""
    at: float
    """When it came into force."""
    broadcasters: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Who may send slides and texts, as `api.broadcasters` read it; passwords are hashes."""
    tokens: frozenset[str] = frozenset()
    """Hashes of the tokens by which servers of slides and texts are known."""

    @functools.cached_property
    def _rooms(self) -> dict[str, list[str]]:
        rooms: dict[str, list[str]] = {name: [] for name in self.event.rooms}
        for name, station in self.event.stations.items():
            if station.room is not None:
                rooms[station.room.name].append(name)
        return rooms

    def room_of(self, station: str) -> str | None:
        """Return the group that is a station's room, None for a service or an unknown station."""
        found = self.event.stations.get(station)
        return found.room.name if found and found.room else None

    def stations_of(self, room: str) -> list[str]:
        """Return the names of a room's stations, in the inventory's order; none for an unknown room."""
        return list(self._rooms.get(room, ()))


@dataclass(frozen=True)
class Newest:
    """The newest state, whether or not it can be used; `problem` says why none can be had."""

    revision: str | None = None
    dirty: bool = False
    stations: int = 0
    findings: list[Finding] = field(default_factory=list)
    problem: str | None = None


class Inventory:
    """Part of the manager that follows the inventory.

    Args:
        settings: where it is.
        database: where wanted hashes are kept.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._source = source_of(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="inventory", daemon=True)
        self._worker: Worker | None = None
        self._snapshot: Snapshot | None = None
        self._accepted: State | None = None
        self._wanted: dict[str, str] = {}
        self._total = 0
        self._newest = Newest(problem="the inventory is being read")
        self._seen: str | None = None
        self._subscribers: list[Callable[[Snapshot], None]] = []
        self._refusals: list[Callable[[list[Finding]], None]] = []
        self.checking = threading.Lock()
        """Held while a state is judged because somebody asks."""
        self._look_lock = threading.Lock()
        self._checked: tuple[float, Newest] = (0.0, self._newest)

    def start(self) -> None:
        """Begin to follow; the first state is in force a few seconds later."""
        self._thread.start()

    def stop(self) -> None:
        """End, killing a check that runs."""
        self._stop.set()
        worker = self._worker
        if worker is not None:
            worker.end()
        if self._thread.is_alive():
            self._thread.join(4)

    def visuals_tokens(self) -> frozenset[str]:
        """Return the hashes of the tokens that the inventory in force gives to servers of slides and texts."""
        return self._snapshot.tokens if self._snapshot else frozenset()

    def current(self) -> Snapshot:
        """Return the inventory in force.

        Raises:
            Problem: 503 InventoryUnusable, with the findings, while none ever passed the check.
        """
        if self._snapshot is None:
            raise Problem(
                503,
                "InventoryUnusable",
                self._newest.problem or f"The inventory has {len(self._newest.findings)} findings.",
                "Correct what the findings name; without any, wait a few seconds.",
                retryable=True,
                findings=self._newest.findings,
            )
        return self._snapshot

    def wanted(self) -> Mapping[str, str]:
        """Return station to hash of the bundle that the inventory in force wants, as far as rendered."""
        return self._wanted

    def wanted_of(self, station: str) -> str | None:
        """Return the hash of the bundle that the inventory in force wants for a station, None until it is rendered."""
        return self._wanted.get(station)

    def is_settled(self) -> bool:
        """Return whether the wanted hashes are those of the inventory as it is this very moment.

        Between an edit and its check they are not: whoever leaves out work because a station has
        the wanted hash has to ask this first. Takes a millisecond.
        """
        state = self._accepted
        return state is not None and len(self._wanted) >= self._total and self._source.settled(state)

    @property
    def findings(self) -> list[Finding]:
        """Return the findings of the newest state; none if it is in order."""
        return self._newest.findings

    @property
    def newest(self) -> Newest:
        """Return the newest state, in force or not."""
        return self._newest

    @property
    def rendering(self) -> tuple[int, int]:
        """Return of how many stations the wanted hash is known, and how many there are."""
        return len(self._wanted), self._total

    def subscribe(self, callback: Callable[[Snapshot], None]) -> None:
        """Call back when a state comes into force, and again when its wanted hashes are complete."""
        self._subscribers.append(callback)

    def subscribe_refused(self, callback: Callable[[list[Finding]], None]) -> None:
        """Call back with the findings of each new state that does not pass."""
        self._refusals.append(callback)

    def resolve(self, target: Target, action: str) -> list[str]:
        """Return the stations of a target by the inventory in force; see `inventory_targets.resolve`."""
        return resolve(self.current().event, target, action)

    def check(self) -> Newest:
        """Judge the inventory as it is now on disk or at the branch's head; what is in force stays as it is.

        Callers who wait share the check that began after they came.
        """
        came = now()
        with self.checking:
            if self._checked[0] >= came:
                return self._checked[1]
            began = now()
            try:
                state = self._newest_state()
                found = _newest(state, Worker(state.path, None).judged())
            except SourceProblem as problem:
                found = Newest(problem=str(problem))
            self._checked = (began, found)
            return found

    def _follow(self) -> None:
        before = self._source.remembered()
        if before is not None:
            self._guarded(lambda: self._take(before))
        while not self._stop.is_set():
            self._guarded(self._look)
            self._source.wait(self._stop)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SourceProblem as problem:
            if self._newest.problem != str(problem):
                log.warning("the inventory: %s", problem)
            self._newest = dataclasses.replace(self._newest, problem=str(problem))
        except Exception:
            log.exception("the inventory cannot be followed")

    def _newest_state(self) -> State:
        with self._look_lock:  # one fetch, and one making of a work tree, at a time
            return self._source.look()

    def _look(self) -> None:
        state = self._newest_state()
        if state.key == self._seen:
            if self._newest.problem:
                self._newest = dataclasses.replace(self._newest, problem=None)
            return
        self._take(state)

    def _take(self, state: State) -> None:
        self._worker = worker = Worker(state.path, state.revision)
        try:
            for message in worker.messages():
                if self._stop.is_set():
                    worker.end()
                    return
                if isinstance(message, Rendered):
                    self._wanted = {**self._wanted, **message.hashes}
                    continue
                if message.failed:
                    raise SourceProblem(message.failed)
                if not self._source.settled(state):
                    worker.end()
                    return  # it changed while it was read: the next look has the whole of it
                self._judged(state, message)
        finally:
            self._worker = None
        if self._accepted is state:
            if len(self._wanted) < self._total:
                log.error("only %d of %d bundles could be rendered", *self.rendering)
            self._keep(state)

    def _judged(self, state: State, judged: Judged) -> None:
        self._seen = state.key
        self._newest = _newest(state, judged)
        if judged.event is None or judged.findings:
            log.warning("revision %s has %d findings and is not used", state.revision, len(judged.findings))
            for refused in self._refusals:
                self._tell(lambda refused=refused: refused(self._newest.findings))  # type: ignore[misc]
            return
        self._wanted, self._total = {}, judged.stations
        self._accepted = state
        self._snapshot = Snapshot(
            state.revision, state.dirty, state.path, judged.event, state.key, now(), judged.broadcasters, judged.tokens
        )
        self._source.accepted(state)
        log.info("revision %s with %d stations is in force", state.revision, judged.stations)
        self._announce()

    def _announce(self) -> None:
        snapshot = self.current()
        for callback in self._subscribers:
            self._tell(lambda callback=callback: callback(snapshot))  # type: ignore[misc]

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            log.exception("a follower of the inventory failed")

    def _keep(self, state: State) -> None:
        """Write the wanted hashes down, and remove what is old."""
        at, revision = now(), state.revision
        rows = [
            {"station": name, "revision": revision, "hash": value, "at": at} for name, value in self._wanted.items()
        ]
        with self._database.writing() as session:
            session.execute(delete(Wanted).where(Wanted.revision == revision))
            if rows:
                insert = self._database.insert(Wanted)
                changed = {"hash": insert.excluded.hash, "at": insert.excluded.at}
                session.execute(
                    insert.on_conflict_do_update(index_elements=["station", "revision"], set_=changed), rows
                )
            ages = session.execute(select(Wanted.revision, Wanted.at).distinct().order_by(Wanted.at.desc())).all()
            last = list(dict.fromkeys(name for name, _ in ages))
            session.execute(delete(Wanted).where(Wanted.revision.in_(last[KEPT_REVISIONS:])))
            in_use = session.scalars(select(Run.revision).where(Run.ended_at.is_(None))).all()
        self._announce()
        self._source.tidy({revision, *(name for name in in_use if name)})


def _newest(state: State, judged: Judged) -> Newest:
    return Newest(state.revision, state.dirty, judged.stations, judged.findings, judged.failed)
