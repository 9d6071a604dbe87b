"""What is old goes; what has not ended stays however old it is."""

import os
import time

import pytest
from sqlalchemy import func, select

from api import run_figures
from api.clock import now
from api.manager import Manager
from api.retention import BATCH, Retention
from api.settings import Settings
from api.tables import Audit, Registration, Run, RunEvent, RunLock, Station, Wanted
from tests.api.test_metrics import run

DAY = 86400


@pytest.fixture
def manager(tmp_path):
    """A manager that is not started: nothing else works on its tables."""
    made = Manager(Settings(data=tmp_path / "data"))
    yield made
    made.database.close()


@pytest.fixture
def retention(manager):
    settings = Settings(data=manager.settings.data, retention_days=10)
    return Retention(settings, manager.database)


def add(manager, *rows):
    with manager.database.writing() as session:
        session.add_all(rows)
        for row in rows:
            if isinstance(row, Run):
                session.flush()
                session.add(RunEvent(run=row.id, number=1, at=now(), kind="x", station=None, data={}))
                folder = manager.settings.data / "runs" / row.id
                folder.mkdir(parents=True)
                (folder / "events.jsonl").write_text("{}")


def left(manager, table=Run):
    with manager.database.reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def age(path, days):
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_old_runs_go_with_events_and_files(manager, retention):
    add(manager, run("OLD", at=now() - 11 * DAY), run("NEW", at=now() - 9 * DAY))
    assert retention.sweep() == 1
    assert left(manager) == left(manager, RunEvent) == 1
    assert [path.name for path in (manager.settings.data / "runs").iterdir()] == ["NEW"]
    assert retention.sweep() == 0


def test_what_has_not_ended_stays_however_old(manager, retention):
    old = now() - 400 * DAY
    for state in ("queued", "waiting", "starting", "running", "canceling"):
        add(manager, run(state, state, ended=False, at=old))
        age(manager.settings.data / "runs" / state, 400)
    add(manager, run("LOCKED", "lost", at=old))
    with manager.database.writing() as session:
        session.add(RunLock(station="a", run="LOCKED"))
    assert retention.sweep() == 0
    assert left(manager) == len(list((manager.settings.data / "runs").iterdir())) == 6


def test_counters_do_not_fall_when_runs_go(manager, retention):
    add(manager, run("1", at=now() - 11 * DAY), run("2", "failed", at=now() - 11 * DAY), run("3"))
    before = run_figures.everything(manager.database)
    assert retention.sweep() == 2
    assert run_figures.everything(manager.database) == pytest.approx(before)
    add(manager, run("4", at=now() - 11 * DAY))
    before = run_figures.everything(manager.database)
    assert retention.sweep() == 1
    assert run_figures.everything(manager.database) == pytest.approx(before)
    assert before["runs", "apply", "succeeded"] == 3


def test_many_go_in_several_transactions(manager, retention):
    add(manager, *(run(f"{number}", at=now() - 20 * DAY) for number in range(BATCH + 5)))
    assert retention.sweep() == BATCH + 5
    assert left(manager) == left(manager, RunEvent) == 0


def test_folders_that_nobody_knows_go_after_a_day(manager, retention):
    runs = manager.settings.data / "runs"
    for name, days in (("STRAY", 2), ("FRESH", 0)):
        (runs / name).mkdir(parents=True)
        age(runs / name, days)
    retention.sweep()
    assert [path.name for path in runs.iterdir()] == ["FRESH"]


def test_the_past_of_stations_and_wishes_goes_the_present_stays(manager, retention):
    old, station = now() - 11 * DAY, "5" * 36
    add(
        manager,
        Station(
            id=station, name="a", enrolment="enrolled", macs=[], hostname="", host_keys=[], secret_number=1,
            created_at=old, asked_at=old, counter=0, said={},
        ),
    )  # fmt: skip
    add(
        manager,
        Registration(station=station, at=old, kind="pushed", result={}),
        Registration(station=station, at=now(), kind="pushed", result={}),
        Wanted(station="a", revision="1", hash="aa", at=old - 1),
        Wanted(station="a", revision="2", hash="bb", at=old),
        Audit(at=old, who="x", address="", action="x", asked={}, resolved={}, result=""),
        Audit(at=now() - 121 * DAY, who="x", address="", action="x", asked={}, resolved={}, result=""),
    )
    retention.sweep()
    assert left(manager, Registration) == left(manager, Audit) == left(manager, Station) == 1
    with manager.database.reading() as session:
        assert list(session.scalars(select(Wanted.revision))) == ["2"]


def test_it_works_beside_and_ends_when_told(manager, retention, monkeypatch):
    monkeypatch.setattr("api.retention.FIRST", 0.01)
    add(manager, run("OLD", at=now() - 11 * DAY))
    retention.start()
    deadline = time.monotonic() + 20
    while left(manager) and time.monotonic() < deadline:
        time.sleep(0.02)
    retention.stop()
    assert left(manager) == 0
    assert not retention._thread.is_alive()
