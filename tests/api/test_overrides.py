"""A message of the crew on the screens of a room: one at a time, for some minutes, and who set it is known."""

import threading
from datetime import datetime

import pytest

from api import overrides
from api.clock import now
from api.database import Database
from api.retention import Retention
from api.settings import Settings
from api.tables import Audit, Override
from tests.api.test_door import problem
from tests.api.visuals_kit import VisualsScene

TEXT = "The next talk begins 15 minutes later."


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = VisualsScene(tmp_path_factory.mktemp("overrides"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def empty(scene):
    with scene.manager.database.writing() as session:
        session.query(Override).delete()


def put(scene, room="hall_a", scope="operate", limit=None, **body):
    told = {"text": TEXT, "minutes": 20, **body}
    return scene.api.post(f"/v1/rooms/{room}/override", json=told, headers=scene.token(scope, limit))


def running(scene, room="hall_a"):
    answer = scene.api.get(f"/v1/rooms/{room}/override", headers=scene.token("read"))
    assert answer.status_code == 200, answer.text
    return answer.json()["override"]


def end(scene, room="hall_a", limit=None):
    return scene.api.delete(f"/v1/rooms/{room}/override", headers=scene.token("operate", limit))


def seconds(told):
    return datetime.fromisoformat(told).timestamp()


def test_an_override_tells_who_set_it_and_until_when(scene):
    assert running(scene) is None
    answer = put(scene, link="https://www.example.org/delay")
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made == running(scene)
    assert (made["room"], made["text"], made["link"]) == ("hall_a", TEXT, "https://www.example.org/delay")
    assert seconds(made["until"]) - seconds(made["since"]) == pytest.approx(20 * 60)
    assert abs(seconds(made["since"]) - now()) < 5
    assert made["shown"] == {}
    assert running(scene, "hall_b") is None
    with scene.manager.database.reading() as session:
        last = session.query(Audit).order_by(Audit.id.desc()).first()
        assert (last.action, last.who, last.asked["text"], last.resolved) == (
            "override", made["author"], TEXT, {"override": made["id"]},
        )  # fmt: skip


def test_another_one_takes_its_place(scene):
    first, second = put(scene).json(), put(scene, text="Another").json()
    assert running(scene)["id"] == second["id"]
    with scene.manager.database.reading() as session:
        assert session.get(Override, first["id"]).ended_at is not None
        assert len(overrides.running(session)) == 1


def test_it_ends_by_its_time_and_by_hand(scene):
    made = put(scene).json()
    with scene.manager.database.writing() as session:
        session.get(Override, made["id"]).until = now() - 0.1
    assert running(scene) is None
    problem(end(scene), 404, "NotFound")
    put(scene)
    assert end(scene).status_code == 204
    assert running(scene) is None
    with scene.manager.database.reading() as session:
        assert session.query(Audit).order_by(Audit.id.desc()).first().action == "end-override"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": "\x00\x1b"}, "text"),
        ({"text": "x" * 501}, "text"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 1441}, "minutes"),
        ({"minutes": "5"}, "minutes"),
        ({"link": "javascript:alert(1)"}, "link"),
        ({"link": "https://x/ y"}, "link"),
        ({"link": "https://x/\n"}, "link"),
        ({"link": "https://x/" + "y" * 1000}, "link"),
        ({"room": "hall_b"}, "room"),
    ],
)
def test_what_no_screen_can_show_is_refused(scene, body, path):
    told = {"text": TEXT, "minutes": 20, **body}
    answer = scene.api.post("/v1/rooms/hall_a/override", json=told, headers=scene.token("operate"))
    assert path in problem(answer, 422, "InvalidRequest")["detail"]
    assert running(scene) is None


def test_a_text_becomes_one_line_of_letters(scene):
    assert put(scene, text="  Grüße\r\n an\x1b[31m\tall\u202e ").json()["text"] == "Grüße an[31m all"


def test_a_room_that_is_not_there_has_none(scene):
    for answer in (put(scene, "hall_x"), end(scene, "hall_x"), put(scene, "services")):
        problem(answer, 404, "NotFound")
    problem(scene.api.get("/v1/rooms/hall_x/override", headers=scene.token("read")), 404, "NotFound")


def test_a_token_of_one_room_shows_and_ends_nothing_in_another(scene):
    problem(put(scene, limit="hall_b"), 403, "RoomNotAllowed")
    assert put(scene, limit="hall_a").status_code == 200
    problem(end(scene, limit="hall_b"), 403, "RoomNotAllowed")
    assert running(scene) is not None
    assert end(scene, limit="hall_a").status_code == 204


def show(scene, identity, source="vis1/main", room=None):
    told = {"source": source}
    return scene.api.post(f"/v1/visuals/overrides/{identity}/shown", json=told, headers=scene.token("visuals", room))


def test_signage_tells_that_it_is_on_the_screens_and_the_first_time_counts(scene):
    made = put(scene).json()
    for source in ("vis1/main", "vis1/main", "vis2/main"):
        assert show(scene, made["id"], source).status_code == 204
    shown = running(scene)["shown"]
    assert set(shown) == {"vis1/main", "vis2/main"}
    before = dict(shown)
    assert show(scene, made["id"]).status_code == 204
    assert running(scene)["shown"] == before
    problem(show(scene, "none"), 404, "NotFound")
    problem(show(scene, made["id"], "nowhere"), 422, "InvalidRequest")
    problem(show(scene, made["id"], room="hall_b"), 403, "RoomNotAllowed")
    assert show(scene, made["id"], room="hall_a").status_code == 204


def test_no_more_instances_are_kept_than_an_event_has(scene, monkeypatch):
    monkeypatch.setattr(overrides, "SOURCES", 2)
    made = put(scene).json()
    for number in range(4):
        assert show(scene, made["id"], f"vis{number}/main").status_code == 204
    assert len(running(scene)["shown"]) == 2


def test_of_those_who_set_one_at_a_time_one_wins(postgres, tmp_path, scene, monkeypatch):
    database = Database(postgres)
    database.migrate()
    monkeypatch.setattr(scene.manager, "database", database)
    for scope in ("operate", "read"):
        scene.api.token(scope)
    token, answers = scene.api.token("operate"), []

    def press():
        body = {"text": TEXT, "minutes": 20}
        answers.append(scene.api.post("/v1/rooms/hall_a/override", json=body, headers=token).status_code)

    work = [threading.Thread(target=press) for _ in range(8)]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert answers == [200] * 8
    with database.reading() as session:
        assert len(overrides.running(session, "hall_a")) == 1
        assert session.query(Override).count() == 8
    database.close()


def test_old_ones_go(scene, tmp_path):
    made = put(scene).json()
    with scene.manager.database.writing() as session:
        session.get(Override, made["id"]).until = now() - 2 * 86400
    retention = Retention(Settings(data=scene.manager.settings.data, retention_days=3), scene.manager.database)
    retention.sweep()
    with scene.manager.database.reading() as session:
        assert session.get(Override, made["id"]) is not None
    Retention(Settings(data=scene.manager.settings.data, retention_days=1), scene.manager.database).sweep()
    with scene.manager.database.reading() as session:
        assert session.get(Override, made["id"]) is None
