"""Agents as units of real stations, and a manager beside them: what only a real systemd and real SSH can show."""

import json
import ssl
import time
from pathlib import Path

import httpx2
import pytest
import yaml

from api.access import create_token
from api.database import Database
from tests.agent.test_agent import certificate
from tests.api.near import Near, project_with
from tests.labkit import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NETWORK = "10.95.11"
PORT = 18443
GATEWAY = f"{NETWORK}.1"
AGENT = "stationmaster-agent@station.service"
SCRIPT = "stationmaster-script@idle.service"
IDLE = {"station_roles": {"script": {"idle": {"program": "idle.sh", "options": {"edition": 1}}}}}
SLOW = """\
- name: Take long
  hosts: ~^(rooms|services)$
  gather_facts: false
  environment: {STATIONMASTER_RUN: "{{ run | default('') }}"}
  tasks:
    - name: Take long
      ansible.builtin.command: sleep 60
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The lab with its agents applied, the manager, which pushes, and a client that may start runs."""
    folder = tmp_path_factory.mktemp("agents")
    own, key = certificate(folder, "manager", GATEWAY)
    (folder / "data").mkdir(mode=0o700)
    database = Database(f"sqlite:///{folder}/data/manager.db")
    database.migrate()
    enrol, operator = (create_token(database, scope)[1] for scope in ("enrol", "operate"))
    database.close()
    event = {
        "event_manager_url": f"https://{GATEWAY}:{PORT}",
        "event_role_defaults": {"agent": {"certificate": "manager.pem", "token": enrol}},
    }
    lab = Lab.of(NETWORK, {"one": IDLE, "two": IDLE}, event)
    (lab.inventory / "files").mkdir(exist_ok=True)
    (lab.inventory / "files/manager.pem").write_bytes(Path(own).read_bytes())
    (lab.inventory / "files/idle.sh").write_text("#!/bin/sh\nexec sleep infinity\n")
    project = project_with(folder / "project", restart=SLOW)
    settings = {"STATIONMASTER_PROJECT": str(project), "STATIONMASTER_PUSH": "true"}
    manager = None
    with lab:
        try:
            arguments = ("-i", str(lab.inventory), "--certificate", own, "--key", key)
            lab.playbook("site.yml")
            manager = Near(folder / "data", GATEWAY, PORT, *arguments, **settings)
            headers = {"Authorization": f"Bearer {operator}"}
            context = ssl.create_default_context(cafile=own)
            with httpx2.Client(base_url=manager.url, headers=headers, verify=context, timeout=30) as client:
                assert until(lambda: client.get("/v1/stations/one").status_code == 200, 60)
                yield lab, client
        finally:
            if manager is not None:
                manager.stop()


def read(client, name):
    return client.get(f"/v1/stations/{name}").json()


def start(client, action, **target):
    answer = client.post("/v1/runs", json={"action": action, "target": target})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client, run, seconds=60):
    assert until(lambda: client.get(f"/v1/runs/{run}").json()["ended"], seconds), client.get(f"/v1/runs/{run}").text
    return client.get(f"/v1/runs/{run}").json()


def edit(lab, station, instance="idle", **options):
    """Change the options of a station's script in the inventory, or add one."""
    path = lab.inventory / "rooms/hall-x.yml"
    told = yaml.safe_load(path.read_text())
    hosts = told["stations"]["children"]["rooms"]["children"]["hall_x"]["hosts"]
    hosts[station]["station_roles"]["script"].setdefault(instance, {}).update(options)
    staged = path.with_suffix(".new")
    staged.write_text(json.dumps(told))
    staged.replace(path)


def pushes(client, station):
    return [run for run in client.get(f"/v1/runs?station={station}").json()["runs"] if run["author"] == "push"]


def last_push(client, name):
    return next(one["result"]["outcome"] for one in read(client, name)["registrations"] if one["kind"] == "push")


def hellos(client, name, count):
    """Wait until a station has said so many more hellos: only then is it shown that none of them led to a push."""
    for _ in range(count):
        last = read(client, name)["seen_at"]
        assert until(lambda last=last: read(client, name)["seen_at"] != last, 15)


def in_order(client, name):
    told = read(client, name)
    return told["state"] == "ready" and told["said"]["applied"] == told["wanted"]


def test_agents_enrol_and_tell_how_their_stations_are(stage):
    lab, client = stage
    for name in ("one", "two"):
        assert until(lambda name=name: read(client, name)["state"] == "ready", 60), lab.out(
            name, f"journalctl -u {AGENT} -n 20"
        )
        told = read(client, name)
        said = told["said"]
        assert said["integrity"] is True, lab.out(name, f"journalctl -u {AGENT} -n 20")
        assert {unit: entry["healthy"] for unit, entry in said["units"].items()} == {AGENT: True, SCRIPT: True}
        assert said["applied"] == said["wanted"]
        assert said["addresses"] == [lab.address(name)]
        assert told["address"] == lab.address(name)
        assert said["disk"]["size"] > 0
        assert "script/idle" in said["figures"]
        assert lab.out(name, "stat -c '%U %a' /var/lib/stationmaster-agent/identity.json") == "sm-agent 600"
        assert "lacks" not in lab.out(name, f"journalctl -u {AGENT}")


def test_an_edit_by_hand_even_of_a_secret_is_told(stage):
    lab, client = stage
    path = lab.out("two", "find /var/lib/stationmaster/current/secrets/ -name secrets.json")
    content = lab.read("two", path)
    lab.write("two", path, content + b" ", "0600")
    assert until(lambda: read(client, "two")["state"] == "drifted", 30)
    lab.write("two", path, content, "0600")
    assert until(lambda: read(client, "two")["said"]["integrity"] is True, 30)


def test_a_shutdown_is_announced_and_a_boot_seen_and_the_agent_starts_first(stage):
    lab, client = stage
    lab.shut_down("one")
    assert read(client, "one")["presence"] == "shutdown", json.dumps(read(client, "one"))
    lab.boot("one")
    assert until(lambda: read(client, "one")["presence"] in ("rebooted", "present"), 60)
    lab.wait("one", f"systemctl is-active {SCRIPT}")
    begun = "systemctl show --property=ActiveEnterTimestampMonotonic --value"
    assert int(lab.out("one", f"{begun} {AGENT}")) <= int(lab.out("one", f"{begun} {SCRIPT}"))
    assert read(client, "one")["rebooted_at"]


def test_an_apply_of_the_agent_is_no_goodbye(stage):
    lab, client = stage
    lab.run("two", f"systemctl restart {AGENT}")
    assert read(client, "two")["presence"] == "present"


def test_a_run_reaches_a_station_by_its_pinned_key_and_one_in_order_is_left_out(stage):
    lab, client = stage
    assert until(lambda: in_order(client, "one") and in_order(client, "two"), 60), (
        read(client, "one"),
        read(client, "two"),
    )
    run = ended(client, start(client, "apply", everything=True))
    assert {name: one["state"] for name, one in run["results"].items()} == {"one": "skipped", "two": "skipped"}
    run = ended(client, start(client, "check", room="hall_x"))
    assert run["state"] == "succeeded", run
    assert {name: one["state"] for name, one in run["results"].items()} == {"one": "ok", "two": "ok"}
    assert "sleep infinity" in lab.out("one", "ps -eo args")


def test_an_edit_is_pushed_to_the_station_that_it_concerns_and_a_failure_is_not_repeated(stage):
    lab, client = stage
    assert until(lambda: in_order(client, "one") and in_order(client, "two"), 60)
    before = {name: len(pushes(client, name)) for name in ("one", "two")}
    edit(lab, "one", options={"edition": 2})
    assert until(lambda: len(pushes(client, "one")) > before["one"], 30)
    assert ended(client, pushes(client, "one")[0]["id"])["state"] == "succeeded"
    assert until(lambda: in_order(client, "one"), 20), read(client, "one")
    assert until(lambda: last_push(client, "one") == "succeeded", 20)
    assert len(pushes(client, "two")) == before["two"]

    # a unit that cannot start: taken back by the station, once
    lab.run("one", "touch /srv/stationmaster/script/second")  # where its folder has to go
    edit(lab, "one", "second", program="idle.sh")
    assert until(lambda: len(pushes(client, "one")) > before["one"] + 1, 30)
    told = ended(client, pushes(client, "one")[0]["id"])
    assert (told["state"], told["results"]["one"]["state"]) == ("failed", "failed")
    assert "script@second" in told["results"]["one"]["error"]["message"], told
    count = len(pushes(client, "one"))
    assert until(lambda: last_push(client, "one") == "failed", 20), read(client, "one")
    hellos(client, "one", 3)
    assert len(pushes(client, "one")) == count
    assert read(client, "one")["state"] == "failed"
    lab.run("one", "rm /srv/stationmaster/script/second")
    edit(lab, "one", "second", program="idle.sh", options={"edition": 2})
    assert until(lambda: in_order(client, "one"), 60), read(client, "one")


def test_what_was_stopped_by_the_crew_stays_so(stage):
    lab, client = stage
    assert until(lambda: in_order(client, "two"), 60), read(client, "two")
    lab.playbook("playbooks/stop.yml", "--limit", "two", role="script")
    assert until(lambda: read(client, "two")["state"] == "held", 20), read(client, "two")
    count = len(pushes(client, "two"))
    hellos(client, "two", 3)
    assert len(pushes(client, "two")) == count
    run = ended(client, start(client, "start", station="two"))
    assert run["state"] == "succeeded", run
    assert until(lambda: in_order(client, "two"), 30), read(client, "two")


def test_a_cancel_ends_a_long_command_on_every_station_within_15_s(stage):
    lab, client = stage
    run = start(client, "restart", everything=True)
    marked = f"grep -lzxF STATIONMASTER_RUN={run} /proc/[0-9]*/environ 2>/dev/null | wc -l"
    for name in ("one", "two"):
        assert until(lambda name=name: "sleep 60" in lab.out(name, "ps -eo args"), 30)
        assert int(lab.out(name, marked)) > 0
    began = time.monotonic()
    assert client.post(f"/v1/runs/{run}/cancel").status_code < 300
    told = ended(client, run, 30)
    seconds = time.monotonic() - began
    assert (told["state"], told["unproven"]) == ("canceled", {})
    assert seconds < 15
    for name in ("one", "two"):
        assert int(lab.out(name, marked)) == 0
        assert "sleep 60" not in lab.out(name, "ps -eo args")
    assert ended(client, start(client, "check", room="hall_x"))["state"] == "succeeded"


def test_a_cancel_names_the_station_that_is_out_of_reach(stage):
    lab, client = stage
    run = start(client, "restart", everything=True)
    for name in ("one", "two"):
        assert until(lambda name=name: "sleep 60" in lab.out(name, "ps -eo args"), 30)
    lab.cut("two")
    try:
        began = time.monotonic()
        client.post(f"/v1/runs/{run}/cancel")
        told = ended(client, run, 30)
        assert time.monotonic() - began < 15
        assert (told["state"], list(told["unproven"])) == ("cancel_unverified", ["two"])
        assert "sleep 60" not in lab.out("one", "ps -eo args")
    finally:
        lab.restore("two")
