"""What stations said over the last hours: which figures, a row a minute, and that nothing ever waits for it."""

import logging
import re
import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy
from sqlalchemy import select

from api import history
from api.database import Database
from api.history import FIGURES, KEPT, MINUTE, PLOTTED, History, read, sampled
from api.settings import Settings
from api.tables import Sample
from tests.api.conftest import CHECKOUT, Api
from tests.api.stations_kit import Inventory, put
from tests.api.test_door import problem

NOON = 1_763_640_000
"""The start of a minute."""
WRITTEN = re.compile(
    r'\b(?:set|put)\(\s*(?:(?:PREFIX|name) \+ )?f?"(?:stationmaster_[a-z]+_|\{name\}_)?([a-z_]+)"', re.ASCII
)
"""A metric that a program of a station writes; its name as it is in a hello."""


class Registry:
    """Whom a history hears of hellos."""

    def subscribe(self, callback):
        self.callback = callback

    def hello(self, name, seen_at, **said):
        self.callback(SimpleNamespace(name=name, seen_at=seen_at, said=said))


class Clock:
    """What time the history thinks it is."""

    def __init__(self):
        self.at = float(NOON)

    def __call__(self):
        return self.at


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("api.history.now", made)
    monkeypatch.setattr("api.registry.now", made)
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/manager.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
def opened(url):
    """Connect to the same database, once for each manager."""
    made = []

    def connect():
        made.append(Database(url))
        made[-1].migrate()
        return made[-1]

    yield connect
    for database in made:
        database.close()


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/manager.db")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def kept(registry, database):
    """A history whose thread is not started."""
    return History(registry, database)


def rows(database):
    with database.reading() as session:
        found = session.execute(select(Sample.station, Sample.at, Sample.figures).order_by(Sample.at, Sample.station))
        return [tuple(row) for row in found]


# --- which figures


def test_the_figures_of_a_station_and_its_instances():
    said = {
        "load": [0.5, 1, 2], "disk": {"free": 41, "size": 64, "hours_left": 11.5}, "clock_offset": -0.002,
        "units": {"a": {"healthy": True}, "b": {"healthy": False}, "c": {}},
        "figures": {
            "ingest/main": {"loudness_lufs:Room": -23.0, "speed": 1, "age": 3, "segments": 9, "warning:slow": 1},
            "upload/cloud": {"backlog": 4.0, "receipts": 7},
        },
    }  # fmt: skip
    assert sampled(said, NOON) == {
        "load": 0.5, "disk_free_bytes": 41.0, "disk_hours_left": 11.5, "clock_offset_seconds": -0.002,
        "units_unhealthy": 2.0, "ingest/main loudness_lufs:Room": -23.0, "ingest/main speed": 1.0,
        "upload/cloud backlog": 4.0,
    }  # fmt: skip
    assert all(type(value) is float for value in sampled(said, NOON).values())


@pytest.mark.parametrize("said", [{}, {"load": [], "disk": None, "units": None, "figures": {}, "clock_offset": None}])
def test_what_a_hello_does_not_tell_is_left_out(said):
    assert sampled(said, NOON) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "7", None, [1]])
def test_what_is_no_finite_number_is_left_out(value):
    said = {"load": [value], "figures": {"ingest/main": {"speed": value, "last_segment_seconds": value}}}
    assert sampled(said, NOON) == {}


@pytest.mark.parametrize(
    ("end", "age"), [(NOON - 3.25, 3.25), (NOON, 0.0), (NOON + 9, 0.0), (0, None), (-1, None)]
)  # fmt: skip
def test_the_end_of_the_last_segment_is_kept_as_its_age(end, age):
    found = sampled({"figures": {"record/main": {"last_segment_seconds": end}}}, NOON)
    assert found == ({} if age is None else {"record/main last_segment_age": age})


def test_of_too_many_figures_the_first_of_the_table_stay():
    jobs = {f"progress_ratio:job-{number}:video": 0.5 for number in range(38)}
    encoders = {f"encode/{number}": {**jobs, "jobs_waiting": 3.0, "speed": 1.0} for number in range(20)}
    found = sampled({"load": [1.0], "figures": encoders}, NOON)
    assert len(found) == FIGURES
    assert "load" in found
    for number in range(20):
        assert {f"encode/{number} speed", f"encode/{number} jobs_waiting"} <= set(found)


def test_what_is_plotted_is_what_programs_write():
    written = {name for path in (CHECKOUT / "station").glob("*.py") for name in WRITTEN.findall(path.read_text())}
    assert set(PLOTTED) <= written
    assert len(PLOTTED) == len(set(PLOTTED))


# --- rows


def test_a_row_a_minute_with_what_was_said_last_in_it(registry, kept, database):
    for second in range(0, 180, 5):
        registry.hello("cam", NOON + second, load=[float(second)])
        if second != 90:
            registry.hello("enc", NOON + second, load=[0.5])
        kept.write(NOON + second)
    kept.write(NOON + 181)
    assert rows(database) == [
        (name, NOON + minute * MINUTE, {"load": value})
        for minute in range(3)
        for name, value in (("cam", 55.0 + minute * 60), ("enc", 0.5))
    ]


def test_a_minute_without_a_hello_has_no_row_and_one_without_a_name_neither(registry, kept, database):
    registry.hello("cam", NOON, load=[1.0])
    registry.hello(None, NOON, load=[1.0])
    registry.hello("cam", NOON + 125, load=[2.0])
    kept.write(NOON + 200)
    assert [(name, at) for name, at, _ in rows(database)] == [("cam", NOON), ("cam", NOON + 120)]


def test_a_minute_under_way_is_not_written_and_a_written_one_not_again(registry, kept, database):
    registry.hello("cam", NOON + 59.9, load=[1.0])
    kept.write(NOON + 59.95)
    assert rows(database) == []
    kept.write(NOON + 60)
    registry.hello("cam", NOON + 59.99, load=[2.0])  # stored late
    kept.write(NOON + 120)
    assert rows(database) == [("cam", NOON, {"load": 1.0})]


def test_a_minute_is_one_transaction(registry, kept, database):
    begun = []
    sqlalchemy.event.listen(database.engine, "commit", lambda _connection: begun.append(1))
    for number in range(200):
        registry.hello(f"station-{number}", NOON, load=[1.0])
    kept.write(NOON + 61)
    assert len(rows(database)) == 200
    assert len(begun) == 1
    kept.write(NOON + 62)
    assert len(begun) == 1, "there was nothing to write"


def test_two_managers_on_one_database_write_the_same_minutes(opened):
    begin, stations = threading.Barrier(2), [f"station-{number}" for number in range(50)]
    databases = [opened(), opened()]
    registries = [Registry(), Registry()]
    histories = [History(*one) for one in zip(registries, databases, strict=True)]

    def work(number):
        for minute in range(20):
            for name in stations if number else reversed(stations):
                registries[number].hello(name, NOON + minute * MINUTE, load=[float(number)])
            begin.wait(30)
            histories[number].write(NOON + (minute + 1) * MINUTE)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one._failed for one in histories] == [False, False]
    found = rows(databases[0])
    assert len({row[:2] for row in found}) == len(found) == 20 * len(stations)


def test_old_rows_go_and_a_restart_keeps_the_others(opened, clock):
    registry, database = Registry(), opened()
    kept = History(registry, database)
    for minute in range((KEPT + 1) * 60 + 6):
        registry.hello("cam", NOON + minute * MINUTE, load=[1.0])
        kept.write(NOON + minute * MINUTE + 61)
    clock.at = NOON + minute * MINUTE + 61
    oldest = rows(database)[0][1]
    assert 0 < clock.at - KEPT * 3600 - oldest <= history.CLEANED
    database.close()
    again = opened()
    History(Registry(), again).write(clock.at)
    assert rows(again)[0][1] >= clock.at - KEPT * 3600
    found = read(again, "cam", KEPT)
    assert len(found["load"]) == KEPT * 60 - 1, "the minute under way is not told yet"
    assert found["load"] == sorted(found["load"])


def test_reading_gives_the_figures_of_one_station_and_time(registry, kept, database, clock):
    for minute in range(60):
        figures = {"speed": 1.0} if minute >= 50 else {}
        registry.hello("cam", NOON + minute * MINUTE, load=[float(minute)], figures={"ingest/main": figures})
        registry.hello("enc", NOON + minute * MINUTE, load=[7.0])
    kept.write(NOON + 3600)
    clock.at = NOON + 3600.0
    found = read(database, "cam", 0.5)
    assert found["load"] == [(NOON + minute * MINUTE, float(minute)) for minute in range(30, 60)]
    assert found["ingest/main speed"] == [(NOON + minute * MINUTE, 1.0) for minute in range(50, 60)]
    assert read(database, "nobody", KEPT) == {}
    clock.at = NOON + 600.0  # what a clock that was wrong left in the future is not told
    assert max(at for at, _ in read(database, "cam", KEPT)["load"]) == NOON + 600


# --- beside the hellos


def test_a_database_that_fails_is_told_once_and_what_was_said_is_dropped(registry, kept, database, caplog, monkeypatch):
    def away():
        raise sqlalchemy.exc.OperationalError("insert", {}, Exception("away"))

    caplog.set_level(logging.ERROR, "stationmaster.history")
    monkeypatch.setattr(database, "writing", away)
    for minute in range(5):
        registry.hello("cam", NOON + minute * MINUTE, load=[1.0])
        kept.write(NOON + minute * MINUTE + 61)
    assert len(caplog.records) == 1
    assert kept._heard == {}
    monkeypatch.undo()
    registry.hello("cam", NOON + 300, load=[1.0])
    kept.write(NOON + 361)
    assert [at for _, at, _ in rows(database)] == [NOON + 300]
    monkeypatch.setattr(database, "writing", away)
    registry.hello("cam", NOON + 360, load=[1.0])
    kept.write(NOON + 421)
    assert len(caplog.records) == 2


def test_hellos_go_on_while_a_write_hangs(registry, kept, database, monkeypatch):
    inside, go = threading.Event(), threading.Event()
    original = database.writing

    def hangs():
        inside.set()
        assert go.wait(30)
        return original()

    monkeypatch.setattr(database, "writing", hangs)
    registry.hello("cam", NOON, load=[1.0])
    thread = threading.Thread(target=kept.write, args=(NOON + 61,))
    thread.start()
    assert inside.wait(30)
    begin = time.monotonic()
    registry.hello("cam", NOON + 62, load=[2.0])
    assert time.monotonic() - begin < 5
    go.set()
    thread.join()
    kept.write(NOON + 121)
    assert [figures["load"] for _, _, figures in rows(database)] == [1.0, 2.0]


def test_it_writes_by_itself_after_the_minutes_end_and_ends_when_told(registry, database, monkeypatch):
    begin = time.monotonic()
    monkeypatch.setattr("api.history.now", lambda: NOON + 59.8 + time.monotonic() - begin)
    monkeypatch.setattr("api.history.LAG", 0.05)
    kept = History(registry, database)
    kept.start()
    registry.hello("cam", NOON + 59.8, load=[1.0])
    while not rows(database) and time.monotonic() < begin + 20:
        time.sleep(0.02)
    kept.stop()
    assert rows(database) == [("cam", NOON, {"load": 1.0})]
    assert not kept._thread.is_alive()


# --- the manager


@pytest.fixture
def api(tmp_path):
    """A manager of which only registry and inventory work."""
    made = Api(Settings(data=tmp_path / "data"))
    made.manager.inventory = Inventory()
    made.manager.registry.start()
    yield made
    made.manager.registry.stop()
    made.manager.database.close()


def history_of(api):
    return next(part for part in api.manager.parts if isinstance(part, History))


def test_a_signed_hello_becomes_a_figure_that_is_read(api, clock):
    station = put(api.manager.database, api.manager.registry.secret)
    said = {"load": [0.25], "figures": {"ingest/main": {"speed": 1.0, "last_segment_seconds": NOON - 2.5}}}
    assert station.hello(api, **said).status_code == 200
    # the answer is given before subscribers are told
    deadline = time.monotonic() + 20
    while not history_of(api)._heard and time.monotonic() < deadline:
        time.sleep(0.01)
    clock.at = NOON + 61.0
    history_of(api).write(clock.at)
    answer = api.get("/v1/stations/hall-a-cam/figures", headers=api.token("read"))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "station": "hall-a-cam", "step": 60,
        "figures": {
            "load": [[NOON, 0.25]], "ingest/main speed": [[NOON, 1.0]], "ingest/main last_segment_age": [[NOON, 2.5]]
        },
    }  # fmt: skip
    clock.at = NOON + 1800.0
    later = api.get("/v1/stations/hall-a-cam/figures", params={"hours": 0.25}, headers=api.token("read"))
    assert later.json()["figures"] == {}


def test_a_station_of_the_inventory_without_hellos_has_none_and_an_unknown_one_is_404(api):
    answer = api.get("/v1/stations/storage/figures", headers=api.token("read"))
    assert answer.json() == {"station": "storage", "step": 60, "figures": {}}
    problem(api.get("/v1/stations/nobody/figures", headers=api.token("read")), 404, "NotFound")


@pytest.mark.parametrize("hours", ["0", "0.05", "12.1", "nan", "inf", "x"])
def test_hours_out_of_range_are_refused(api, hours):
    answer = api.get("/v1/stations/storage/figures", params={"hours": hours}, headers=api.token("read"))
    problem(answer, 422, "InvalidRequest")


def test_a_failing_history_costs_no_hello(api, monkeypatch):
    station = put(api.manager.database, api.manager.registry.secret)
    monkeypatch.setattr(history_of(api), "_heard", None)
    assert [station.hello(api).status_code for _ in range(3)] == [200] * 3
