"""Push: whom it reaches at once, whom it leaves alone, and that none of it goes round for ever."""

import dataclasses
import itertools
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from api.database import Database
from api.problems import Problem
from api.push import AUTHOR, Push
from api.push_rules import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    REPEAT_PAUSE,
    Memory,
    Outcome,
    Reason,
    after_end,
    after_hello,
    after_submit,
    by_a_person,
    needs_push,
    outcome_of,
)
from api.tables import Registration, Run, Station

W, OLD, OTHER = "a" * 64, "b" * 64, "c" * 64
NOW = 1_000_000.0
INTERVAL = 5.0


@dataclasses.dataclass
class View:
    """A station as the registry shows it."""

    name: str | None = "cam"
    enrolment: str = "enrolled"
    seen_at: float | None = NOW
    said: dict = dataclasses.field(default_factory=dict)
    id: str = "id"


def said(applied=OLD, wanted=OLD, shutdown=False, **state):
    """A hello, as far as it matters here."""
    empty = {"held": [], "stopped": {}, "pinned": None, "failed": None, "on_air_until": None}
    return {"applied": applied, "wanted": wanted, "shutdown": shutdown, "state": {**empty, **state}}


HELD = [{"unit": "x", "reason": "on air"}]
STOP = {"x": {"who": "ada", "since": "", "until": None}}
PIN = {"generation": 3, "reason": "", "who": "", "since": ""}


@pytest.mark.parametrize(
    ("view", "memory", "reason"),
    [
        # what starts a run
        (View(said=said(None, None)), Memory(), Reason.NEVER_APPLIED),
        (View(said=said()), Memory(), Reason.NEW_WANTED),
        (View(said=said(OLD, W)), Memory(), Reason.NOT_AS_WANTED),
        (View(said=said(W, OTHER)), Memory(), Reason.NEW_WANTED),
        # a hash that the station has not heard of lets go of what was kept
        (View(said=said(held=HELD)), Memory(), Reason.NEW_WANTED),
        (View(said=said(stopped=STOP)), Memory(), Reason.NEW_WANTED),
        (View(said=said(pinned=PIN)), Memory(), Reason.NEW_WANTED),
        (View(said=said(failed={"hash": OLD})), Memory(), Reason.NEW_WANTED),
        (View(said=said()), Memory(hash=OLD, outcome=Outcome.FAILED), Reason.NEW_WANTED),
        (View(said=said()), Memory(hash=OLD, outcome=Outcome.REFUSED, not_before=NOW + 99), Reason.NEW_WANTED),
        (View(said=said()), Memory(hash=W, outcome=Outcome.UNREACHABLE, not_before=NOW), Reason.NEW_WANTED),
        (View(said=said(None)), Memory(hash=W, outcome=Outcome.SUCCEEDED, reached=True), Reason.NEVER_APPLIED),
        # on air is over, and nothing else holds
        (View(said=said(OLD, W, held=HELD)), Memory(), Reason.NOT_AS_WANTED),
        (View(said=said(OLD, W, held=HELD, on_air_until=NOW - 1)), Memory(), Reason.NOT_AS_WANTED),
        (View(said=said(OLD, W, held=HELD)), Memory(hash=W, outcome=Outcome.HELD), Reason.NOT_AS_WANTED),
        # what does not
        (View(said=said(W, W)), Memory(), None),
        (View(said=said(W, None)), Memory(), None),
        (View(said=said(OLD, W, held=HELD, on_air_until=NOW + 1)), Memory(), None),
        (View(said=said(OLD, W, held=[{"unit": "x", "reason": "masked"}])), Memory(), None),
        (View(said=said(OLD, W, held=HELD, pinned=PIN)), Memory(), None),
        (View(said=said(OLD, W, held=HELD)), Memory(hash=W, outcome=Outcome.HELD, not_before=NOW + 1), None),
        (View(said=said(OLD, W, stopped=STOP)), Memory(), None),
        (View(said=said(OLD, W, pinned=PIN)), Memory(), None),
        (View(said=said(OLD, W, failed={"hash": W})), Memory(), None),
        (View(said=said(OLD, OLD, failed={"hash": W})), Memory(), None),
        (View(said=said()), Memory(run="r"), None),
        (View(said=said()), Memory(hash=W, outcome=Outcome.FAILED), None),
        (View(said=said()), Memory(hash=W, outcome=Outcome.REFUSED), None),
        (View(said=said()), Memory(hash=W, outcome=Outcome.CANCELED), None),
        (View(said=said()), Memory(hash=W, outcome=Outcome.SUCCEEDED), None),
        (View(said=said()), Memory(hash=W, outcome=Outcome.SUCCEEDED, reached=True, not_before=NOW + 1), None),
        (View(said=said()), Memory(hash=OLD, outcome=Outcome.UNREACHABLE, not_before=NOW + 1), None),
        (View(said=said()), Memory(ended_at=NOW), None),
        (View(said=said(), seen_at=NOW - 2 * INTERVAL - 0.1), Memory(), None),
        (View(said=said(), seen_at=None), Memory(), None),
        (View(said=said(shutdown=True)), Memory(), None),
        (View(said={}), Memory(), None),
        (View(said=said(), enrolment="waiting"), Memory(), None),
    ],
)
def test_who_is_pushed_to(view, memory, reason):
    assert needs_push(view, W, memory, NOW, INTERVAL) is reason
    assert needs_push(view, None, memory, NOW, INTERVAL) is None


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        ("succeeded", {"stations": {"cam": {"state": "changed", "apply": {"result": "changed"}}}}, "succeeded"),
        ("succeeded", {"stations": {"cam": {"state": "ok", "apply": {"result": "held"}}}}, "held"),
        ("succeeded", {"stations": {"cam": {"state": "skipped"}}}, "succeeded"),
        ("unreachable", {"stations": {"cam": {"state": "unreachable", "error": {}}}}, "unreachable"),
        ("canceled", {}, "canceled"),
        ("cancel_unverified", {"stations": {"cam": {"state": "unknown"}}}, "canceled"),
        ("canceled", {"stations": {"cam": {"state": "changed"}}}, "succeeded"),
        ("lost", {}, "unknown"),
        ("timed_out", {"stations": {"cam": {"state": "unknown"}}}, "unknown"),
        ("failed", {"stations": {"cam": {"state": "untouched"}, "enc": {"state": "failed"}}}, "unknown"),
    ],
)
def test_what_became_of_it(state, result, expected):
    assert outcome_of(state, result, "cam")[0] == expected


def test_a_refusal_is_typed():
    blocked = {"error": "BlockedRole", "message": "/etc/… blocks encode"}
    result = {"stations": {"cam": {"state": "failed", "apply": {"result": "refused", "error": blocked}}}}
    assert outcome_of("failed", result, "cam") == (Outcome.REFUSED, blocked)
    locked = {"stations": {"cam": {"state": "failed", "apply": {"error": {"error": "Locked", "message": ""}}}}}
    assert outcome_of("failed", locked, "cam")[0] is Outcome.UNKNOWN
    failed = {"unit": "u", "why": "it exits", "journal": ["last words"]}
    result = {"stations": {"cam": {"state": "failed", "apply": {"result": "failed", "failed": failed}}}}
    outcome, error = outcome_of("failed", result, "cam")
    assert outcome is Outcome.FAILED and error["journal"] == ["last words"] and error["message"] == "it exits"
    missing = {"error": "MissingRoleFactory", "message": "no role encod", "stations": ["enc", "cam"]}
    other = {"error": "InvalidConfiguration", "message": "…", "stations": ["enc"]}
    result = {"error": {"findings": [other, missing]}, "stations": {"cam": {"state": "untouched"}}}
    assert outcome_of("failed", result, "cam") == (Outcome.REFUSED, missing)


def test_pauses_grow_and_end_with_a_person():
    memory, pauses = Memory(), []
    for number in range(12):
        memory = after_end(after_submit(memory, f"{number % 2}" * 64, "r"), Outcome.UNREACHABLE, NOW)
        pauses.append(memory.not_before - NOW)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE] and pauses[-1] == LONGEST_PAUSE
    memory = after_end(after_submit(memory, W, "r"), Outcome.SUCCEEDED, NOW)
    assert (memory.misses, memory.not_before) == (0, NOW + REPEAT_PAUSE)
    assert after_hello(memory, said(OLD)) is memory
    memory = after_end(after_submit(after_hello(memory, said(W)), W, "r"), Outcome.SUCCEEDED, NOW)
    assert (memory.attempts, memory.not_before, memory.reached) == (2, NOW + 2 * REPEAT_PAUSE, False)
    assert by_a_person(W, Outcome.REFUSED, NOW).outcome is Outcome.REFUSED
    assert by_a_person(W, None, NOW) == Memory(ended_at=NOW)


class Registry:
    """What push sees of the registry."""

    def __init__(self):
        self.known, self.notes, self.callbacks = {}, [], []

    def subscribe(self, callback):
        self.callbacks.append(callback)

    def view(self, name):
        return self.known.get(name)

    def views(self):
        return list(self.known.values())

    def note(self, name, kind, result):
        self.notes.append((name, kind, result))


class Inventory:
    """What push sees of the inventory: rooms of some stations each, hashes to be changed by the test."""

    def __init__(self, rooms):
        self.rooms = {name: room for room, names in rooms.items() for name in names}
        self.hashes = dict.fromkeys(self.rooms, W)
        self.callbacks, self.refusals = [], []

    def subscribe(self, callback):
        self.callbacks.append(callback)

    def subscribe_refused(self, callback):
        self.refusals.append(callback)

    def wanted(self):
        return self.hashes

    def wanted_of(self, name):
        return self.hashes.get(name)

    def current(self):
        return SimpleNamespace(
            room_of=lambda name: self.rooms.get(name) or None, event=SimpleNamespace(stations=self.rooms)
        )

    def edit(self, **hashes):
        self.hashes = {**self.hashes, **hashes}
        for callback in self.callbacks:
            callback(self.current())


class Runs:
    """What push sees of the queue; `finish` ends a run with what a station answers."""

    def __init__(self, database, clock):
        self.database, self.clock, self.callbacks, self.asked = database, clock, [], []
        self.numbers, self.open = itertools.count(), set()
        self.refuses = False

    def subscribe(self, callback):
        self.callbacks.append(callback)

    def submit(self, request, author, *, stations, automatic, action="apply"):
        if self.refuses:
            raise Problem(503, "InventoryUnusable", "", "")
        target = request["target"] if isinstance(request, dict) else request.target.named()
        run = Run(
            id=f"r{next(self.numbers)}", action=action, target=target, parameters={"automatic": automatic},
            stations=stations, state="queued", author=author, body_hash="", created_at=self.clock(), result={},
        )  # fmt: skip
        with self.database.writing() as session:
            session.add(run)
        self.asked.append(run)
        self.open.add(run.id)
        return run

    def finish(self, run, entry, state="succeeded", tell=True):
        with self.database.writing() as session:
            row = session.get(Run, run.id)
            row.state, row.ended_at = state, self.clock()
            row.result = {"stations": dict.fromkeys(row.stations, entry)}
        self.open.discard(run.id)
        for callback in self.callbacks if tell else ():
            callback(row)


class World:
    """Stations that say hello every 5 s, on a clock of the test's own."""

    def __init__(self, tmp_path, rooms):
        self.at = NOW
        self.database = Database(f"sqlite:///{tmp_path}/manager.db")
        self.database.migrate()
        self.registry, self.inventory = Registry(), Inventory(rooms)
        self.runs = Runs(self.database, lambda: self.at)
        self.push = self.make()

    def make(self):
        manager = SimpleNamespace(
            inventory=self.inventory, registry=self.registry, runs=self.runs, database=self.database,
            settings=SimpleNamespace(hello_interval=INTERVAL),
        )  # fmt: skip
        return Push(manager, lambda: self.at)

    def hello(self, name, said):
        view = View(name=name, seen_at=self.at, said=said)
        self.registry.known[name] = view
        self.registry.callbacks[-1](view)

    def step(self, seconds=0.25):
        self.at += seconds
        self.push.step(self.at)

    def minutes(self, minutes, hellos, ended=None, **how):
        """Let time pass with hellos every 5 s; each run ends within it, with an entry for its stations."""
        for tick in range(round(minutes * 60 / 0.5)):
            if tick % 10 == 0:
                for name, told in hellos.items():
                    self.hello(name, told)
            self.step(0.5)
            for run in self.runs.asked if ended is not None and self.runs.open else ():
                if run.id in self.runs.open:
                    self.runs.finish(run, ended, **how)

    def pushed(self, name="cam"):
        return sum(name in run.stations for run in self.runs.asked)


@pytest.fixture(autouse=True)
def request_model(monkeypatch):
    """The queue's model of a request, while it is not there."""
    try:
        import api.run_request  # noqa: F401
    except ImportError:
        import sys

        model = SimpleNamespace(RunRequest=SimpleNamespace(model_validate=lambda told: told))
        monkeypatch.setitem(sys.modules, "api.run_request", model)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, {"hall_a": ["cam", "enc", "aux"], "hall_b": ["cam-b", "enc-b"], "": ["storage"]})
    yield made
    made.database.close()


OK = {"state": "changed", "apply": {"result": "changed"}}


@pytest.mark.parametrize(
    "told",
    [
        said(OLD, W, held=HELD, on_air_until=9e9),
        said(OLD, W, pinned=PIN),
        said(OLD, W, stopped=STOP),
        said(OLD, W, failed={"hash": W, "at": "", "unit": "u", "why": "w"}),
        said(OLD, OLD, failed={"hash": W, "at": "", "unit": "u", "why": "w"}),
        said(W, W),
    ],
    ids=["held", "pinned", "stopped", "failed", "failed-before-it-was-told", "as-wanted"],
)
def test_ten_minutes_of_hellos_do_not_push(world, told):
    world.minutes(10, {"cam": told}, OK)
    assert world.pushed() == 0


def test_what_waited_for_the_end_of_on_air_is_brought_then_and_not_for_ever(world):
    world.minutes(2, {"cam": said(OLD, W, held=HELD, on_air_until=9e9)}, OK)
    assert world.pushed() == 0
    world.minutes(60, {"cam": said(OLD, W, held=HELD)}, {"state": "changed", "apply": {"result": "held"}})
    assert 1 < world.pushed() < 8


def test_a_new_hash_is_pushed_exactly_once(world):
    world.minutes(0.5, {"cam": said(W, W)}, OK)
    world.inventory.edit(cam=OTHER)
    world.step()
    assert [(run.author, run.target, run.stations) for run in world.runs.asked] == [
        (AUTHOR, {"station": "cam"}, ["cam"])
    ]
    assert world.runs.asked[0].parameters == {"automatic": True}
    world.minutes(5, {"cam": said(W, W)})  # a long run, and hellos all the while
    assert world.pushed() == 1
    world.runs.finish(world.runs.asked[0], OK)
    world.minutes(10, {"cam": said(OTHER, OTHER)}, OK)
    assert world.pushed() == 1
    assert world.registry.notes == [
        ("cam", "push", {"outcome": "succeeded", "hash": OTHER, "run": "r0", "error": None})
    ]


@pytest.mark.parametrize(
    ("entry", "state", "outcome"),
    [
        ({"state": "failed", "apply": {"result": "refused", "error": {"error": "BlockedRole"}}}, "failed", "refused"),
        ({"state": "failed", "apply": {"result": "failed", "failed": {"unit": "u", "why": "w"}}}, "failed", "failed"),
        ({"state": "unknown"}, "canceled", "canceled"),
        (OK, "succeeded", "succeeded"),
    ],
)
def test_whatever_comes_of_it_the_same_hash_is_not_pushed_again(world, entry, state, outcome):
    hellos = {"cam": said(OLD, OLD)}  # the station never says that it came to the hash
    world.minutes(10, hellos, entry, state=state)
    assert world.pushed() == 1
    assert [result["outcome"] for _, _, result in world.registry.notes] == [outcome]
    with world.database.writing() as session:  # nor after the manager was started anew
        session.add(Station(id="s", name="cam", enrolment="enrolled", macs=[], hostname="", host_keys=[], said={},
                            created_at=NOW, asked_at=NOW))  # fmt: skip
        session.flush()
        session.add(Registration(station="s", at=world.at, kind="push", result=world.registry.notes[0][2]))
    world.registry.callbacks.clear()
    world.push = world.make()
    world.push.remember()
    world.minutes(10, hellos, entry, state=state)
    assert world.pushed() == 1
    world.inventory.edit(cam=OTHER)
    world.minutes(1, hellos, entry, state=state)
    assert world.pushed() == 2


def test_after_a_person_tried_it_is_pushed_again_unless_refused_again(world):
    hellos = {"cam": said(OLD, OLD)}
    blocked = {"state": "failed", "apply": {"result": "refused", "error": {"error": "BlockedRole"}, "wanted": W}}
    world.minutes(2, hellos, blocked, state="failed")
    persons = world.runs.submit({"target": {}}, "token x", stations=["cam"], automatic=False, action="provision")
    world.runs.finish(persons, OK)
    world.minutes(2, hellos, blocked, state="failed")
    assert [run.author for run in world.runs.asked] == [AUTHOR, "token x", AUTHOR]
    persons = world.runs.submit({"target": {}}, "token x", stations=["cam"], automatic=False)
    world.runs.finish(persons, blocked, state="failed")
    world.minutes(10, hellos, blocked, state="failed")
    assert [run.author for run in world.runs.asked] == [AUTHOR, "token x", AUTHOR, "token x"]


def test_one_that_cannot_be_reached_is_tried_ever_more_seldom(world):
    world.minutes(60, {"cam": said(OLD, OLD)}, {"state": "unreachable"}, state="unreachable")
    times = [run.created_at - NOW for run in world.runs.asked]
    assert 6 <= len(times) <= 8
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(gaps))


def test_two_that_fight_over_a_station_do_not_wear_it_out(world):
    for _ in range(720):  # an hour: each push arrives, and somebody brings another bundle at once
        world.hello("cam", said(W, W))
        world.step(2.5)
        world.hello("cam", said(OTHER, OTHER))
        world.step(2.5)
        for run in world.runs.asked:
            if run.id in world.runs.open:
                world.runs.finish(run, OK)
    assert world.pushed() < 10


def test_a_room_that_boots_at_once_is_one_run(world):
    world.inventory.rooms = {f"s{number}": f"room{number % 6}" for number in range(60)}
    world.inventory.hashes = dict.fromkeys(world.inventory.rooms, W)
    for number in range(60):
        world.hello(f"s{number}", said(OLD, OLD))
        world.step(2 / 60)
    for _ in range(8):
        world.step()
    assert sorted(run.target["room"] for run in world.runs.asked) == [f"room{number}" for number in range(6)]
    assert all(len(run.stations) == 10 for run in world.runs.asked)
    for _ in range(4):
        for number in range(60):
            world.hello(f"s{number}", said(OLD, OLD))
        world.step(5)
    assert len(world.runs.asked) == 6


def test_only_those_concerned_are_in_a_run(world):
    for name in ("cam", "enc", "aux", "cam-b", "enc-b", "storage"):
        world.hello(name, said(W, W, pinned=PIN if name == "aux" else None))
    world.step(2)
    assert world.runs.asked == []
    world.inventory.edit(cam=OTHER, enc=OTHER, storage=OTHER, **{"cam-b": OTHER})
    world.step()
    asked = {(next(iter(run.target.items())), tuple(run.stations)) for run in world.runs.asked}
    assert asked == {
        (("room", "hall_a"), ("cam", "enc")),
        (("station", "cam-b"), ("cam-b",)),
        (("station", "storage"), ("storage",)),
    }


def test_nothing_is_started_before_all_hashes_are_known(world):
    world.hello("cam", said(W, W))
    world.inventory.hashes = {"cam": OTHER}
    for callback in world.inventory.callbacks:
        callback(world.inventory.current())
    world.step(0.1)
    assert world.runs.asked == []


def test_a_station_that_a_run_has_is_left_to_it(world):
    persons = world.runs.submit({"target": {}}, "token x", stations=["cam"], automatic=False, action="stop")
    world.minutes(1, {"cam": said(OLD, OLD)})
    assert world.pushed() == 1
    world.runs.finish(persons, OK)
    world.minutes(1, {"cam": said(OLD, OLD)})
    assert world.pushed() == 2


def test_the_end_of_a_run_that_nobody_told_is_found(world):
    world.minutes(0.2, {"cam": said(OLD, OLD)})
    world.runs.finish(world.runs.asked[0], OK, tell=False)
    world.minutes(1, {"cam": said(W, W)})
    assert [result["outcome"] for _, _, result in world.registry.notes] == ["succeeded"]
    world.inventory.edit(cam=OTHER)
    world.minutes(0.2, {"cam": said(W, W)})
    with world.database.writing() as session:
        session.delete(session.scalar(select(Run).where(Run.ended_at.is_(None))))
    world.minutes(2, {"cam": said(W, W)})
    assert world.pushed() == 3


def test_a_queue_that_refuses_is_asked_again_later(world):
    world.runs.refuses = True
    world.minutes(0.4, {"cam": said(OLD, OLD)})
    world.runs.refuses = False
    assert world.pushed() == 0
    world.minutes(1, {"cam": said(OLD, OLD)})
    assert world.pushed() == 1


def test_findings_stand_on_the_records_of_their_stations(world):
    world.hello("cam", said(W, W))
    found = {"error": "MissingRoleFactory", "message": "no role encod", "stations": ["cam", "nobody"]}
    for _ in range(2):
        for callback in world.inventory.refusals:
            callback([found])
    assert world.registry.notes == [("cam", "push", {"outcome": "refused", "error": found})]


def test_it_begins_knowing_what_was_and_ends_when_told(world):
    world.runs.submit({"target": {}}, AUTHOR, stations=["enc"], automatic=True)
    world.push.start()
    assert world.push._memory["enc"].run == "r0"
    world.hello("cam", said(OLD, OLD))
    world.push.stop()
    assert not world.push._thread.is_alive()
