"""Runs over HTTP: what may be asked, what is answered, how requests become one."""

import secrets
import threading

import pytest
from sqlalchemy import update

from api.clock import now
from api.hello import Hello
from api.registry import Registry
from api.run_result import apply_told
from api.tables import Audit, Run, RunLock, Station
from tests.api.run_kit import shell, wait_for
from tests.api.stations_kit import Machine, applied, put

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def locks(caller):
    with caller.manager.database.reading() as session:
        return {lock.station for lock in session.query(RunLock)}


def gate(project, action="apply", **more):
    """Make an action wait on the stations until the gate is opened."""
    project.playbook(
        action,
        shell(f"echo {action} {{{{ run }}}} >> {{{{ trace }}}}/{{{{ inventory_hostname }}}}"),
        shell("while [ ! -e {{ trace }}/.open ]; do sleep 0.05; done"),
        **more,
    )
    return lambda: (project.trace / ".open").touch()


BAD = [
    {},
    {"action": "apply"},
    {"action": "remove", "target": {"room": "hall_a"}},
    {"action": "../site", "target": {"everything": True}},
    {"action": "apply", "target": {}},
    {"action": "apply", "target": {"everything": False}},
    {"action": "apply", "target": {"everything": True, "room": "hall_a"}},
    {"action": "apply", "target": {"limit": "all"}},
    {"action": "apply", "target": "all"},
    {"action": "apply", "target": {"room": ""}},
    {"action": "apply", "target": {"room": "all"}},
    {"action": "apply", "target": {"station": "*"}},
    {"action": "apply", "target": {"station": "a1,b1"}},
    {"action": "apply", "target": {"station": "a1:b1"}},
    {"action": "apply", "target": {"station": "!a1"}},
    {"action": "apply", "target": {"station": "~a.*"}},
    {"action": "apply", "target": {"station": "@/etc/passwd"}},
    {"action": "apply", "target": {"station": "a[1:3]"}},
    {"action": "apply", "target": {"station": "hall_a"}},
    {"action": "apply", "target": {"station": "rooms"}},
    {"action": "apply", "target": {"room": "a1"}},
    {"action": "apply", "target": {"room": "nowhere"}},
    {"action": "apply", "target": {"room": "hall_a"}, "role": "encode"},
    {"action": "restart", "target": {"room": "hall_a"}, "role": "nosuch"},
    {"action": "restart", "target": {"station": "a2"}, "role": "encode"},
    {"action": "apply", "target": {"room": "hall_a"}, "extra_vars": {"x": 1}},
    {"action": "apply", "target": {"room": "hall_a"}, "playbook": "x.yml"},
    {"action": "on-air", "target": {"room": "hall_a"}},
    {"action": "on-air", "target": {"room": "hall_a"}, "minutes": -1},
    {"action": "on-air", "target": {"room": "hall_a"}, "minutes": 1441},
    {"action": "on-air", "target": {"room": "hall_a"}, "minutes": True},
    {"action": "apply", "target": {"room": "hall_a"}, "minutes": 5},
    {"action": "stop", "target": {"room": "hall_a"}, "force": True},
    {"action": "apply", "target": {"room": "hall_a"}, "reason": "x"},
    {"action": "apply", "target": {"station": "a1"}, "generation": 3},
    {"action": "rollback", "target": {"station": "a1"}, "generation": 0},
    {"action": "rollback", "target": {"station": "a1"}, "generation": 2**31},
    {"action": "rollback", "target": {"station": "a1"}, "generation": "3"},
    {"action": "rollback", "target": {"station": "a1"}, "generation": True},
]


def test_only_what_is_on_the_list_is_taken(managing):
    caller = managing(runs_at_once=1)
    for body in BAD:
        answer = caller.post("/v1/runs", body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert caller.get("/v1/runs").json() == {"runs": [], "next": None}


def test_a_run_tells_what_became_of_each_station(managing, project):
    project.playbook(
        "apply",
        shell("true", name="Fine"),
        shell("echo no; exit 3", name="Break", when="inventory_hostname == 'a2'"),
        shell("exit 1", name="Forgiven", ignore_errors=True, when="inventory_hostname == 'a3'"),
        {
            "name": "Careful",
            "when": "inventory_hostname == 'a3'",
            "block": [shell("exit 4", name="Slips")],
            "rescue": [shell("true", name="Catches")],
        },
        shell("true", name="Change", changed_when=True),
    )
    caller = managing()
    run = caller.ended(caller.start(room="hall_a"))
    assert (run["state"], run["rc"], run["revision"], run["dirty"]) == ("failed", 2, "0123456789ab", True)
    assert {name: one["state"] for name, one in run["results"].items()} == {
        "a1": "changed", "a2": "failed", "a3": "changed",
    }  # fmt: skip
    assert (run["error"]["station"], run["error"]["task"], run["error"]["place"]) == ("a2", "Break", "site.yml:1")
    assert run["results"]["a3"]["counts"]["rescued"] == 1
    assert run["results"]["a3"]["counts"]["ignored"] == 1
    assert "error" not in run["results"]["a3"] or run["results"]["a3"]["error"] is None
    events = caller.events(run["id"])
    assert events[-1]["kind"] == "run_ended"
    assert events[-1]["data"] == {"state": "failed", "reason": run["reason"], "total": run["events"]}
    assert not locks(caller)

    project.playbook("apply", shell("echo {{ inventory_hostname }} >> {{ trace }}/again"))
    again = caller.post(f"/v1/runs/{run['id']}/retry").json()
    assert (again["stations"], again["retry_of"]) == (["a2"], run["id"])
    assert caller.ended(again["id"])["state"] == "succeeded"
    assert (project.trace / "again").read_text() == "a2\n"
    assert caller.post(f"/v1/runs/{again['id']}/retry").status_code == 409
    with caller.manager.database.reading() as session:
        assert [(one.action, one.resolved["stations"]) for one in session.query(Audit).order_by(Audit.id)] == [
            ("run", ["a1", "a2", "a3"]), ("retry-run", ["a2"]),
        ]  # fmt: skip


def test_a_key_gives_the_same_run_and_no_other(managing):
    caller = managing()
    body = {"action": "check", "target": {"station": "a1"}}
    first = caller.post("/v1/runs", body, **{"Idempotency-Key": "one"}).json()["id"]
    caller.ended(first)
    assert caller.post("/v1/runs", body, **{"Idempotency-Key": "one"}).json()["id"] == first
    other = caller.post("/v1/runs", {**body, "target": {"station": "a2"}}, **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (409, "KeyUsed")
    stranger = caller.token("operate")
    assert caller.post("/v1/runs", body, **{"Idempotency-Key": "one", **stranger}).json()["id"] != first


def test_scopes_and_rooms_bound_what_a_token_may_start(managing, project):
    open_gate = gate(project)
    caller = managing()
    body = {"action": "apply", "target": {"room": "hall_a"}}
    assert caller.post("/v1/runs", body, **caller.token("read")).status_code == 403
    assert caller.post("/v1/runs", body, **caller.token("operate", "hall_b")).status_code == 403
    assert caller.post("/v1/runs", {**body, "interrupt": True}, **caller.token("operate")).status_code == 403
    everything = {"action": "apply", "target": {"everything": True}}
    limited = caller.token("operate", "hall_a")
    assert caller.post("/v1/runs", everything, **limited).status_code == 403
    assert caller.get("/v1/runs").json()["runs"] == []
    run = caller.start(room="hall_b")
    assert caller.post(f"/v1/runs/{run}/cancel", **limited).status_code == 403
    mine = caller.post("/v1/runs", body, **limited)
    assert mine.status_code == 202
    open_gate()
    assert caller.ended(run)["state"] == "succeeded"
    assert caller.ended(mine.json()["id"])["state"] == "succeeded"


def test_equal_requests_are_one_and_a_running_one_gets_one_follow_up(managing, project):
    open_gate = gate(project)
    caller = managing(runs_at_once=2)
    running = caller.start(room="hall_a")
    caller.reached(running, "running")
    follow_ups = {caller.start(room="hall_a") for _ in range(5)}
    assert len(follow_ups) == 1
    assert running not in follow_ups
    # a station's own apply is part of the room's that waits
    assert caller.start(station="a2") in follow_ups
    waits = caller.reached(next(iter(follow_ups)), "waiting")
    assert running in waits["reason"]
    # a stop in between is a barrier: what comes behind it is another run
    stop = caller.start("stop", station="a2")
    behind = caller.start(station="a2")
    assert behind not in follow_ups | {stop}
    # and one of all takes up the smaller that wait, if nothing stands between
    everything = caller.start()
    assert caller.run(behind)["folded_into"] == everything
    assert caller.run(next(iter(follow_ups)))["folded_into"] is None
    open_gate()
    assert caller.ended(everything)["state"] == "succeeded"
    part = caller.ended(behind)
    assert (part["state"], list(part["results"])) == ("succeeded", ["a2"])
    assert [one["number"] for one in caller.events(behind)] == [one["number"] for one in caller.events(everything)]
    follow = next(iter(follow_ups))
    assert project.done("a2") == [
        f"apply {running}", f"apply {follow}", f"stop {stop}", f"apply {everything}",
    ]  # fmt: skip


def test_first_come_first_served_and_overtaken_only_aside(managing, project):
    open_gate = gate(project)
    caller = managing(runs_at_once=4)
    busy = caller.start(station="a1")
    caller.reached(busy, "running")
    everything = caller.start("check")
    late = caller.start("restart", station="b2")  # free, but "everything" waits for it
    assert caller.reached(everything, "waiting")["state"] == "waiting"
    assert caller.reached(late, "waiting")["state"] == "waiting"
    assert locks(caller) == {"a1", "id:machine-of-a1"}
    open_gate()
    assert {caller.ended(one)["state"] for one in (busy, everything, late)} == {"succeeded"}
    assert project.done("b2") == [f"check {everything}", f"restart {late}"]


def test_a_queued_run_is_canceled_at_once_and_an_ended_one_not_at_all(managing, project):
    open_gate = gate(project)
    caller = managing(runs_at_once=1)
    busy = caller.start(station="a1")
    caller.reached(busy, "running")
    queued = caller.start(room="hall_b")
    told = caller.post(f"/v1/runs/{queued}/cancel")
    assert (told.status_code, told.json()["state"]) == (202, "canceled")
    assert [one["kind"] for one in caller.events(queued)] == ["run_ended"]
    assert caller.post(f"/v1/runs/{queued}/cancel").json()["code"] == "RunEnded"
    assert caller.post("/v1/runs/00000000000000000000000000/cancel").status_code == 404
    open_gate()
    caller.ended(busy)
    assert project.done("b1") == []


def test_a_run_waits_no_longer_than_it_may(managing, project):
    open_gate = gate(project)
    caller = managing(wait_timeout=1.0)
    busy = caller.start(station="a1")
    caller.reached(busy, "running")
    late = caller.ended(caller.start("check", room="hall_a"))
    assert late["state"] == "timed_out"
    assert "a1" in late["reason"]
    open_gate()
    assert caller.ended(busy)["state"] == "succeeded"


def test_stations_in_order_are_left_out_unless_forced(managing, project):
    project.state("wanted", dict.fromkeys(["a1", "a2", "a3"], "hash"))
    project.state("in_order", ["a1", "a3", "b1"])
    caller = managing()
    run = caller.ended(caller.start())
    assert run["state"] == "succeeded"
    assert {name for name, one in run["results"].items() if one["state"] == "skipped"} == {"a1", "a3"}
    assert (project.done("a1"), len(project.done("a2")), len(project.done("b1"))) == ([], 1, 1)
    assert caller.ended(caller.start(station="a1", force=True))["results"]["a1"]["state"] == "ok"
    assert len(project.done("a1")) == 1
    caller.ended(caller.start("restart", station="a1"))
    assert len(project.done("a1")) == 2


def test_nobody_is_left_out_between_an_edit_and_its_check(managing, project):
    project.state("wanted", dict.fromkeys(["a1", "a2", "a3"], "hash"))
    project.state("in_order", ["a1", "a3"])
    (project.folder / "edited").touch()
    caller = managing()
    run = caller.ended(caller.start(room="hall_a"))
    assert {one["state"] for one in run["results"].values()} == {"ok"}


def test_500_stations_in_order_need_no_process(tmp_path, managing, project):
    names = [f"s{number:03}" for number in range(500)]
    caller = managing()
    manager = caller.manager
    manager.registry = Registry(manager, secrets.token_hex(32))
    manager.inventory.rooms = {"hall_a": names}
    project.state("wanted", dict.fromkeys(names, "aa"))
    hello = Machine("s000").body(**applied())
    said = Hello.model_validate(hello).model_dump(mode="json")
    for name in names:
        put(manager.database, manager.registry.secret, name)
    with manager.database.writing() as session:
        session.execute(update(Station).values(seen_at=now(), said=said))
    started = threading.active_count()
    run = caller.ended(caller.start(), seconds=20)
    assert (run["state"], len(run["results"])) == ("succeeded", 500)
    assert {one["state"] for one in run["results"].values()} == {"skipped"}
    assert not (tmp_path / "data" / "runs").exists()
    assert threading.active_count() <= started + 1


def test_lists_are_filtered_and_paged(managing):
    caller = managing()
    made = [caller.start("check", station=name) for name in ("a1", "a2", "b1")]
    for one in made:
        caller.ended(one)
    first = caller.get("/v1/runs?limit=2").json()
    assert [one["id"] for one in first["runs"]] == [made[2], made[1]]
    second = caller.get(f"/v1/runs?limit=2&before={first['next']}").json()
    assert ([one["id"] for one in second["runs"]], second["next"]) == ([made[0]], None)
    assert [one["id"] for one in caller.get("/v1/runs?station=a2").json()["runs"]] == [made[1]]
    assert len(caller.get("/v1/runs?state=ended&action=check").json()["runs"]) == 3
    assert caller.get("/v1/runs?state=open").json()["runs"] == []
    assert caller.get("/v1/runs?state=nonsense").status_code == 422


def test_subscribers_hear_of_ends_and_cannot_hurt(managing):
    caller = managing()
    heard = []
    caller.manager.runs.subscribe(lambda run: 1 / 0)
    caller.manager.runs.subscribe(lambda run: heard.append((run.id, run.state, run.result["rc"])))
    run = caller.start("check", station="a1")
    caller.ended(run)
    wait_for(lambda: heard)
    assert heard == [(run, "succeeded", 0)]
    wait_for(lambda: not list((caller.manager.settings.data / "runs").iterdir()))


def test_a_dry_run_changes_nothing_and_shows_what_would(managing, project):
    task = {
        "name": "File",
        "ansible.builtin.copy": {"content": "new\n", "dest": "{{ trace }}/{{ inventory_hostname }}"},
    }
    project.playbook("apply", task)
    caller = managing()
    run = caller.ended(caller.start(station="a1", dry_run=True))
    assert (run["state"], run["results"]["a1"]["state"]) == ("succeeded", "changed")
    assert project.done("a1") == []
    assert any("+new" in one["data"].get("text", "") for one in caller.events(run["id"]))


def test_a_text_of_a_caller_is_never_a_template(managing, project):
    project.playbook("rollback", shell("printf %s {{ reason | quote }} > {{ trace }}/{{ inventory_hostname }}"))
    caller = managing()
    evil = "{{ lookup('pipe', 'touch " + str(project.trace) + "/evil') }} {% raw %} 'quoted' \"twice\""
    assert caller.ended(caller.start("rollback", station="a1", reason=evil))["state"] == "succeeded"
    assert (project.trace / "a1").read_text() == evil
    assert not (project.trace / "evil").exists()


def test_a_generation_to_go_back_to_reaches_the_playbook_and_is_kept_by_a_retry(managing, project):
    open_gate = gate(project)
    write = shell("echo {{ generation | default('newest') }} >> {{ trace }}/{{ inventory_hostname }}.generation")
    project.playbook("rollback", write, shell("exit 1"))
    caller = managing(runs_at_once=1)
    busy = caller.start()
    caller.reached(busy, "running")
    runs = [caller.start("rollback", station="a1", **more) for more in ({"generation": 3}, {"generation": 4}, {})]
    assert len(set(runs)) == 3
    assert caller.start("rollback", station="a1") == runs[2]
    open_gate()
    assert {caller.ended(one)["state"] for one in runs} == {"failed"}
    again = caller.post(f"/v1/runs/{runs[0]}/retry").json()
    assert again["parameters"] == {"generation": 3}
    caller.ended(again["id"])
    assert (project.trace / "a1.generation").read_text().split() == ["3", "4", "newest", "3"]


def test_a_run_keeps_what_the_applier_said_without_its_empty_lists():
    told = {"result": "changed", "restarted": ["u"], "interrupts": ["u"], "stopped": [], "diff": [{"prepared": "x"}]}
    assert apply_told(told) == {"result": "changed", "restarted": ["u"], "interrupts": ["u"]}
    assert len(apply_told({**told, "interrupts": ["u"] * 999})["interrupts"]) == 100


def test_the_rows_of_a_folded_run_need_no_process(managing, project):
    """60 stations that boot at once: one run per room that waits, whatever asks."""
    open_gate = gate(project)
    caller = managing(runs_at_once=1)
    busy = caller.start()
    caller.reached(busy, "running")
    rooms = {caller.start(room=room) for room in ("hall_a", "hall_b")}
    for _ in range(10):
        for name in ("a1", "a2", "a3", "b1", "b2", "b3"):
            assert caller.start(station=name) in rooms
    open_gate()
    assert {caller.ended(one)["state"] for one in rooms} == {"succeeded"}
    with caller.manager.database.reading() as session:
        assert session.query(Run).count() == 3
