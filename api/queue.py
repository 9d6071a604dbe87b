"""The queue of runs: takes requests, folds them, gives stations to runs, and looks after those under way."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from api import run_start
from api.clock import now
from api.problems import Problem, not_found
from api.run_adopt import Adoption
from api.run_dispatch import Terms, dispatch, make_mutex, take_mutex, waiting
from api.run_fold import absorbed, body_hash, fold_into
from api.run_folder import RunFolder
from api.run_listen import Listener
from api.run_request import RunRequest
from api.run_sql import InSession
from api.run_states import ENDED, QUEUED, new_id
from api.run_store import end, finish, tell_all
from api.tables import Run, RunKey

log = logging.getLogger("stationmaster.runs")
IDLE = 1.0
"""Seconds between two looks at the queue when nothing wakes it."""
BUSY = 0.05
"""The same while another process dispatches."""
FOLLOWING = 0.25
"""The same while a run is followed whose supervisor is not a child of this process."""


class Queue:
    """Part of the manager that everything about runs goes through.

    Args:
        manager: with `inventory` and `registry`, before the first run is asked for.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._database = manager.database
        self._settings = manager.settings
        make_mutex(self._database)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._callbacks: list[Callable[[Run], None]] = []
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)
        self._listener = Listener(self._database, self._wake.set)
        self._adoption = Adoption(
            self._database, manager.identity, self.folder, self._children, self._start_process, self._settings.run_units
        )

    def folder(self, run: str) -> RunFolder:
        """Return the folder of a run on this host."""
        return RunFolder(self._settings.data / "runs" / run)

    def start(self) -> None:
        """Take up what an earlier process left, then work."""
        self._listener.start()
        self._thread.start()

    def stop(self) -> None:
        """End; the supervisors of runs go on."""
        self._stopping.set()
        self._wake.set()
        self._listener.stop()
        if self._thread.ident is not None:
            self._thread.join(4)

    def subscribe(self, callback: Callable[[Run], None]) -> None:
        """Have a function called, in the queue's thread, with each run that ended here; it must not block."""
        self._callbacks.append(callback)

    def resolve(self, request: RunRequest) -> list[str]:
        """Return the stations that a request means, never none; Problem 422 otherwise."""
        stations = sorted(set(self._manager.inventory.resolve(request.target, request.action)))
        if request.role is not None:
            known = self._manager.inventory.current().event.stations
            stations = [name for name in stations if name in known and request.role in known[name].roles]
        if not stations:
            raise Problem(
                422,
                "NoStations",
                f"{request.target.named()} has no station{f' with the role {request.role!r}' if request.role else ''}.",
                "See GET /v1/rooms for what there is.",
            )
        return stations

    def submit(
        self,
        request: RunRequest,
        author: str,
        *,
        key: str | None = None,
        session: Session | None = None,
        stations: list[str] | None = None,
        retry_of: str | None = None,
        automatic: bool = False,
        allow: Callable[[list[str]], None] = lambda _stations: None,
    ) -> Run:
        """Put a run into the queue, or find the one that does it already.

        Args:
            request: what to do.
            author: who asks.
            key: the author's name for this request: sent again, it is answered with the same run.
            session: whose transaction the run becomes part of; without one it has its own.
            stations: to work on, if not all that the request means.
            retry_of: the run that this one repeats for some of its stations.
            automatic: whether no person asked: a station where the same bundle failed before refuses such a run.
            allow: raises what forbids the author these stations; asked before anything is queued.

        Returns:
            The run's row: a new one, or a queued one that is equal or larger.

        Raises:
            Problem: 422 for a target without stations, 409 for a key that named another request.
        """
        if session is None:
            with self._database.writing() as own:
                more: dict[str, Any] = {
                    "stations": stations,
                    "retry_of": retry_of,
                    "automatic": automatic,
                    "allow": allow,
                }
                return self.submit(request, author, key=key, session=own, **more)
        asked = hashlib.sha256(f"{request.model_dump_json()} {retry_of}".encode()).hexdigest()
        name = hashlib.sha256(f"{author}\n{key}".encode()).hexdigest() if key is not None else None
        take_mutex(self._database, session, wait=True)
        if name is not None:
            known = session.get(RunKey, name)
            if known is not None:
                return self._known(session, known, asked)
        names = stations or self.resolve(request)
        allow(names)
        parameters = {**request.parameters(), **({"automatic": True} if automatic else {})}
        new = Run(
            id=new_id(), action=request.action, target=request.target.named(), parameters=parameters, stations=names,
            state="queued", reason="", author=author[:128], body_hash=body_hash(request.action, parameters, names),
            retry_of=retry_of, folded_into=None, revision=None, dirty=None, created_at=now(), started_at=None,
            ended_at=None, cancel_by=None, owner=None, lease_until=None, events=0, result={},
        )  # fmt: skip
        queue = waiting(session)
        run = fold_into(queue, new)
        if run is None:
            session.add(new)
            session.flush()
            for smaller in absorbed(queue, new):
                smaller.folded_into, smaller.state = new.id, "waiting"
                smaller.reason = f"Is part of run {new.id}."
                for part in session.scalars(select(Run).where(Run.folded_into == smaller.id)):
                    part.folded_into, part.reason = new.id, smaller.reason
            run = new
        if name is not None:
            session.add(RunKey(key=name, body_hash=asked, run=run.id))
        self._changed(session)
        return run

    def _known(self, session: Session, known: RunKey, asked: str) -> Run:
        if known.body_hash != asked:
            raise Problem(
                409,
                "KeyUsed",
                "This Idempotency-Key named another request before.",
                "Send the first request again as it was, or take a new key.",
            )
        run = session.get(Run, known.run)
        assert run is not None  # noqa: S101 - the key's row goes with the run's
        return run

    def cancel(self, identity: str, author: str, session: Session) -> Run:
        """Have a run canceled: at once while it is queued, else by its supervisor.

        Raises:
            Problem: 404 for an unknown run, 409 for one that has ended.
        """
        take_mutex(self._database, session, wait=True)
        run = session.get(Run, identity, with_for_update=True)
        if run is None:
            raise not_found("run", identity)
        if run.state in ENDED:
            raise Problem(409, "RunEnded", f"The run has ended: {run.state}.", "Nothing is left to cancel.")
        run.cancel_by = run.cancel_by or author[:128]
        if run.folded_into is not None:
            run.folded_into = None
        if run.state in QUEUED:
            end(session, run, "canceled", "", {})
        else:
            run.state = "canceling"
        self._changed(session)
        return run

    def _changed(self, session: Session) -> None:
        tell_all(InSession(session))
        event.listen(session, "after_commit", lambda _session: self._wake.set(), once=True)

    def _loop(self) -> None:
        self._adoption.tidy()
        while not self._stopping.is_set():
            self._wake.clear()
            pause = IDLE
            try:
                for identity in self._adoption.look():
                    self._tell(identity)
                busy = not self._dispatch()
                pause = BUSY if busy else FOLLOWING if self._adoption.following else IDLE
            except Exception:
                log.exception("the queue failed; it tries again")
            self._wake.wait(pause)
        self._adoption.close()

    def _dispatch(self) -> bool:
        """Begin what can begin; return False while another process does."""
        with self._database.reading() as session:
            if not waiting(session):
                return True
        try:
            snapshot = self._manager.inventory.current()
        except Problem as problem:
            log.warning("runs wait: %s", problem)
            return True
        inventory, registry = self._manager.inventory, self._manager.registry
        # between an edit and its check the hashes are those from before it: then nobody is left out
        wanted = inventory.wanted() if inventory.is_settled() else {}
        ids = registry.ids()

        def keys(stations: Iterable[str]) -> set[str]:
            names = set(stations)
            return names | {f"id:{ids[name]}" for name in names if name in ids}

        def in_order(stations: Iterable[str]) -> set[str]:
            return set(registry.all_in_order({name: wanted[name] for name in stations if name in wanted}))

        terms = Terms(
            self._manager.identity, self._settings.runs_at_once, self._settings.wait_timeout, keys, in_order,
            lambda: (snapshot.revision, snapshot.dirty),
        )  # fmt: skip
        with self._database.writing() as session:
            if not take_mutex(self._database, session, wait=False):
                return False
            begun, ended = dispatch(session, terms)
        for run in ended:
            self._tell(run.id)
        for run in begun:
            self._adoption.own(run.id)
            self._begin(run, snapshot.path)
        return True

    def _begin(self, run: Run, inventory: Path) -> None:
        folder = self.folder(run.id)
        known_hosts = self._manager.registry.known_hosts
        try:
            folder.prepare(run_start.job_of(run, self._settings, self._manager.identity, inventory, known_hosts))
            self._start_process(folder, 0)
        except OSError as error:
            log.exception("run %s cannot be started", run.id)
            with self._database.writing() as session:
                reason = f"Its supervisor could not be started: {error}"
                finish(InSession(session), run.id, "incomplete", reason, {})

    def _start_process(self, folder: RunFolder, attempt: int) -> None:
        child = run_start.start(folder, self._settings.run_units, attempt)
        self._children[folder.run] = child
        threading.Thread(target=self._reap, args=(folder.run, child), daemon=True).start()

    def _reap(self, identity: str, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        self._children.pop(identity, None)
        self._wake.set()

    def _tell(self, identity: str) -> None:
        with self._database.reading() as session:
            run = session.get(Run, identity)
            told = [run, *session.scalars(select(Run).where(Run.folded_into == identity))] if run else []
            session.expunge_all()
        for one in (one for one in told if one.state in ENDED):
            for callback in self._callbacks:
                try:
                    callback(one)
                except Exception:
                    log.exception("a subscriber failed at run %s", one.id)
