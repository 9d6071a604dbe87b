"""kill -9 of the manager, and of supervisors, in every state of a run: each run ends, and truthfully."""

import json
import os
import signal
import time

import pytest

from api.database import Database
from api.run_folder import RunFolder
from api.run_states import ENDED
from api.supervisor import main as supervise
from api.tables import Run, RunEvent, RunLock
from tests.api.run_kit import alive, shell, wait_for

MARK = "STATIONMASTER_SUPERVISED"


def gated(project, action="apply"):
    project.playbook(
        action,
        shell(f"echo {action} {{{{ run }}}} >> {{{{ trace }}}}/{{{{ inventory_hostname }}}}"),
        shell("touch {{ trace }}/.works; while [ ! -e {{ trace }}/.open ]; do sleep 0.1; done"),
        shell("true"),
    )
    return lambda: (project.trace / ".open").touch()


def check_books(data):
    """No lock left, every run ended, and its events numbered from 1 to the total that the last one tells."""
    database = Database(f"sqlite:///{data}/manager.db")
    with database.reading() as session:
        assert session.query(RunLock).count() == 0
        for run in session.query(Run):
            assert run.state in ENDED
            events = session.query(RunEvent).filter_by(run=run.id).order_by(RunEvent.number).all()
            assert [one.number for one in events] == list(range(1, run.events + 1))
            assert [one.kind for one in events].count("run_ended") == 1
            assert (events[-1].data["total"], events[-1].data["state"]) == (run.events, run.state)
    database.close()


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8, 1.5])
def test_killed_soon_after_a_request_the_manager_still_does_it_once(served, project, delay):
    caller = served()
    run = caller.start(room="hall_a")
    time.sleep(delay)
    caller.kill()
    caller.launch()
    assert caller.ended(run)["state"] == "succeeded"
    assert [project.done(name) for name in ("a1", "a2", "a3")] == [[f"apply {run}"]] * 3
    check_books(caller.data)
    wait_for(lambda: not list((caller.data / "runs").iterdir()))


def test_killed_with_runs_in_every_state_all_end_truthfully(served, project):
    open_gate = gated(project)
    project.playbook("stop", shell("trap '' TERM; touch {{ trace }}/.stops; sleep 300"))
    caller = served(runs_at_once=2)
    running, canceling = caller.start(station="a1"), caller.start("stop", station="b1")
    wait_for(lambda: (project.trace / ".works").exists() and (project.trace / ".stops").exists())
    waiting = caller.start("check", room="hall_a")
    caller.reached(waiting, "waiting")
    caller.post(f"/v1/runs/{canceling}/cancel")
    caller.kill()
    assert alive(running)
    open_gate()  # it ends while nobody is there
    wait_for(lambda: not alive(running, MARK) and not alive(canceling, MARK))
    caller.launch()
    assert caller.ended(running)["state"] == "succeeded"
    assert caller.ended(canceling)["state"] == "canceled"
    assert caller.ended(waiting)["state"] == "succeeded"
    assert alive(canceling) == []
    check_books(caller.data)


def test_a_run_is_followed_after_a_kill_and_can_still_be_canceled(served, project):
    project.playbook("apply", shell("touch {{ trace }}/.works; sleep 300"))
    caller = served()
    run = caller.start(station="a1")
    wait_for((project.trace / ".works").exists)
    before = wait_for(lambda: caller.get(f"/v1/runs/{run}/events").json()["events"])
    caller.kill()
    caller.launch()
    assert caller.run(run)["state"] == "running"
    assert caller.get(f"/v1/runs/{run}/events").json()["events"][: len(before)] == before
    second = caller.start("check", station="a1")
    assert run in caller.reached(second, "waiting")["reason"]
    caller.post(f"/v1/runs/{run}/cancel")
    assert caller.ended(run)["state"] == "canceled"
    assert caller.ended(second)["state"] == "succeeded"
    assert alive(run) == []
    check_books(caller.data)


@pytest.mark.parametrize("manager_too", [False, True])
def test_a_run_whose_supervisor_died_is_lost_and_swept(served, project, manager_too):
    project.playbook("apply", shell("touch {{ trace }}/.works; trap '' TERM HUP; sleep 300"), shell("true"))
    caller = served()
    run = caller.start(station="a1")
    wait_for((project.trace / ".works").exists)
    wait_for(lambda: caller.get(f"/v1/runs/{run}/events").json()["events"])
    supervisor = json.loads((caller.data / "runs" / run / "begun.json").read_text())["pid"]
    if manager_too:
        caller.kill()
    os.kill(supervisor, signal.SIGKILL)
    assert alive(run)
    if manager_too:
        caller.launch()
    ended = caller.ended(run)
    assert (ended["state"], ended["unproven"]) == ("lost", {})
    assert "supervisor" in ended["reason"]
    assert (alive(run), alive(run, MARK)) == ([], [])
    check_books(caller.data)
    assert caller.ended(caller.start("check", station="a1"))["state"] == "succeeded"


def test_a_run_that_nothing_was_begun_of_goes_back_into_the_queue(managing, project, monkeypatch):
    """The manager died between the row and the process; a supervisor that starts late does nothing."""
    caller = managing()
    monkeypatch.setattr(caller.manager.runs, "_start_process", lambda folder, attempt: None)
    monkeypatch.setattr(caller.manager.runs._adoption, "_look_after", lambda run: None)
    run = caller.start(station="a1")
    caller.reached(run, "starting")
    folder = caller.manager.runs.folder(run)
    wait_for(lambda: folder.job())
    caller.manager.runs.stop()
    other = managing(data=caller.manager.settings.data)
    assert other.ended(run)["state"] == "succeeded"
    assert project.done("a1") == [f"apply {run}"]
    check_books(caller.manager.settings.data)


def test_a_supervisor_without_a_job_does_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.prepare({"run": "run"})
    with folder.held() as mine:
        assert mine
        assert supervise([str(folder.path)]) == 0  # somebody else has it
        folder.take_back()
    assert supervise([str(folder.path)]) == 0
    assert folder.begun() is None


def test_a_supervisor_that_cannot_start_is_told(managing, project, monkeypatch):
    caller = managing()
    monkeypatch.setattr("api.run_start.sys.executable", "/bin/false")
    ended = caller.ended(caller.start(station="a1"))
    assert ended["state"] == "incomplete"
    assert "did not begin" in ended["reason"]
    check_books(caller.manager.settings.data)


def test_a_result_that_the_database_did_not_get_is_taken_from_the_folder(managing, project):
    caller = managing()
    open_gate = gated(project)
    run = caller.start(station="a1")
    wait_for((project.trace / ".works").exists)
    folder = caller.manager.runs.folder(run)
    caller.reached(run, "running")
    supervisor = folder.begun()["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    told = {"state": "succeeded", "reason": "", "result": {"rc": 0, "stations": {}, "error": None}}
    folder.end(told)
    os.kill(supervisor, signal.SIGKILL)
    assert caller.ended(run)["state"] == "succeeded"
    open_gate()
    check_books(caller.manager.settings.data)


def test_a_run_as_a_unit_of_its_own(managing, project, tmp_path, monkeypatch):
    """The command of systemd-run, with a stand-in that starts what it is given and goes."""
    tool = tmp_path / "bin" / "systemd-run"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nwhile [ "$1" != -- ]; do shift; done; shift\n'
        'setsid "$@" >/dev/null 2>&1 </dev/null &\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    caller = managing(run_units=True)
    run = caller.start(station="a1")
    assert caller.ended(run)["state"] == "succeeded"
    asked = (tmp_path / "asked").read_text()
    for word in (f"--unit=stationmaster-run-{run}.service", "--collect", "KillMode=process", "--user"):
        assert word in asked
    check_books(caller.manager.settings.data)
