"""How machines become stations: room tokens, operators who accept, replacement, rotation, floods."""

import json
import time

import pytest
from sqlalchemy import select

from api import enrolment
from api.access import create_token
from api.tables import Audit, Station
from tests.api.stations_kit import Inventory, Machine, host_key, mac_of
from tests.api.test_door import problem


@pytest.fixture
def inventory(api):
    api.manager.inventory = Inventory()
    # the limit for what is open to all has a test of its own
    api.manager.open_limit.check = lambda address: None
    return api.manager.inventory


@pytest.fixture
def admin(api):
    return api.token("admin")


def audits(api):
    with api.manager.database.reading() as session:
        return [(row.action, row.resolved, row.result) for row in session.scalars(select(Audit).order_by(Audit.id))]


def entry(api, name):
    return api.get(f"/v1/stations/{name}", headers=api.token("read")).json()


def test_a_room_token_brings_a_station_of_the_room_to_its_secret_at_once(api, inventory):
    machine = Machine("hall-a-cam")
    answer = machine.enrol(api, api.token("enrol", "hall_a"))
    assert answer.status_code == 201, answer.text
    assert (answer.json()["state"], answer.json()["name"]) == ("enrolled", "hall-a-cam")
    assert answer.json()["ssh_keys"][0].startswith("ssh-ed25519 ")
    assert machine.hello(api).json()["state"] == "new"
    assert entry(api, "hall-a-cam")["registrations"][0]["kind"] == "enrolled"
    assert audits(api)[0][0] == "enrol-station"


def test_the_mac_address_tells_a_box_that_has_no_name_yet(api, inventory):
    machine = Machine("debian", macs=["02:aa:00:00:00:01", mac_of("hall-a-enc")])
    assert machine.enrol(api, api.token("enrol", "hall_a")).json()["name"] == "hall-a-enc"


@pytest.mark.parametrize(
    ("scope", "room", "more", "word"),
    [
        ("enrol", "hall_b", {}, "not for the room"),
        ("admin", None, {}, "not valid"),
        ("enrol", "hall_a", {"days": -1}, "not valid"),
    ],
)
def test_a_token_that_does_not_fit_leaves_it_waiting_with_the_reason(api, inventory, scope, room, more, word):
    answer = Machine("hall-a-cam").enrol(api, api.token(scope, room, **more))
    assert (answer.status_code, answer.json()["state"], answer.json()["secret"]) == (202, "waiting", None)
    assert word in answer.json()["reason"]
    assert answer.json()["ssh_keys"] == []


def test_an_enrolment_token_opens_nothing_else(api, inventory):
    headers = api.token("enrol", "hall_a")
    problem(api.get("/v1/stations", headers=headers), 403, "ScopeMissing")
    problem(api.post("/v1/stations/hall-a-cam/accept", headers=headers), 403, "ScopeMissing")


def test_without_a_token_it_waits_until_an_operator_accepts_and_gets_the_secret_once(api, inventory, admin):
    machine = Machine("hall-a-cam")
    assert machine.enrol(api).json()["state"] == "waiting"
    assert machine.enrol(api).json()["id"] == machine.id
    waiting = entry(api, "hall-a-cam")
    assert (waiting["state"], waiting["enrolment"]) == ("waiting", "waiting")
    assert waiting["machines"][0]["id"] == machine.id
    accepted = api.post("/v1/stations/hall-a-cam/accept", headers=admin)
    assert (accepted.status_code, accepted.json()["state"]) == (200, "new"), accepted.text
    assert machine.enrol(api).status_code == 201
    assert machine.hello(api).status_code == 200
    problem(machine.enrol(api), 409, "ClaimUsed")
    assert ("accept-station", {"station": "hall-a-cam", "id": machine.id, "replaced": None}, "enrolled") in audits(api)
    problem(api.post("/v1/stations/hall-a-cam/accept", headers=admin), 409, "NothingWaiting")


def test_a_token_that_comes_later_helps_a_machine_that_waits(api, inventory):
    machine = Machine("hall-a-cam")
    machine.enrol(api)
    assert machine.enrol(api, api.token("enrol", "hall_a")).status_code == 201


def test_a_machine_that_the_inventory_lacks_is_told_so(api, inventory, admin):
    machine = Machine("laptop")
    answer = machine.enrol(api, api.token("enrol", "hall_a"))
    assert (answer.json()["state"], answer.json()["name"]) == ("unassigned", None)
    assert "inventory" in answer.json()["reason"]
    assert entry(api, machine.id)["state"] == "unassigned"
    problem(api.post("/v1/stations/laptop/accept", headers=admin), 404, "NotFound")
    problem(api.post(f"/v1/stations/{machine.id}/accept", headers=admin), 404, "NotFound")
    done = api.post("/v1/stations/hall-b-cam/accept", headers=admin, json={"id": machine.id})
    assert done.json()["name"] == "hall-b-cam"
    assert machine.enrol(api).json()["name"] == "hall-b-cam"


def test_a_second_machine_waits_and_replaces_only_when_accepted(api, inventory, admin):
    token = api.token("enrol", "hall_a")
    first, second = Machine("hall-a-cam"), Machine("hall-a-cam", seed="another box")
    assert first.enrol(api, token).status_code == 201
    answer = second.enrol(api, token)
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    assert "another machine" in answer.json()["reason"]
    assert first.hello(api).status_code == 200
    assert host_key("hall-a-cam") in api.manager.registry.known_hosts.read_text()
    assert api.post("/v1/stations/hall-a-cam/accept", headers=admin).status_code == 200
    assert second.enrol(api).status_code == 201
    assert second.hello(api).status_code == 200
    problem(first.hello(api), 401, "BadSignature")
    problem(first.enrol(api), 403, "EnrolmentRefused")
    known = api.manager.registry.known_hosts.read_text()
    assert host_key("another box") in known
    assert host_key("hall-a-cam") not in known
    assert audits(api)[-1][1]["replaced"] == first.id


def test_of_several_that_wait_the_operator_says_which(api, inventory, admin):
    one, two = Machine("hall-a-cam", seed="one"), Machine("hall-a-cam", seed="two")
    one.enrol(api)
    two.enrol(api)
    told = problem(api.post("/v1/stations/hall-a-cam/accept", headers=admin), 409, "SeveralWaiting")
    assert {machine["id"] for machine in told["machines"]} == {one.id, two.id}
    assert api.post("/v1/stations/hall-a-cam/accept", headers=admin, json={"id": two.id}).status_code == 200
    assert one.enrol(api).json()["state"] == "waiting"
    assert api.post(f"/v1/stations/{one.id}/refuse", headers=admin).json()["enrolment"] == "refused"
    problem(one.enrol(api), 403, "EnrolmentRefused")
    assert two.enrol(api).status_code == 201


def test_refusing_an_enrolled_machine_by_its_id_ends_its_hellos(api, inventory, admin):
    machine = Machine("hall-a-cam")
    machine.enrol(api, api.token("enrol", "hall_a"))
    assert machine.hello(api).status_code == 200
    problem(api.post("/v1/stations/hall-a-cam/refuse", headers=admin), 409, "NothingWaiting")
    assert api.post(f"/v1/stations/{machine.id}/refuse", headers=admin).status_code == 200
    problem(machine.hello(api), 401, "BadSignature")
    assert api.manager.registry.known_hosts.read_text() == ""


def test_an_admin_of_one_room_decides_about_that_room_only(api, inventory):
    machine = Machine("hall-a-cam")
    machine.enrol(api)
    other = api.token("admin", "hall_b")
    for verb in ("accept", "refuse", "rotate"):
        problem(api.post(f"/v1/stations/hall-a-cam/{verb}", headers=other), 403, "RoomNotAllowed")
    problem(api.post(f"/v1/stations/{machine.id}/accept", headers=other), 403, "RoomNotAllowed")
    problem(api.post(f"/v1/stations/{machine.id}/refuse", headers=other), 403, "RoomNotAllowed")
    assert api.post(f"/v1/stations/{machine.id}/accept", headers=api.token("admin", "hall_a")).status_code == 200


def rotation(api, machine, signed_with=None):
    body = {"hostname": machine.name, "macs": machine.macs, "host_keys": [host_key()], "claim": machine.claim}
    content = json.dumps(body).encode()
    machine.counter += 1
    secret, machine.secret = machine.secret, signed_with or machine.secret
    headers = machine.headers(content, path="/v1/enrolments")
    machine.secret = secret
    return api.post("/v1/enrolments", content=content, headers={**headers, "Content-Type": "application/json"})


def test_a_rotated_secret_is_fetched_with_the_one_before_once(api, inventory, admin):
    machine = Machine("hall-a-cam")
    machine.enrol(api, api.token("enrol", "hall_a"))
    machine.hello(api)
    assert api.post("/v1/stations/hall-a-cam/rotate", headers=admin).status_code == 200
    problem(machine.hello(api), 401, "SecretRotated")
    machine.claim = machine.claim[::-1]
    assert rotation(api, machine, "00" * 32).json()["state"] == "waiting"
    machine.claim = "c" * 40
    answer = rotation(api, machine)
    assert (answer.status_code, answer.json()["id"]) == (201, machine.id)
    old, machine.secret = machine.secret, answer.json()["secret"]
    assert machine.secret != old
    assert machine.hello(api).status_code == 200
    problem(rotation(api, machine, old), 409, "ClaimUsed")
    machine.claim = "d" * 40
    assert rotation(api, machine, old).json()["state"] == "waiting"


def test_a_leaked_secret_proves_nothing(api, inventory, admin):
    machine = Machine("hall-a-cam")
    machine.enrol(api, api.token("enrol", "hall_a"))
    api.post("/v1/stations/hall-a-cam/rotate", headers=admin, json={"leaked": True})
    problem(machine.hello(api), 401, "BadSignature")
    machine.claim = "c" * 40
    assert rotation(api, machine).json()["state"] == "waiting"
    problem(api.post("/v1/stations/hall-b-cam/rotate", headers=admin), 404, "NotFound")


def test_a_hello_signed_before_a_rotation_by_another_manager_is_refused(api, inventory, admin):
    machine = Machine("hall-a-cam")
    machine.enrol(api, api.token("enrol", "hall_a"))
    assert machine.hello(api).status_code == 200
    with api.manager.database.writing() as session:  # this manager still has the old secret in memory
        session.get(Station, machine.id).secret_number = 2
    problem(machine.hello(api), 401, "SecretRotated")


def test_a_flood_of_waiting_machines_is_bounded_and_keeps_no_station_out(api, inventory, monkeypatch):
    monkeypatch.setattr(enrolment, "WAITING_LIMIT", 5)
    for number in range(5):
        assert Machine(f"flood-{number}").enrol(api).status_code == 202
    answer = Machine("flood-6").enrol(api)
    assert problem(answer, 429, "TooManyWaiting")["retryable"]
    assert answer.headers["retry-after"]
    station = Machine("hall-a-cam")
    assert station.enrol(api).json()["state"] == "waiting"
    assert len([view for view in api.manager.registry.views() if view.id]) == 5
    assert station.enrol(api, api.token("enrol", "hall_a")).status_code == 201


def test_who_no_longer_asks_is_forgotten(api, inventory, monkeypatch):
    monkeypatch.setattr(enrolment, "WAITING_LIMIT", 2)
    for number in range(2):
        Machine(f"gone-{number}").enrol(api)
    monkeypatch.setattr(enrolment, "now", lambda: time.time() + enrolment.STALE_AFTER + 1)
    assert Machine("laptop").enrol(api).status_code == 202
    assert [view.hostname for view in api.manager.registry.views() if view.id] == ["laptop"]


def test_what_is_open_to_all_is_limited_by_address(api):
    api.manager.inventory = Inventory()
    codes = [Machine(f"box-{number}").enrol(api).status_code for number in range(62)]
    assert codes == [202] * 60 + [429] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": "<script>alert(1)</script>"},
        {"hostname": "x" * 256},
        {"hostname": ""},
        {"macs": []},
        {"macs": ["02:00:00:00:01:0g"]},
        {"macs": ["02:00:00:00:01:0a"] * 65},
        {"host_keys": []},
        {"host_keys": ["ssh-ed25519 not-base64!"]},
        {"host_keys": ["ssh-rsa " + host_key().split()[1]]},
        {"host_keys": [host_key() + "\nevil ssh-rsa AAAA"]},
        {"claim": "short"},
        {"claim": "x" * 129},
        {"token": "x" * 129},
        {"station": "hall-a-cam"},
    ],
)
def test_an_enrolment_beyond_its_bounds_is_a_422(api, inventory, wrong):
    body = {"hostname": "hall-a-cam", "macs": ["02:00:00:00:01:0a"], "host_keys": [host_key()], "claim": "c" * 40}
    problem(api.post("/v1/enrolments", json={**body, **wrong}), 422, "InvalidRequest")


def test_comments_of_host_keys_are_not_pinned(api, inventory):
    machine = Machine("hall-a-cam")
    machine.enrol(api, api.token("enrol", "hall_a"), host_keys=[host_key() + " root@<b>"])
    assert api.manager.registry.known_hosts.read_text() == f"hall-a-cam,10.0.0.1 {host_key()}\n"


def test_without_a_usable_inventory_machines_wait_and_nobody_is_accepted(api, inventory, admin):
    inventory.usable = False
    machine = Machine("hall-a-cam")
    assert machine.enrol(api, api.token("enrol", "hall_a")).json()["state"] == "waiting"
    problem(api.post("/v1/stations/hall-a-cam/accept", headers=admin), 503, "InventoryUnusable")
    inventory.usable = True
    assert machine.enrol(api, api.token("enrol", "hall_a")).status_code == 201


def test_neither_claims_nor_secrets_are_kept(api, inventory, tmp_path):
    machine = Machine("hall-a-cam")
    identity, secret = create_token(api.manager.database, "enrol", "hall_a")
    machine.enrol(api, {"Authorization": secret})
    for path in (tmp_path / "data").rglob("*"):
        for canary in (machine.claim, machine.secret, secret):
            assert path.is_dir() or canary.encode() not in path.read_bytes(), path
    assert identity
