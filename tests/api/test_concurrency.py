"""Many requests at once: no two runs are ever on one station, as the stations themselves see it."""

import json
import os
import random
import signal
import threading
import time

import pytest
from sqlalchemy import select, update

from api.run_dispatch import take_mutex
from api.run_request import RunRequest
from api.tables import Run, RunEvent, RunLock
from tests.api.run_kit import PLAYBOOKS, alive, shell, wait_for

PROOF = """\
exec 9>>{{ trace }}/{{ inventory_hostname }}.lock
flock -n 9 || { echo {{ inventory_hostname }} {{ run }} >> {{ trace }}/overlaps; exit 1; }
echo {{ run }} >> {{ trace }}/{{ inventory_hostname }}
sleep 0.2
"""
NAMES = ("a1", "a2", "a3", "b1", "b2", "b3")


def requests(count, seed):
    """Random requests that overlap in all ways; mostly applies, as in life."""
    dice = random.Random(seed)  # noqa: S311 - a repeatable test
    targets = [{"everything": True}, {"room": "hall_a"}, {"room": "hall_b"}, *({"station": name} for name in NAMES)]
    actions = dice.choices(["apply", "check", "restart"], [97, 2, 1], k=count)
    return [{"action": action, "target": dice.choice(targets)} for action in actions]


def send(callers, bodies):
    """Send the requests from several threads to several managers; return the run of each."""
    found = [None] * len(bodies)

    def work(number):
        for index in range(number, len(bodies), len(callers) * 2):
            answer = callers[number % len(callers)].post("/v1/runs", bodies[index])
            assert answer.status_code == 202, answer.text
            found[index] = answer.json()["id"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(callers) * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
    return found


def check(caller, project, bodies, found):
    """Every request was done, on all its stations, by its run or the one that it became part of; and nothing twice."""
    wait_for(lambda: not caller.get("/v1/runs?state=open").json()["runs"], seconds=240, pause=0.5)
    assert not (project.trace / "overlaps").exists()
    with caller.manager.database.reading() as session:
        runs = {run.id: run for run in session.scalars(select(Run))}
        assert session.scalar(select(RunLock)) is None
        assert {run.state for run in runs.values()} == {"succeeded"}
        for run in runs.values():
            numbers = list(session.scalars(select(RunEvent.number).where(RunEvent.run == run.id)))
            assert sorted(numbers) == list(range(1, run.events + 1))
    done = {name: project.done(name) for name in NAMES}
    rooms = {"hall_a": NAMES[:3], "hall_b": NAMES[3:]}
    for body, identity in zip(bodies, found, strict=True):
        target, run = body["target"], runs[identity]
        wanted = rooms.get(target.get("room")) or ([target["station"]] if "station" in target else NAMES)
        for name in wanted:
            assert done[name].count(run.folded_into or run.id) == 1, (body, run.id)
    real = [run for run in runs.values() if run.folded_into is None]
    assert sum(len(lines) for lines in done.values()) == sum(len(run.stations) for run in real)
    return real


@pytest.fixture
def proving(project):
    for action in PLAYBOOKS:
        project.playbook(action, shell(PROOF))
    return project


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_overlapping_requests_never_meet_on_a_station(managing, proving, count):
    caller = managing(runs_at_once=4)
    bodies = requests(count, 1)
    real = check(caller, proving, bodies, send([caller], bodies))
    assert len(real) < count / 2, "folding should have made them fewer"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_two_managers_on_one_postgresql_share_queue_and_locks(managing, proving, postgres, tmp_path, count):
    one = managing(data=tmp_path / "one", database_url=postgres, runs_at_once=2)
    two = managing(data=tmp_path / "two", database_url=postgres, runs_at_once=2)
    bodies = requests(count, 2)
    real = check(one, proving, bodies, send([one, two], bodies))
    assert {run.owner for run in real} == {one.manager.identity, two.manager.identity}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_managers_that_are_killed_all_the_time_lose_nothing(served, managing, proving, postgres, seed):
    """Two managers as processes, killed and started at random under requests."""
    dice = random.Random(seed)  # noqa: S311
    callers = [served(name, database_url=postgres, runs_at_once=2) for name in ("one", "two")]
    bodies, found = requests(60, seed), []
    for body in bodies:
        caller = dice.choice(callers)
        found.append(caller.post("/v1/runs", body).json()["id"])
        if dice.random() < 0.15:
            caller.kill()
            time.sleep(dice.random() * 2)
            caller.launch()
    watcher = managing(database_url=postgres, runs_at_once=1)
    check(watcher, proving, bodies, found)


def test_a_run_of_a_silent_host_is_lost_when_its_lease_ends(managing, served, project, postgres, tmp_path):
    """Another host leaves it alone before, gives its stations away after, and its late words change nothing."""
    project.playbook("apply", shell("touch {{ trace }}/.works; sleep 300"))
    far = served("far", database_url=postgres)
    run = far.start(station="a1")
    wait_for((project.trace / ".works").exists)
    wait_for(lambda: far.get(f"/v1/runs/{run}/events").json()["events"])
    folder = far.data / "runs" / run
    supervisor = json.loads((folder / "begun.json").read_text())["pid"]
    far.kill()
    os.kill(supervisor, signal.SIGSTOP)  # the host hangs
    near = managing(data=tmp_path / "near", database_url=postgres)
    second = near.start("check", station="a1")
    assert run in near.reached(second, "waiting")["reason"]
    assert near.run(run)["state"] == "running"
    with near.manager.database.writing() as session:
        session.execute(update(Run).where(Run.id == run).values(lease_until=time.time() - 1))
    assert near.ended(run)["state"] == "lost"
    assert near.ended(second)["state"] == "succeeded"
    told = near.events(run)
    os.kill(supervisor, signal.SIGCONT)  # it wakes, learns that it lost the run, and ends it
    wait_for(lambda: not alive(run))
    wait_for(lambda: not alive(run, "STATIONMASTER_SUPERVISED"))
    assert near.events(run) == told
    assert near.run(run)["state"] == "lost"


def test_what_one_manager_is_told_the_other_hears_at_once(managing, project, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr("api.queue.IDLE", 600.0)
    one = managing(data=tmp_path / "one", database_url=postgres)
    two = managing(data=tmp_path / "two", database_url=postgres)
    monkeypatch.setattr(one.manager.runs, "_dispatch", lambda: True)  # so that the other one has to do it
    assert one.ended(one.start("check", station="a1"))["state"] == "succeeded"
    assert two.get("/v1/runs").json()["runs"][0]["state"] == "succeeded"


def test_the_queue_is_changed_by_one_process_at_a_time(managing, postgres, tmp_path):
    one = managing(data=tmp_path / "one", database_url=postgres)
    database = one.manager.database
    with database.writing() as first:
        assert take_mutex(database, first, wait=True)
        with database.writing() as second:
            assert not take_mutex(database, second, wait=False)


def test_a_supervisor_that_cannot_reach_the_database_ends_its_run_in_time(managing, project, postgres, monkeypatch):
    """The lease of a run on a host without connection ends, so the run has to end before."""
    import psycopg

    project.playbook("apply", shell("touch {{ trace }}/.works; sleep 300"))
    monkeypatch.setattr("api.run_start.FENCE", 3.0)
    caller = managing(database_url=postgres)
    run = caller.start(station="a1")
    wait_for((project.trace / ".works").exists)
    name = postgres.rpartition("/")[2]
    with psycopg.connect(postgres.replace(name, "postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        wait_for(lambda: not alive(run))
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert caller.ended(run)["state"] == "lost"


def test_submit_joins_the_transaction_that_it_is_given(managing, project):
    """A caller inside the manager can put a run and its own rows into one transaction."""
    caller = managing()
    request = RunRequest.model_validate({"action": "check", "target": {"station": "a1"}})
    database = caller.manager.database
    with pytest.raises(ZeroDivisionError), database.writing() as session:
        caller.manager.runs.submit(request, "push", session=session, automatic=True)
        raise ZeroDivisionError
    assert caller.get("/v1/runs").json()["runs"] == []
    run = caller.manager.runs.submit(request, "push", automatic=True, key="k")
    assert caller.manager.runs.submit(request, "push", automatic=True, key="k").id == run.id
    assert caller.ended(run.id)["parameters"] == {"automatic": True}
