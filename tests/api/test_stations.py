"""Hellos and what is made of them: signatures, replay, durability, bounds, views."""

import concurrent.futures
import json
import signal
import time

import pytest

from tests import plain_http
from tests.api.stations_kit import Inventory, Machine, applied, host_key, mac_of, put, put_served, unit
from tests.api.test_door import problem


@pytest.fixture
def inventory(api):
    api.manager.inventory = Inventory()
    return api.manager.inventory


@pytest.fixture
def station(api, inventory):
    return put(api.manager.database, api.manager.registry.secret)


# --- the signature


def test_a_hello_is_answered_with_when_to_come_again_and_nothing_else(api, station):
    answer = station.hello(api)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"next_hello_after", "server_time", "seen_address", "state"}
    assert 4 <= answer.json()["next_hello_after"] <= 5
    assert answer.json()["seen_address"] == "testclient"
    assert abs(answer.json()["server_time"] - time.time()) < 5
    assert answer.json()["state"] == "new"


def test_the_times_to_come_again_are_spread(api, station):
    assert len({station.hello(api).json()["next_hello_after"] for _ in range(8)}) > 1


def test_without_an_inventory_hellos_work(api):
    station = put(api.manager.database, api.manager.registry.secret)
    assert station.hello(api).json()["state"] == "new"
    api.manager.inventory = Inventory()
    api.manager.inventory.usable = False
    assert station.hello(api).json()["state"] == "new"


def test_every_part_of_a_hello_is_signed(api, station):
    content = json.dumps(station.body()).encode()
    good = station.headers(content, counter=1)
    other = json.dumps(station.body(uptime=7.0)).encode()
    problem(api.post("/v1/hello", content=other, headers=good), 401, "BadSignature")
    for name, value in (
        ("Stationmaster-Time", f"{time.time() + 1:.3f}"),
        ("Stationmaster-Boot", "0000-0000-0000"),
        ("Stationmaster-Counter", "9"),
        ("Stationmaster-Signature", "v1=" + "0" * 64),
    ):
        answer = api.post("/v1/hello", content=content, headers={**good, name: value})
        assert "server_time" in problem(answer, 401, "BadSignature"), name
    for_another_path = station.headers(content, path="/v1/enrolments", counter=1)
    problem(api.post("/v1/hello", content=content, headers=for_another_path), 401, "BadSignature")
    assert api.post("/v1/hello", content=content, headers=good).status_code == 200


def test_another_stations_signature_is_refused(api, station):
    other = put(api.manager.database, api.manager.registry.secret, "hall-a-enc")
    other.id = station.id
    problem(other.hello(api), 401, "BadSignature")
    unknown = put(api.manager.database, api.manager.registry.secret, "hall-b-cam")
    unknown.id = "00000000-0000-0000-0000-000000000000"
    problem(unknown.hello(api), 401, "BadSignature")


@pytest.mark.parametrize("name", ["Station", "Time", "Boot", "Counter", "Signature"])
@pytest.mark.parametrize("value", [None, "", "x" * 100, "-1", "١", "<b>"])  # noqa: RUF001
def test_a_header_that_is_missing_or_malformed_is_a_401(api, station, name, value):
    content = json.dumps(station.body()).encode()
    headers = station.headers(content, counter=1)
    del headers[f"Stationmaster-{name}"]
    given = [*headers.items(), *([(f"Stationmaster-{name}", value.encode())] if value is not None else [])]
    given = [(key.encode(), text if isinstance(text, bytes) else text.encode()) for key, text in given]
    answer = api.post("/v1/hello", content=content, headers=given)
    assert problem(answer, 401, "NotSigned")["action"]


def test_wrong_signatures_of_one_address_are_limited_and_right_ones_are_not(api, station):
    content = b"{}"
    answers = [api.post("/v1/hello", content=content).status_code for _ in range(61)]
    assert answers[-1] == 429
    assert set(answers[:60]) == {401}
    assert station.hello(api).status_code == 200


# --- freshness


def test_a_counter_only_grows_within_a_boot(api, station):
    content = json.dumps(station.body()).encode()
    headers = station.headers(content, counter=5)
    assert api.post("/v1/hello", content=content, headers=headers).status_code == 200
    assert problem(api.post("/v1/hello", content=content, headers=headers), 409, "Replayed")["server_time"]
    lower = station.headers(content, counter=4)
    problem(api.post("/v1/hello", content=content, headers=lower), 409, "Replayed")


def test_a_boot_that_was_left_does_not_come_again(api, station):
    first = station.boot
    assert station.hello(api).status_code == 200
    station.reboot()
    assert station.hello(api).status_code == 200
    assert api.manager.registry.view("hall-a-cam").presence == "rebooted"
    station.boot, station.counter = first, 1000
    problem(station.hello(api), 409, "BootLeft")


@pytest.mark.parametrize("skew", [-31, 31, 1e9, -1e9])
def test_a_time_that_is_not_ours_is_refused_with_ours(api, station, skew):
    told = problem(station.hello(api, at=time.time() + skew), 409, "ClockSkew")
    assert abs(told["server_time"] - time.time()) < 5
    assert station.hello(api, at=told["server_time"]).status_code == 200


def test_within_half_a_minute_a_clock_may_differ(api, station):
    assert station.hello(api, at=time.time() - 25).status_code == 200


def test_a_machine_with_other_addresses_is_not_the_station(api, inventory, station):
    station.macs = ["02:00:00:99:99:99"]
    problem(station.hello(api), 409, "MachineChanged")
    inventory.stations["hall-a-cam"].mac = "02:00:00:99:99:99"  # the crew wrote the new card's address down
    assert station.hello(api).status_code == 200


def test_a_boot_id_that_was_not_signed_is_refused(api, station):
    problem(station.hello(api, boot_id="1234-5678-9abc"), 422, "InvalidRequest")


def test_what_was_answered_survives_a_kill_and_is_refused_then(serve):
    manager = serve()
    station = put_served(manager)
    with plain_http.Client(base_url=manager.url) as client:
        station.counter = 1
        content = json.dumps(station.body()).encode()
        headers = station.headers(content)
        assert client.post("/v1/hello", content=content, headers=headers).status_code == 200
    manager.stop(signal.SIGKILL)
    manager.start()
    with plain_http.Client(base_url=manager.url) as client:
        problem(client.post("/v1/hello", content=content, headers=headers), 409, "Replayed")
        assert station.hello(client).status_code == 200


def test_sixty_hellos_within_two_seconds_are_all_taken_once(serve):
    manager = serve()
    stations = [put_served(manager, f"s{number}") for number in range(60)]

    def speak(station):
        with plain_http.Client(base_url=manager.url) as client:
            station.counter = 1
            content = json.dumps(station.body()).encode()
            headers = station.headers(content)
            return [client.post("/v1/hello", content=content, headers=headers).status_code for _ in range(2)]

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        assert list(pool.map(speak, stations)) == [[200, 409]] * 60


def test_the_same_hello_at_the_same_moment_is_taken_once(serve):
    manager = serve()
    station = put_served(manager)
    station.counter = 1
    content = json.dumps(station.body()).encode()
    headers = station.headers(content)

    def speak(_):
        return plain_http.post(f"{manager.url}/v1/hello", content=content, headers=headers).status_code

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = sorted(pool.map(speak, range(20)))
    assert answers == [200] + [409] * 19


def test_a_database_that_takes_nothing_is_a_retryable_answer(api, station, monkeypatch):
    monkeypatch.setattr(api.manager.registry._writer, "_write", lambda batch: 1 / 0)
    assert problem(station.hello(api), 503, "NotStored")["retryable"]
    monkeypatch.undo()
    assert station.hello(api).status_code == 200


# --- what a hello may say


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": "x" * 256},
        {"macs": ["<script>"]},
        {"macs": ["02:00:00:00:01:0a"] * 65},
        {"units": {f"u{n}": unit() for n in range(201)}},
        {"units": {"u": unit(status="x" * 1001)}},
        {"figures": {"ingest/main": {"a": ["nested"]}}},
        {"figures": {"ingest/main": {"x" * 65: 1}}},
        {"state": {"held": [{"unit": "u"}]}},
        {"uptime": "soon"},
        {"applied": "no hash"},
    ],
)
def test_a_hello_beyond_its_bounds_is_a_422_that_repeats_nothing_of_it(api, station, wrong):
    answer = station.hello(api, **wrong)
    assert "<script>" not in json.dumps(problem(answer, 422, "InvalidRequest"))
    assert station.hello(api).status_code == 200


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"uptime": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_hello_is_a_422(api, station, content):
    problem(api.post("/v1/hello", content=content, headers=station.headers(content, counter=1)), 422, "InvalidRequest")


def test_a_hello_too_large_is_a_413(api, station):
    problem(station.hello(api, agent_version="x" * (1 << 20)), 413, "BodyTooLarge")


def test_numbers_that_json_lacks_are_refused(api, station):
    content = json.dumps(station.body(uptime=float("nan"))).encode()
    problem(api.post("/v1/hello", content=content, headers=station.headers(content, counter=1)), 422, "InvalidRequest")


def test_what_a_station_says_comes_back_as_data(api, station):
    text = "<img src=x onerror=alert(1)> {{ 7 * 7 }} \x00 \u2028 'quoted' %s"
    assert station.hello(api, **applied(units={"u.service": unit(status=text)})).status_code == 200
    answer = api.get("/v1/stations/hall-a-cam", headers=api.token("read"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["said"]["units"]["u.service"]["status"] == text


def test_what_a_newer_agent_adds_is_dropped(api, station):
    assert station.hello(api, another={"x": 1}).status_code == 200
    assert "another" not in api.manager.registry.view("hall-a-cam").said


# --- views


def test_wanted_stands_next_to_what_is(api, inventory, station):
    headers = api.token("read")
    listed = {entry["name"]: entry for entry in api.get("/v1/stations", headers=headers).json()}
    assert list(listed) == ["hall-a-cam", "hall-a-enc", "hall-b-cam", "storage"]
    assert (listed["hall-a-enc"]["state"], listed["hall-a-enc"]["room"]) == ("waiting", "hall_a")
    assert (listed["hall-a-cam"]["state"], listed["hall-a-cam"]["presence"]) == ("new", "awaited")
    inventory.hashes["hall-a-cam"] = "aa"
    assert station.hello(api, **applied()).json()["state"] == "ready"
    inventory.hashes["hall-a-cam"] = "bb"
    told = api.get("/v1/stations/hall-a-cam", headers=headers).json()
    assert (told["state"], told["wanted"], told["applied"], told["presence"]) == ("drifted", "bb", "aa", "present")
    assert told["said"]["units"]["stationmaster-ingest@main.service"]["healthy"] is True
    assert told["host_keys"][0].startswith("ssh-ed25519 SHA256:")
    assert [entry["name"] for entry in api.get("/v1/stations?room=hall_b", headers=headers).json()] == ["hall-b-cam"]
    assert [entry["name"] for entry in api.get("/v1/stations?state=drifted", headers=headers).json()] == ["hall-a-cam"]
    assert len(api.get("/v1/stations?limit=2", headers=headers).json()) == 2


def test_a_station_taken_out_of_the_inventory_is_unassigned(api, inventory, station):
    del inventory.stations["hall-a-cam"]
    assert station.hello(api).json()["state"] == "unassigned"


def test_a_station_that_is_not_there_is_a_404(api, inventory):
    problem(api.get("/v1/stations/<b>", headers=api.token("read")), 404, "NotFound")


def test_a_planned_shutdown_says_so_until_the_next_hello(api, station):
    station.hello(api, shutdown=True)
    assert api.manager.registry.view("hall-a-cam").presence == "shutdown"
    station.reboot()
    station.hello(api)
    assert api.manager.registry.view("hall-a-cam").presence == "rebooted"


def test_in_order_is_only_what_agrees_in_all(api, inventory, station):
    def in_order(name="hall-a-cam", wanted="aa"):
        return name in api.manager.registry.all_in_order({name: wanted})

    assert not in_order()
    station.hello(api, **applied())
    assert in_order()
    assert not in_order(wanted="bb")
    assert not in_order("hall-a-enc")
    for wrong in (
        {"integrity": False},
        {"integrity": None},
        {"units": {"u": unit(healthy=False)}},
        {"wanted": "cc"},
        {"shutdown": True},
        {"state": {"held": [{"unit": "*", "reason": "pinned"}]}},
    ):
        station.hello(api, **applied(**wrong))
        assert not in_order(), wrong
    station.hello(api, **applied())
    assert api.manager.registry.all_in_order({"hall-a-cam": "aa", "hall-a-enc": "aa"}) == {"hall-a-cam"}
    assert api.manager.registry.all_in_order({}) == set()


def test_subscribers_hear_each_hello_and_one_that_fails_harms_nobody(api, station):
    heard = []
    api.manager.registry.subscribe(lambda view: 1 / 0)
    api.manager.registry.subscribe(lambda view: heard.append((view.name, view.said["uptime"])))
    station.hello(api, uptime=7.0)
    station.hello(api, uptime=8.0)
    deadline = time.monotonic() + 5
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert heard == [("hall-a-cam", 7.0), ("hall-a-cam", 8.0)]


def test_the_record_shows_what_was_noted_newest_first_and_is_bounded(api, inventory, station):
    registry = api.manager.registry
    registry.note("hall-a-enc", "pushed", {"nobody": "is enrolled as it"})
    for number in range(205):
        registry.note("hall-a-cam", "pushed", {"number": number})
    told = api.get("/v1/stations/hall-a-cam", headers=api.token("read")).json()["registrations"]
    assert [entry["result"]["number"] for entry in told] == list(range(204, 4, -1))


def test_pinned_keys_are_in_known_hosts_under_name_and_address(api, inventory, station):
    path = api.manager.registry.known_hosts
    assert path.read_text() == f"hall-a-cam,10.0.0.1 {host_key('hall-a-cam')}\n"
    inventory.stations["hall-a-cam"].address = "10.0.0.77"
    assert api.manager.registry.known_hosts.read_text().startswith("hall-a-cam,10.0.0.77 ")


def test_secrets_are_not_in_the_data_but_for_the_key(api, station, tmp_path):
    station.hello(api)
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or station.secret.encode() not in path.read_bytes(), path
    assert (tmp_path / "data" / "station-key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data" / "ssh/id_ed25519").stat().st_mode & 0o777 == 0o600


def test_the_openapi_document_opens_nothing_but_enrolments(api):
    document = api.get("/openapi.json").json()
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/")
    }
    assert [key for key, operation in operations.items() if not operation.get("security")] == [
        ("post", "/v1/enrolments")
    ]
    assert operations["post", "/v1/hello"]["security"] == [{"hello": []}]


def test_a_machine_without_a_hello_is_no_reason_to_fail(api, inventory):
    Machine("laptop").enrol(api)
    put(api.manager.database, api.manager.registry.secret, "hall-a-enc", macs=[mac_of("hall-a-enc")])
    assert api.get("/v1/stations", headers=api.token("read")).status_code == 200
    assert api.get("/v1/stations/hall-a-enc", headers=api.token("read")).status_code == 200
    assert api.get("/v1/stations/storage", headers=api.token("read")).status_code == 200
