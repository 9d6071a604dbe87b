"""What stations that push slides and texts get from the manager and tell it, and what it knows of their topics."""

import json
import threading
import time

import pytest
from sqlalchemy import func, select

from api import broadcasters, messages, visuals
from api.access import SCOPES
from api.clock import now
from api.database import Database
from api.hashes import hash_of
from api.manager import Manager
from api.messages import Search
from api.retention import MESSAGES, Retention
from api.settings import Settings
from api.tables import Message, Override
from station.visuals import passwords
from stationmaster.commands import token
from stationmaster.model import Event, Instance, Room, Station
from tests.api.conftest import Api
from tests.api.run_kit import wait_for
from tests.api.test_door import problem
from tests.api.visuals_kit import BROADCASTERS, HASH, HIDDEN, TOKEN, VisualsScene, message

DIRECTORY = "/v1/visuals/directory"
ONE = "/topic/fm/ce1/c221/09580/"
PROMPT = 4
"""Seconds until who waits knows, on a machine that does much else; it is looked twice a second."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = VisualsScene(tmp_path_factory.mktemp("visuals"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def empty(scene):
    with scene.manager.database.writing() as session:
        session.query(Message).delete()
        session.query(Override).delete()


def directory(scene, etag="", **query):
    scene.manager.directory._due = 0.0  # what other tests looked at
    headers = {**scene.token("visuals"), **({"If-None-Match": etag} if etag else {})}
    return scene.api.get(DIRECTORY, params=query, headers=headers)


def test_the_token_that_the_inventory_gives_the_servers_is_one_of_scope_visuals(scene):
    ours = {"Authorization": f"Bearer {TOKEN}"}
    assert scene.api.get(DIRECTORY, headers=ours).status_code == 200
    problem(scene.api.get("/v1/visuals/messages", headers=ours), 403, "ScopeMissing")
    for wrong in (TOKEN[:-1], TOKEN + "x"):
        assert scene.api.get(DIRECTORY, headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    assert TOKEN not in repr(scene.manager.inventory.current())


def test_a_short_token_of_the_inventory_is_none_of_the_managers():
    short, long = "x" * 15, "x" * 16
    stations = {
        name: Station(name, None, None, None, [], {"visuals": {"main": Instance("visuals", "main", {"token": token})}})
        for name, token in (("one", short), ("two", long))
    }
    assert broadcasters.tokens(Event("demo", "Demo", "", {}, stations)) == {hash_of(long)}


def listed(scene, **query):
    answer = scene.api.get("/v1/visuals/messages", params=query, headers=scene.token("read"))
    assert answer.status_code == 200, answer.text
    return answer.json()


def bodies(scene, **query):
    return [one["body"] for one in listed(scene, **query)["messages"]]


def test_the_command_line_makes_tokens_of_each_scope():
    assert tuple(token.SCOPES) == SCOPES


def test_the_directory_has_the_broadcasters_of_all_servers_and_no_password(scene):
    answer = directory(scene)
    assert answer.status_code == 200
    found = answer.json()
    assert found["revision"] == scene.manager.inventory.current().revision
    assert found["overrides"] == []
    assert set(found["broadcasters"]) == {"1", "2"}
    one, two = found["broadcasters"]["1"], found["broadcasters"]["2"]
    assert (one["networks"], one["channels"]) == (BROADCASTERS["1"]["networks"], BROADCASTERS["1"]["channels"])
    assert two["channels"] == [{"topic": "/topic/id/two.example/2/"}]
    assert one["users"]["studio"] == HASH
    assert passwords.verify("in clear", one["users"]["desk"])
    assert not passwords.verify("other", one["users"]["desk"])
    assert passwords.verify(HIDDEN, two["users"]["night"])
    assert "in clear" not in answer.text and HIDDEN not in answer.text
    assert one["users"]["desk"].split("$")[3] != two["users"]["night"].split("$")[3]


def test_a_password_of_the_inventory_stays_with_its_process(scene):
    snapshot = scene.manager.inventory.current()
    server = snapshot.event.stations["vis2"].roles["visuals"]["main"]
    assert HIDDEN not in repr(server.options) and HIDDEN not in repr(snapshot.broadcasters)


def test_a_hash_is_the_same_each_time_and_another_for_each_user():
    first = broadcasters.hashed("word", "demo 1.studio")
    assert first == broadcasters.hashed("word", "demo 1.studio")
    assert first.split("$")[3:] != broadcasters.hashed("word", "demo 1.desk").split("$")[3:]
    assert broadcasters.hashed(first, "demo 1.studio") == first


def test_a_channel_with_a_country_is_logged_by_its_code():
    assert broadcasters.converted("/topic/fm/ch/4321/09580/") == "/topic/fm/4e1/4321/09580/"
    for topic in (ONE, "/topic/fm/zz/4321/09580/", "/topic/dab/ce1/ce15/c221/0/"):
        assert broadcasters.converted(topic) == topic


def test_who_has_the_directory_is_told_only_that(scene):
    answer = directory(scene)
    etag = answer.headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        again = directory(scene, known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert directory(scene, '"another"').status_code == 200


def later(work, seconds=0.3):
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer


def waited(scene, etag, wait=20):
    begun = time.monotonic()
    answer = directory(scene, etag, wait=wait)
    return answer, time.monotonic() - begun


@pytest.mark.pace
def test_who_waits_learns_of_an_override_within_a_second_and_of_its_end(scene):
    etag = directory(scene).headers["etag"]
    operator = scene.token("operate")
    body = {"text": "Doors open at ten", "minutes": 5}
    asked = []
    timer = later(lambda: asked.append(scene.api.post("/v1/rooms/hall_a/override", json=body, headers=operator)))
    answer, seconds = waited(scene, etag)
    timer.join()
    assert seconds < PROMPT
    assert answer.status_code == 200
    (told,) = answer.json()["overrides"]
    assert told["id"] == asked[0].json()["id"]
    assert (told["room"], told["text"], told["link"]) == ("hall_a", "Doors open at ten", None)
    assert told["until"] - told["since"] == 300 and abs(told["since"] - now()) < 5
    assert told["author"].startswith("token ")
    with scene.manager.database.writing() as session:
        session.get(Override, told["id"]).until = now() + 0.3
    answer, seconds = waited(scene, directory(scene).headers["etag"])
    assert (answer.status_code, answer.json()["overrides"]) == (200, [])
    assert seconds < PROMPT


@pytest.mark.pace
def test_who_waits_without_a_change_is_answered_when_the_time_is_over(scene):
    answer, seconds = waited(scene, directory(scene).headers["etag"], wait=0.7)
    assert answer.status_code == 304
    assert 0.7 <= seconds < PROMPT
    problem(directory(scene, wait=61), 422, "InvalidRequest")


@pytest.mark.pace
def test_the_end_of_the_manager_keeps_nobody_waiting(scene, monkeypatch):
    ending = threading.Event()
    monkeypatch.setattr(scene.manager, "ending", ending)
    timer = later(ending.set)
    answer, seconds = waited(scene, directory(scene).headers["etag"])
    timer.join()
    assert (answer.status_code, seconds < PROMPT) == (304, True)


def test_who_waits_learns_of_a_new_state_of_the_inventory(scene):
    etag = directory(scene).headers["etag"]
    scene.small.write({"1": {**BROADCASTERS["1"], "networks": []}})
    try:
        answer, _ = waited(scene, etag)
        assert answer.status_code == 200
        assert answer.json()["broadcasters"]["1"]["networks"] == []
    finally:
        scene.small.write()
        wait_for(lambda: directory(scene).json()["broadcasters"]["1"]["networks"])


def test_waiting_costs_no_thread_and_no_connection(scene):
    etag = directory(scene).headers["etag"]
    looks = []
    look = scene.manager.directory._read
    scene.manager.directory._read = lambda: looks.append(threading.get_ident()) or look()
    try:
        before = scene.manager.database.engine.pool.checkedout()
        timer = later(lambda: looks.append(scene.manager.database.engine.pool.checkedout() - before), 0.25)
        waited(scene, etag, wait=0.4)
        timer.join()
        assert 0 in looks
        assert len(looks) <= 4
    finally:
        del scene.manager.directory._read


def test_a_message_is_kept_once_however_often_it_is_told(scene):
    one, two = message("TEXT one"), message("SHOW http://x/1.png", f"{ONE}image")
    assert scene.logged(one, two) == 2
    assert scene.logged(two, one, {**one, "topic": f"{ONE}other"}, one) == 1
    assert scene.logged() == 0
    assert len(listed(scene)["messages"]) == 3


def test_a_message_without_an_id_is_known_by_what_it_says(scene):
    bare = {**message("TEXT one", when=1.0), "headers": {}}
    assert scene.logged(bare, {**bare, "when": 2.0}) == 2
    assert scene.logged(bare) == 0
    long = message("TEXT two", identity="x" * 5000)
    assert scene.logged(long, message("TEXT two", identity="x" * 5001)) == 2
    assert scene.logged(long) == 0
    assert listed(scene)["messages"][0]["headers"]["message-id"].startswith("x" * 5000)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"topic": ""}, "topic"),
        ({"when": -1}, "when"),
        ({"when": 1e20}, "when"),
        ({"when": True}, "when"),
        ({"source": "nowhere"}, "source"),
        ({"source": "a/b/c"}, "source"),
        ({"headers": {"a": 1}}, "headers"),
        ({"body": None}, "body"),
    ],
)
def test_a_message_that_is_none_is_refused_with_all_that_came_with_it(scene, change, path):
    told = {"messages": [message(), {**message(), **change}]}
    answer = scene.api.post("/v1/visuals/log", json=told, headers=scene.token("visuals"))
    assert path in problem(answer, 422, "InvalidRequest")["detail"]
    assert listed(scene)["messages"] == []


def test_too_much_at_once_is_refused(scene):
    headers = scene.token("visuals")
    many = {"messages": [message(str(number)) for number in range(visuals.LOGGED + 1)]}
    problem(scene.api.post("/v1/visuals/log", json=many, headers=headers), 422, "InvalidRequest")
    assert scene.logged(*many["messages"][1:]) == visuals.LOGGED
    large = {"messages": [message("x" * (1 << 20))]}
    problem(scene.api.post("/v1/visuals/log", json=large, headers=headers), 413, "BodyTooLarge")


def test_messages_come_newest_first_page_by_page(scene):
    at = now()
    scene.logged(*(message(f"TEXT {number}", when=at - number // 2) for number in range(7)))
    seen, before = [], None
    while True:
        page = listed(scene, limit=2, **({"before": before} if before else {}))
        seen += [one["body"] for one in page["messages"]]
        before = page["next"]
        if before is None:
            break
        assert len(page["messages"]) == 2
    assert len(seen) == 7
    assert seen == sorted(seen, key=lambda body: int(body[5:]) // 2)
    assert len(set(seen)) == 7


def test_messages_are_found_by_topic_text_and_time(scene):
    scene.logged(
        message("TEXT Grüße", when=1000), message("TEXT 100% _real_", when=2000),
        message("SHOW http://x/1.png", f"{ONE}image", when=3000), message("TEXT else", "/topic/id/x/y/text", when=4000),
    )  # fmt: skip
    assert bodies(scene, topic="C221") == ["SHOW http://x/1.png", "TEXT 100% _real_", "TEXT Grüße"]
    assert bodies(scene, topic="/image") == ["SHOW http://x/1.png"]
    assert bodies(scene, text="grÜ".replace("Ü", "ü")) == ["TEXT Grüße"]
    assert bodies(scene, text="0% _") == ["TEXT 100% _real_"]
    assert bodies(scene, text="0%r") == bodies(scene, text="_e") == bodies(scene, topic="\x00") == []
    assert bodies(scene, since="1970-01-01T00:33:20Z", until="1970-01-01T00:50:00Z") == [
        "SHOW http://x/1.png", "TEXT 100% _real_",
    ]  # fmt: skip
    for wrong in ({"before": "x"}, {"since": "12"}, {"limit": 0}, {"limit": 501}):
        answer = scene.api.get("/v1/visuals/messages", params=wrong, headers=scene.token("read"))
        problem(answer, 422, "InvalidRequest")


def channels(scene):
    answer = scene.api.get("/v1/visuals/channels", headers=scene.token("read"))
    assert answer.status_code == 200, answer.text
    assert "$scrypt" not in answer.text
    return {one["topic"]: one for one in answer.json()}


def test_channels_are_those_of_broadcasters_and_of_rooms_with_signage(scene):
    found = channels(scene)
    assert [(one["topic"], one["broadcaster"], one["room"]) for one in found.values()] == [
        (ONE, "1", None), ("/topic/dab/ce1/ce15/c221/0/", "1", None), ("/topic/id/two.example/2/", "2", None),
        ("/topic/id/small/hall_a/", None, "hall_a"), ("/topic/id/small/hall_a-screen/", None, "hall_a"),
    ]  # fmt: skip
    assert found[ONE]["picture"] == "https://www.example.org/logo.png"
    assert (found[ONE]["age_seconds"], found[ONE]["last_text"], found[ONE]["silent"]) == (None, None, True)


def test_the_domain_of_a_rooms_topics_is_its_signages_its_servers_or_the_events():
    def topics(signage, server=None):
        roles = {"visuals": {"main": Instance("visuals", "main", server or {})},
                 "signage": {"main": Instance("signage", "main", {"to": ["vis/main"], **signage})}}  # fmt: skip
        rooms = {name: Room(name, name, None) for name in ("hall_a", "hall_b")}
        stations = {"vis": Station("vis", None, None, None, [], roles)}
        event = Event("demo", "Demo", "", rooms, stations)
        return [one.topic for room in rooms for one in broadcasters.of_room(event, room)]

    assert topics({"rooms": ["hall_b"]}) == ["/topic/id/demo/hall_b/", "/topic/id/demo/hall_b-screen/"]
    assert len(topics({})) == 4
    assert topics({"rooms": ["hall_b"]}, {"domain": "x.example"})[0] == "/topic/id/x.example/hall_b/"
    assert topics({"rooms": ["hall_b"], "domain": "y"}, {"domain": "x"})[0] == "/topic/id/y/hall_b/"


def test_a_channel_tells_its_last_message_and_whether_it_is_silent(scene):
    at = now()
    scene.logged(
        message("TEXT old", when=at - 9999), message("TEXT new", when=at - 200),
        message("SHOW http://x/1.png", f"{ONE}image", when=at - visuals.SILENT - 60),
    )  # fmt: skip
    one = channels(scene)[ONE]
    assert (one["last_text"]["body"], one["last_picture"]["body"]) == ("TEXT new", "SHOW http://x/1.png")
    assert 200 <= one["age_seconds"] < 210
    assert one["silent"]
    scene.logged(message("TEXT now", when=at))
    assert not channels(scene)[ONE]["silent"]


def test_only_tokens_for_it_and_of_the_whole_event_reach_hashes_and_log(scene):
    for scope in ("read", "operate", "enrol", "board"):
        problem(scene.api.get(DIRECTORY, headers=scene.token(scope)), 403, "ScopeMissing")
    room = scene.token("visuals", "hall_a")
    problem(scene.api.post("/v1/visuals/log", json={"messages": [message()]}, headers=room), 403, "RoomNotAllowed")
    for path in ("/v1/visuals/messages", "/v1/whoami", "/v1/rooms", "/v1/stations"):
        problem(scene.api.get(path, headers=scene.token("visuals")), 403, "ScopeMissing")


@pytest.fixture
def sweeping(tmp_path):
    manager = Manager(Settings(data=tmp_path / "data"))
    yield manager, lambda **settings: Retention(Settings(data=tmp_path / "data", **settings), manager.database).sweep()
    manager.database.close()


def kept(database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Message))


def test_old_messages_go_and_the_oldest_of_too_many(sweeping):
    manager, sweep = sweeping
    at = now()
    rows = [message(f"{number}", when=at - 10 * number) for number in range(MESSAGES + 10)]
    assert messages.store(manager.database, rows) == len(rows)
    sweep()
    assert kept(manager.database) == len(rows)
    sweep(message_seconds=10 * MESSAGES - 5)
    assert kept(manager.database) == MESSAGES
    sweep(message_seconds=95)
    assert kept(manager.database) == 10
    sweep(messages_kept=3)
    with manager.database.reading() as session:
        assert [one.body for one in messages.search(session, Search(), 9).messages] == ["0", "1", "2"]


def test_it_is_the_same_on_postgresql_and_between_two_managers(postgres, tmp_path):
    first, second = Database(postgres), Database(postgres)
    first.migrate()
    rows = [message(f"TEXT {number} \x00", when=number) for number in range(200)]
    rows.append(message("TEXT long", "\N{GRINNING FACE}" * 4000, identity="\N{GRINNING FACE}" * 128))
    counts = []
    work = [threading.Thread(target=lambda one=one, way=way: counts.append(messages.store(one, rows[::way])))
            for one, way in ((first, 1), (second, -1), (first, 1), (second, -1))]  # fmt: skip
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert sum(counts) == 201
    with second.reading() as session:
        page = messages.search(session, Search(text="text 19", until=300.0), 3)
        assert [one.body for one in page.messages] == ["TEXT 199 �", "TEXT 198 �", "TEXT 197 �"]
        more = messages.search(session, Search(text="text 19", before=page.next), 100)
        assert len(more.messages) == 8
        assert messages.last_of(session, ONE + "text").body == "TEXT 199 �"
    first.close()
    second.close()


@pytest.mark.pace
def test_an_override_wakes_who_waits_at_another_manager(scene, postgres, tmp_path):
    both = [Api(Settings(data=tmp_path / name, database_url=postgres)) for name in ("one", "two")]
    for one in both:
        one.manager.inventory = scene.manager.inventory
    waits, acts = both
    try:
        operator, station = acts.token("operate"), waits.token("visuals")
        etag = waits.get(DIRECTORY, headers=station).headers["etag"]
        body = {"text": "Elsewhere", "minutes": 5}
        timer = later(lambda: acts.post("/v1/rooms/hall_b/override", json=body, headers=operator))
        begun = time.monotonic()
        answer = waits.get(DIRECTORY, params={"wait": 20}, headers={**station, "If-None-Match": etag})
        assert time.monotonic() - begun < PROMPT
        timer.join()
        assert [one["text"] for one in answer.json()["overrides"]] == ["Elsewhere"]
    finally:
        for one in both:
            one.manager.database.close()


def test_the_directory_is_json_of_the_shape_that_the_document_tells(scene):
    visuals.DirectoryEntry.model_validate(json.loads(directory(scene).content))
