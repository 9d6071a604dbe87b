"""The interface of the original manager of RadioVIS: what a server made for it asks, and the answers that it takes."""

import json
import threading

import pytest
from anyio.from_thread import start_blocking_portal

from api import broadcasters, radiovis
from api.access import SCOPES
from api.clock import now
from api.guard import RateLimit
from api.tables import Message
from tests.api.test_door import problem
from tests.api.visuals_kit import HIDDEN, LOGO, VisualsScene, message

ONE = "/topic/fm/ce1/c221/09580/"
PASSWORDS = [("1.desk", "in clear"), ("2.night", HIDDEN)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = VisualsScene(tmp_path_factory.mktemp("radiovis"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def empty(scene):
    with scene.manager.database.writing() as session:
        session.query(Message).delete()


def call(scene, name, method="GET", secret=None, **form):
    secret = secret or scene.token("visuals")["Authorization"].removeprefix("Bearer ")
    return scene.api.request(method, f"/action/radiovis/api/{secret}/{name}", data=form)


def told(scene, name, **form):
    answer = call(scene, name, **form)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_login_is_judged_with_the_texts_of_the_original(scene, method):
    def judged(username, password, ip):
        return call(scene, "check_auth", method, username=username, password=password, ip=ip).json()

    for username, password in PASSWORDS:
        assert judged(username, password, "192.0.2.7") == {"result": True}
        assert judged(username, password + "x", "192.0.2.7") == {"result": False, "error": "Wrong password"}
    assert judged("9.desk", "in clear", "192.0.2.7") == {"result": False, "error": "No station"}
    assert judged("1.none", "in clear", "192.0.2.7") == {"result": False, "error": "Wrong username"}
    assert judged("1.desk", "in clear", "198.51.100.7") == {"result": False, "error": "IP not allowed"}
    assert judged("1.desk", "in clear", "") == {"result": True}
    assert judged("", "", "") == {"result": False, "error": "No station"}


def test_channels_are_told_by_station_and_in_pairs_with_their_ids(scene):
    assert told(scene, "get_channels", station_id="1") == {"list": [ONE, "/topic/dab/ce1/ce15/c221/0/"]}
    assert told(scene, "get_channels", station_id="9") == {"list": []}
    every = told(scene, "get_all_channels")["list"]
    assert [topic for topic, _ in every] == [ONE, "/topic/dab/ce1/ce15/c221/0/", "/topic/id/two.example/2/"]
    assert len({number for _, number in every}) == 3
    assert told(scene, "get_all_vis_channels")["list"] == every[:1]


def test_the_default_of_a_channel_is_told_by_its_id(scene):
    (_, number), (_, without), _ = told(scene, "get_all_channels")["list"]
    assert told(scene, "get_channel_default", id=number) == {
        "info": {
            "id": number, "orga": "1", "name": "One", "filename": "logo.png", "clean_filename": "logo.png",
            "radiotext": "Radio One", "radiolink": "https://www.example.org/", "public_url": LOGO,
        }
    }  # fmt: skip
    for unknown in (without, "1", "x"):
        assert told(scene, "get_channel_default", id=unknown) == {"info": None}


def test_a_country_has_a_code(scene):
    assert told(scene, "get_gcc", cc="ch") == {"gcc": "4e1"}
    assert told(scene, "get_gcc", cc="GB", pi="c221") == {"gcc": "ce1"}
    assert told(scene, "get_gcc", cc="zz") == told(scene, "get_gcc") == {"gcc": None}
    assert set(radiovis.FIRST_DIGIT) <= set(broadcasters.topics.ECC)


def test_what_is_logged_is_in_our_log_and_cleaned_without_touching_others(scene):
    headers = json.dumps({"message-id": "7", "link": "https://www.example.org/", "number": 1})
    at = now() - 100
    for _ in range(2):
        told(scene, "add_log", topic=f"{ONE}text", message="TEXT Hello", headers=headers, timestamp=at)
    scene.logged(message("TEXT ours", when=at))
    rows = scene.api.get("/v1/visuals/messages", headers=scene.token("read")).json()["messages"]
    assert [row["body"] for row in rows] == ["TEXT ours", "TEXT Hello"]
    assert rows[1]["headers"] == {"message-id": "7", "link": "https://www.example.org/", "number": "1"}
    assert rows[1]["source"] == "radiovis"
    told(scene, "cleanup_logs", max_age=200)
    assert len(scene.api.get("/v1/visuals/messages", headers=scene.token("read")).json()["messages"]) == 2
    told(scene, "cleanup_logs", max_age=50)
    rows = scene.api.get("/v1/visuals/messages", headers=scene.token("read")).json()["messages"]
    assert [row["body"] for row in rows] == ["TEXT ours"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("add_log", {"topic": ONE, "headers": "{"}),
        ("add_log", {"topic": ONE, "headers": "[]"}),
        ("add_log", {"message": "TEXT x"}),
        ("add_log", {"topic": ONE, "timestamp": "nan"}),
        ("add_log", {"topic": ONE, "timestamp": "now"}),
        ("cleanup_logs", {}),
        ("cleanup_logs", {"max_age": "day"}),
        ("get_gcc", {str(number): "x" for number in range(200)}),
    ],
)
def test_a_form_that_says_nothing_is_refused(scene, name, form):
    assert problem(call(scene, name, **form), 422, "InvalidForm")


def test_a_wrong_secret_is_a_page_that_is_not_there(scene):
    tokens = [scene.token(scope) for scope in SCOPES if scope not in ("visuals", "admin")]
    tokens.append(scene.token("visuals", "hall_a"))
    secrets = ["x", "smt_wrong", *(one["Authorization"].removeprefix("Bearer ") for one in tokens)]
    for secret in secrets:
        for name in (*radiovis.OPERATIONS, "else"):
            assert call(scene, name, secret=secret).status_code == 404
    assert call(scene, "else").status_code == 404
    assert call(scene, "get_all_channels", "DELETE").status_code == 405


def test_who_guesses_is_stopped(scene, monkeypatch):
    monkeypatch.setattr(scene.manager, "open_limit", RateLimit(3))
    statuses = [call(scene, "get_all_channels", secret=f"smt_{number}").status_code for number in range(5)]
    assert statuses == [404] * 3 + [429] * 2
    assert told(scene, "get_all_channels")


def test_many_logins_at_a_time_are_all_answered(scene):
    answers = []
    login = dict(zip(("username", "password"), PASSWORDS[0], strict=True))
    work = [
        threading.Thread(target=lambda: answers.append(call(scene, "check_auth", **login).json())) for _ in range(6)
    ]
    with start_blocking_portal() as scene.api.portal:  # one loop for all, as the manager has
        for one in work:
            one.start()
        for one in work:
            one.join()
    scene.api.portal = None
    assert answers == [{"result": True}] * 6
