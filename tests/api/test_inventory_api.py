"""The inventory over HTTP: rooms, roles, findings, and targets that mean what they say."""

import json
from types import SimpleNamespace

import pytest

from api.clock import now
from api.inventory_targets import NAME, resolve
from api.problems import Problem
from api.rooms import WORST_FIRST, worst
from api.settings import Settings
from api.tables import Station
from stationmaster import catalogue, model
from tests.api import event as events
from tests.api.conftest import Api
from tests.api.test_schedule import PRETALX


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A manager that follows a copy of the demo with a schedule; `folder` may be changed and put back."""
    top = tmp_path_factory.mktemp("followed")
    folder = events.copy(top / "inventory")
    (folder / "files/schedule.json").write_bytes(PRETALX)
    with (folder / "group_vars/all/event.yml").open("a") as file:
        file.write("event_schedule: schedule.json\n")
    with Api(Settings(data=top / "data", inventory=folder)) as client:
        client.folder = folder
        client.reader = client.token("read")
        events.until(lambda: client.manager.inventory.is_settled())
        yield client


def problem(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer.json()


def test_rooms_show_wanted_next_to_what_is(followed):
    rooms = followed.get("/v1/rooms", headers=followed.reader).json()
    assert [(room["name"], room["title"], room["number"]) for room in rooms] == [
        ("hall_a", "Hall A", 1),
        ("hall_b", "Hall B", 2),
    ]
    assert {station["name"] for station in rooms[0]["stations"]} == {"hall-a-cam", "hall-a-enc"}
    wanted = followed.manager.inventory.wanted_of("hall-a-cam")
    said = {
        "applied": wanted, "wanted": wanted, "integrity": True, "units": {}, "shutdown": False,
        "state": {"held": [{"unit": "u", "reason": "on air"}], "stopped": {}, "pinned": None, "failed": None,
                  "on_air_until": now() + 3600},
    }  # fmt: skip
    with followed.manager.database.writing() as session:
        session.add(
            Station(
                id="1", name="hall-a-cam", enrolment="enrolled", macs=[], hostname="", host_keys=[], said=said,
                created_at=now(), asked_at=now(), seen_at=now(),
            )
        )  # fmt: skip
    room = followed.get("/v1/rooms/hall_a", headers=followed.reader).json()
    assert [(station["name"], station["state"]) for station in room["stations"]] == [
        ("hall-a-enc", "waiting"),
        ("hall-a-cam", "held"),
    ]
    assert room["state"] == "waiting"
    held = room["stations"][1]
    assert (held["wanted"], held["applied"], held["as_wanted"], held["held"]) == (wanted, wanted, True, ["u"])
    assert room["on_air_until"] == held["on_air_until"] is not None
    problem(followed.get("/v1/rooms/services", headers=followed.reader), 404, "NotFound")
    problem(followed.get("/v1/rooms/hall_a*", headers=followed.reader), 404, "NotFound")


def test_rooms_show_talks_now_and_next(followed, monkeypatch):
    talks = followed.manager.schedule.plan().rooms["hall_a"]
    monkeypatch.setattr("api.rooms.now", lambda: talks[0].start + 1)
    room = followed.get("/v1/rooms/hall_a", headers=followed.reader).json()
    assert (room["now"]["title"], room["next"]["title"]) == ("Opening", "Big data")
    assert room["now"]["start"] == "2026-07-04T08:00:00.000Z"


def test_the_schedule_is_told_by_room(followed):
    told = followed.get("/v1/schedule", headers=followed.reader).json()
    assert (told["format"], told["source"], told["findings"]) == ("json", "schedule.json", [])
    assert {room["room"]: len(room["talks"]) for room in told["rooms"]} == {"hall_a": 2, "hall_b": 1}
    one = followed.get("/v1/schedule?room=hall_b", headers=followed.reader).json()
    assert [room["title"] for room in one["rooms"]] == ["Hall B"]
    problem(followed.get("/v1/schedule?room=x", headers=followed.reader), 404, "NotFound")


def test_roles_are_the_catalogue(followed):
    roles = followed.get("/v1/roles", headers=followed.reader).json()
    rows = catalogue.load().roles
    assert [role["name"] for role in roles] == list(rows)
    for role in roles:
        assert role["options"]["type"] == "object" and role["description"] and role["summary"]
        assert len(role["units"]) == len(rows[role["name"]].units)
    one = followed.get("/v1/roles/ingest", headers=followed.reader).json()
    assert one in roles
    problem(followed.get("/v1/roles/station", headers=followed.reader), 404, "NotFound")


def test_the_check_tells_findings_of_what_is_on_disk(followed):
    told = followed.post("/v1/inventory/check", headers=followed.reader).json()
    assert (told["findings"], told["stations"]) == ([], 6)
    room = followed.folder / "rooms/hall-a.yml"
    kept = room.read_text()
    try:
        room.write_text(kept.replace("    encode:", "    encod:"))
        told = followed.post("/v1/inventory/check", headers=followed.reader).json()
        (found,) = [one for one in told["findings"] if one["error"] == "MissingRoleFactory"]
        assert (found["station"], found["file"], found["suggestion"]) == ("hall-a-enc", "rooms/hall-a.yml", "encode")
        assert str(followed.folder) not in json.dumps(told)
        known = events.until(
            lambda: (one := followed.get("/v1/inventory", headers=followed.reader).json())["newest"]["findings"] and one
        )
        assert known["newest"]["findings"] == told["findings"]
        assert known["in_force"]["stations"] == 6 and known["in_force"]["revision"] != known["newest"]["revision"]
        assert str(followed.folder.parent) not in json.dumps(known)
        room.write_text("rooms: [")
        told = followed.post("/v1/inventory/check", headers=followed.reader).json()
        assert told["stations"] == 0 and told["findings"]
    finally:
        room.write_text(kept)
    events.until(lambda: followed.manager.inventory.is_settled())
    rendering = followed.get("/v1/inventory", headers=followed.reader).json()["rendering"]
    assert rendering == {"done": 6, "total": 6}


def test_an_inventory_that_is_gone_is_a_problem_not_a_crash(followed):
    away = followed.folder.with_name("away")
    followed.folder.rename(away)
    try:
        problem(followed.post("/v1/inventory/check", headers=followed.reader), 503, "InventoryUnusable")
        assert followed.get("/v1/rooms", headers=followed.reader).status_code == 200
    finally:
        away.rename(followed.folder)


@pytest.mark.parametrize("path", ["/v1/rooms", "/v1/schedule", "/v1/rooms/x"])
def test_without_any_inventory_it_is_a_503_with_the_findings(tmp_path, path):
    with Api(Settings(data=tmp_path / "data", inventory=tmp_path / "nothing")) as client:
        told = problem(client.get(path, headers=client.token("read")), 503, "InventoryUnusable")
        assert told["retryable"] and told["findings"] == []
        assert client.get("/v1/inventory", headers=client.token("read")).json()["in_force"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/rooms"), ("GET", "/v1/rooms/x"), ("GET", "/v1/roles"), ("GET", "/v1/roles/x"),
        ("GET", "/v1/inventory"), ("POST", "/v1/inventory/check"), ("GET", "/v1/schedule"),
    ],
)  # fmt: skip
def test_nothing_is_open_without_a_token(followed, method, path):
    problem(followed.request(method, path), 401, "NoValidToken")
    problem(followed.request(method, path, headers=followed.token("enrol", "hall_a")), 403, "ScopeMissing")


def test_the_worst_word_is_shown():
    assert worst("ready", "present") == "ready"
    assert worst("drifted", "lost") == "lost"
    assert worst("failed", "rebooted") == "failed"
    assert worst("ready", "rebooted") == "rebooted"
    assert len(set(WORST_FIRST)) == len(WORST_FIRST)


def event():
    rooms = {name: model.Room(name, name, None) for name in ("hall_a", "hall_b", "empty")}
    names = {"hall-a-cam": "hall_a", "hall-a-enc": "hall_a", "hall-b-cam": "hall_b", "storage": None}
    stations = {name: model.Station(name, rooms.get(room), None, None, [], {}) for name, room in names.items()}
    groups = {"all", "ungrouped", "stations", "rooms", "services", "crew", *rooms}
    return model.Event("demo", "Demo", "", rooms, stations, groups=groups)


def target(**one):
    return SimpleNamespace(**{"everything": None, "room": None, "station": None, **one})


@pytest.mark.parametrize(
    ("one", "names"),
    [
        ({"station": "storage"}, ["storage"]),
        ({"room": "hall_a"}, ["hall-a-cam", "hall-a-enc"]),
        ({"everything": True}, ["hall-a-cam", "hall-a-enc", "hall-b-cam", "storage"]),
    ],
)
def test_a_target_is_exactly_these_stations(one, names):
    assert resolve(event(), target(**one), "apply") == names


@pytest.mark.parametrize(
    ("one", "code"),
    [
        ({"station": "nobody"}, "UnknownStation"), ({"station": "Hall-A-Cam"}, "UnknownStation"),
        ({"station": "storage.example.org"}, "UnknownStation"), ({"station": "localhost"}, "UnknownStation"),
        ({"station": "hall_a"}, "NameOfRoom"), ({"station": "all"}, "NameOfGroup"),
        ({"station": "services"}, "NameOfGroup"), ({"station": "crew"}, "NameOfGroup"),
        ({"room": "Hall A"}, "PatternCharacters"), ({"room": "HALL_A"}, "UnknownRoom"),
        ({"room": "hall_c"}, "UnknownRoom"), ({"room": "storage"}, "NameOfStation"),
        ({"room": "all"}, "NameOfGroup"), ({"room": "rooms"}, "NameOfGroup"), ({"room": "services"}, "NameOfGroup"),
        ({"room": "empty"}, "EmptyRoom"),
        *(
            ({kind: text}, "PatternCharacters")
            for kind in ("station", "room")
            for text in (
                "", " ", "*", "hall*", "hall_a:hall_b", "hall_a,hall_b", "hall_a:&hall_b", "!storage", "~hall", "a[0]",
                "{{ x }}", "@file", "-l", "--limit=all", "storage\n", "storage ", "../x", "stor\u0430ge",
                "a" * 5000 + "*",
            )
        ),
    ],
)  # fmt: skip
def test_anything_else_is_refused(one, code):
    with pytest.raises(Problem) as caught:
        resolve(event(), target(**one), "apply")
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (422, code, False)
    assert len(caught.value.detail) < 400


def test_a_name_that_is_also_a_group_never_reaches_a_run():
    # the check refuses it before; here it stands alone
    both = event()
    both.stations["crew"] = model.Station("crew", both.rooms["hall_b"], None, None, [], {})
    for one in ({"station": "crew"}, {"room": "hall_b"}, {"everything": True}):
        with pytest.raises(Problem) as caught:
            resolve(both, target(**one), "apply")
        assert caught.value.code == "NameOfGroup"
    none = event()
    none.stations.clear()
    with pytest.raises(Problem) as caught:
        resolve(none, target(everything=True), "apply")
    assert caught.value.code == "NoStations"


def test_names_of_the_inventory_pass_the_pattern():
    from stationmaster.rules.names import STATION_NAME

    for name in ("a", "hall-a-cam", "A.b_c-1"):
        assert STATION_NAME.match(name) and NAME.match(name)
