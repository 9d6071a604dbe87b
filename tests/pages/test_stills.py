"""Pictures of the rooms from streams of pictures: which one a card shows, how each stream is, and nothing else."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import problems
from api.pages import media, render, stills
from api.pages.session import session_of
from stationmaster.model import Event, Instance, Room, Station
from tests.pages.near import station
from tests.ports import free_port

LIVE, SLIDE, PREVIEW = (b"\xff\xd8\xff\xe0" + name for name in (b"live", b"slide", b"preview"))
CAMERA, SLIDES, CARD = (f"/streams/{key}/latest?type=jpg" for key in ("camera", "slides", "card"))
INGEST = "/ingest/main/preview.jpg"
TOLD = [
    {"key": "camera", "state": "waiting", "state_text": "cam/main makes no segments"},
    {"key": "slides", "state": "ready", "state_text": "3 pictures"},
    {"key": "none of ours", "state": "ready"},
]
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def near():
    """A station: its web server and its server of pictures in one."""
    with station() as server:
        server.elsewhere = f"http://127.0.0.1:{server.server_port}{SLIDES}"
        server.files = {
            CAMERA: (200, LIVE), SLIDES: (200, SLIDE), INGEST: (200, PREVIEW),
            "/streams": (200, json.dumps({"streams": TOLD}).encode()),
        }  # fmt: skip
        yield server


def event_of(port: int, **more) -> Event:
    """Two rooms and a station of the services, which serves pictures of the first room and of nothing."""
    hall, other, room_a = Room("hall_a", "Hall A", 1), Room("hall_b", "Hall B", 2), "hall_a"
    streams = {
        "slides": {"images": ["a.png"], "room": room_a, "name": "Slides", "method": "tcp_push"},
        "camera": {"from": "cam/main"},
        "card": {"testcard": {}},
        **more,
    }
    web = {"station": Instance("web", "station", {"port": port})}
    ingest = {"main": Instance("ingest", "main", {"preview": {"every": 3}})}
    still = {"main": Instance("stills", "main", {"http_port": port, "streams": streams})}
    stations = {
        "cam": Station("cam", hall, "127.0.0.1", None, [], {"ingest": ingest, "web": web}),
        "far": Station("far", other, "127.0.0.1", None, [], {"web": web}),
        "storage": Station("storage", None, "127.0.0.1", None, [], {"stills": still, "web": web}),
    }
    return Event("e", "E", "", {"hall_a": hall, "hall_b": other}, stations)


@pytest.fixture
def told(near):
    """What the inventory is; a test may put another one there."""
    return SimpleNamespace(event=event_of(near.server_port))


@pytest.fixture
def client(told):
    app = FastAPI()
    problems.install(app)
    app.state.manager = SimpleNamespace(inventory=SimpleNamespace(current=lambda: told))
    app.state.media = media.Media(app.state.manager)
    app.state.stills = stills.States(app.state.media)
    app.dependency_overrides[session_of] = lambda: None
    app.include_router(stills.router)
    app.include_router(media.router)
    with TestClient(app) as made:
        yield made
        made.portal.call(app.state.media.close)


def test_a_room_shows_the_live_stream_which_is_fetched_once_for_all(near, client):
    for _ in range(5):
        answer = client.get("/rooms/hall_a/picture")
        assert (answer.status_code, answer.content) == (200, LIVE)
        assert answer.headers["content-type"] == "image/jpeg"
    assert near.asked == [CAMERA]


def test_many_at_a_time_cost_one(near, client):
    near.late[CAMERA] = 0.1

    async def all_at_once():
        media = client.app.state.media
        (url, *_) = stills.sources(client.app.state.manager.inventory.current().event, "hall_a")
        return await asyncio.gather(*(media.newest(url) for _ in range(20)))

    assert set(client.portal.call(all_at_once)) == {LIVE}
    assert near.asked == [CAMERA]


def test_it_is_renewed(near, client, monkeypatch):
    monkeypatch.setattr(media, "FRESH", 0.0)
    assert client.get("/rooms/hall_a/picture").content == LIVE
    near.files[CAMERA] = (200, LIVE + b"2")
    assert client.get("/rooms/hall_a/picture").content == LIVE + b"2"


@pytest.mark.parametrize(
    "told_of_it", [(503, b"{}"), (404, b"{}"), (200, b"GIF89a"), (200, LIVE + bytes(media.LARGEST)), (302, LIVE)]
)
def test_without_the_stream_a_room_shows_the_ingests_preview(near, client, told_of_it):
    near.files[CAMERA] = told_of_it
    assert client.get("/rooms/hall_a/picture").content == PREVIEW
    assert client.get("/rooms/hall_a/picture").content == PREVIEW
    assert near.asked == [CAMERA, INGEST]  # neither is asked again for each viewer, and no redirect is followed


def test_a_server_that_is_too_slow_does_not_keep_the_preview_away(near, client, monkeypatch):
    monkeypatch.setattr(stills, "PATIENCE", 0.1)
    near.late[CAMERA] = 0.5
    assert client.get("/rooms/hall_a/picture").content == PREVIEW


def test_a_picture_that_comes_byte_by_byte_is_given_up(near, client, monkeypatch):
    monkeypatch.setattr(media, "WHOLE", 0.1)
    near.late[CAMERA] = 0.5
    assert client.get("/rooms/hall_a/picture").content == PREVIEW


def test_without_stream_and_preview_it_shows_what_else_it_has_or_nothing(near, client, monkeypatch):
    monkeypatch.setattr(media, "FRESH", 0.0)
    near.files[CAMERA] = near.files[INGEST] = (503, b"")
    assert client.get("/rooms/hall_a/picture").content == SLIDE
    near.files[SLIDES] = (503, b"")
    assert client.get("/rooms/hall_a/picture").status_code == 204
    assert CARD not in near.asked  # it is in no room


def test_a_room_with_slides_alone_keeps_its_camera(near, told, client):
    del told.event.stations["storage"].roles["stills"]["main"].options["streams"]["camera"]
    assert client.get("/rooms/hall_a/picture").content == PREVIEW
    del told.event.stations["cam"].roles["ingest"]
    assert client.get("/rooms/hall_a/picture").content == SLIDE


def test_who_has_no_pictures_has_none(near, client):
    for room in ("hall_b", "services", "nowhere", "..%2fstreams"):
        assert client.get(f"/rooms/{room}/picture").status_code == 404
    assert near.asked == []


def test_the_rooms_with_pictures_are_those_that_have_a_source_of_one(told):
    for more in ({}, {"b": {"images": [], "room": "hall_b"}}, {"gone": {"testcard": {}, "room": "gone"}}):
        event = event_of(8070, **more)
        assert stills.with_pictures(event) == {name for name in event.rooms if stills.sources(event, name)}
    assert stills.with_pictures(Event("e", "E", "", event.rooms, {})) == set()


def test_a_stream_belongs_to_the_room_that_it_names_or_is_made_in(told):
    told.event = event_of(
        8070, far={"from": "far/main"}, gone={"from": "gone/main"}, b={"images": [], "room": "hall_b"}
    )
    found = {room: [one.key for one in stills.of_room(told.event, room)] for room in ("hall_a", "hall_b", "services")}
    assert found == {"hall_a": ["camera", "slides"], "hall_b": ["far", "b"], "services": ["gone", "card"]}
    told.event.stations["far"].roles["stills"] = {
        "own": Instance("stills", "own", {"streams": {"x": {"testcard": {}}}})
    }
    own = stills.of_room(told.event, "hall_b")
    assert [(one.key, one.server) for one in own[1:]] == [
        ("x", "http://127.0.0.1:8070"), ("b", "http://127.0.0.1:8070"),
    ]  # fmt: skip


def test_the_picture_of_each_stream_comes_through(near, client):
    assert client.get("/media/storage/main/slides/latest.jpg").content == SLIDE
    assert client.get("/media/storage/main/card/latest.jpg").status_code == 204
    assert near.asked == [SLIDES, CARD]


@pytest.mark.parametrize(
    "path",
    [
        "storage/main/nothing/latest.jpg", "cam/main/camera/latest.jpg", "storage/other/slides/latest.jpg",
        "127.0.0.1/main/slides/latest.jpg", "storage/main/..%2f../latest.jpg", "storage/main/slides/next",
        "storage/main/slides/latest", "storage/main/slides%2flatest.jpg%3f/latest.jpg", "storage/main/live.m3u8",
    ],
)  # fmt: skip
def test_nothing_else_is_fetched(near, client, path):
    assert client.get(f"/media/{path}").status_code == 404
    assert near.asked == []


def test_a_key_is_never_more_than_a_part_of_a_path(near, told, client):
    told.event = event_of(near.server_port, **{"../x?y#z": {"testcard": {}}})
    (odd,) = [one for one in stills.streams(told.event) if one.key.startswith("..")]
    assert odd.latest.endswith("/streams/..%2Fx%3Fy%23z/latest?type=jpg")
    assert odd.path == "/media/storage/main/..%2Fx%3Fy%23z/latest.jpg"


def states(text: str) -> list[str]:
    return [part.split("</span>")[0].partition('">')[2] for part in text.split('class="word ')[1:]]


def test_the_streams_of_a_room_are_told_with_how_they_are(near, client):
    for _ in range(3):
        text = client.get("/rooms/hall_a/streams").text
        assert states(text) == ["waiting", "ready"]
    assert near.asked == ["/streams"]  # once for all that look
    assert "cam/main makes no segments" in text and "live from cam/main" in text and "tcp_push" in text
    assert 'data-live="/media/storage/main/camera/latest.jpg"' in text
    assert states(client.get("/rooms/services/streams").text) == ["unknown"]
    assert client.get("/rooms/hall_b/streams").text.strip() == ""
    assert client.get("/rooms/nowhere/streams").status_code == 404


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"), (200, b"[]"), (200, b"{"), (200, b'{"streams": 5}'), (200, b'{"streams": [5]}'),
        (200, b'{"streams": [{}]}'), (200, b'{"streams": ' + b"[" * 5000),
    ],
    ids=["500", "list", "cut", "number", "row", "empty", "deep"],
)  # fmt: skip
def test_a_server_that_does_not_tell_is_away(near, client, answer):
    near.files["/streams"] = answer
    assert states(client.get("/rooms/hall_a/streams").text) == ["unknown", "unknown"]


def test_what_a_server_says_is_text_and_short(near, client):
    odd = {"key": "camera", "state": EVIL, "state_text": EVIL + "x" * 5000}
    near.files["/streams"] = (200, json.dumps({"streams": [odd]}).encode())
    text = client.get("/rooms/hall_a/streams").text
    assert states(text) == ["unknown", "unknown"]
    assert "<script" not in text and len(text) < 3000


def test_a_server_that_does_not_run_is_told(told, client):
    told.event = event_of(free_port())
    text = client.get("/rooms/hall_a/streams").text
    assert states(text) == ["unknown", "unknown"] and stills.AWAY in text
    assert client.get("/rooms/hall_a/picture").status_code == 204


def test_a_page_opens_before_anybody_asked(told, client):
    shown = stills.shown(client.app.state.stills, told, "hall_a")
    assert [state.word for _, state in shown] == ["unknown", "unknown"]
    assert EVIL not in render.fragment("streams", streams=shown)
