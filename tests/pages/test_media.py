"""What the manager fetches from stations for its page: what the inventory has, under an ingest's names, and no more."""

import asyncio
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.gzip import GZipMiddleware

from api import problems
from api.pages import media
from api.pages.session import session_of
from stationmaster.model import Event, Instance, Room, Station
from tests.pages import near

JPEG = b"\xff\xd8\xff\xe0picture"
SEGMENT = "20261121/10/cam-main-1.ts"


@pytest.fixture
def web():
    with near.station() as made:
        yield made


@pytest.fixture
def client(web):
    hall = Room("hall_a", "Hall A", 1)
    ingest = Instance("ingest", "main", {"preview": {"every": 3}})
    roles = {
        "ingest": {"main": ingest},
        "upload": {"main2": Instance("upload", "main2", {})},
        "web": {"station": Instance("web", "station", {"port": web.server_port})},
    }
    event = Event("e", "E", "", {"hall_a": hall}, {"cam": Station("cam", hall, "127.0.0.1", None, [], roles)})
    manager = SimpleNamespace(inventory=SimpleNamespace(current=lambda: SimpleNamespace(event=event)))
    app = FastAPI()
    app.add_middleware(GZipMiddleware)
    problems.install(app)
    app.state.media = media.Media(manager)
    app.dependency_overrides[session_of] = lambda: None
    app.include_router(media.router)
    with TestClient(app) as made:
        yield made
        made.portal.call(app.state.media.close)


def test_a_picture_is_fetched_once_for_all_that_ask(web, client):
    web.files["/ingest/main/preview.jpg"] = (200, JPEG)
    for _ in range(5):
        answer = client.get("/media/cam/main/preview.jpg")
        assert (answer.status_code, answer.content) == (200, JPEG)
        assert answer.headers["content-type"] == "image/jpeg"
    assert web.asked == ["/ingest/main/preview.jpg"]


@pytest.mark.parametrize(
    "told", [(404, b""), (200, b"<html>"), (200, JPEG + bytes(media.LARGEST)), (302, JPEG), (500, JPEG)]
)
def test_what_is_no_picture_is_none(web, client, told):
    web.files["/ingest/main/preview.jpg"] = told
    assert client.get("/media/cam/main/preview.jpg").status_code == 204
    assert client.get("/media/cam/main/preview.jpg").status_code == 204
    assert len(web.asked) == 1  # nor is one that is away asked again by each page


def test_a_stream_comes_through(web, client):
    web.files["/ingest/main/live.m3u8"] = (200, b"#EXTM3U\n")
    web.files[f"/ingest/main/{SEGMENT}"] = (200, b"G" * 188_000)
    answer = client.get("/media/cam/main/live.m3u8")
    assert (answer.content, answer.headers["content-type"]) == (b"#EXTM3U\n", "application/vnd.apple.mpegurl")
    assert answer.headers["cache-control"] == "no-store"
    answer = client.get(f"/media/cam/main/{SEGMENT}")
    assert (len(answer.content), answer.headers["content-length"]) == (188_000, "188000")
    assert answer.headers["content-encoding"] == "identity"  # it is never compressed a second time
    assert client.get("/media/cam/main/20261121/10/gone.ts").status_code == 502


@pytest.mark.parametrize(
    "path",
    [
        "cam/main/status.json", "cam/main/index.jsonl", "cam/main/..%2f..%2fhealthz", "cam/main2/preview.jpg",
        "cam/main/20261121/10/a.mp4", "cam/main/20261121/10/..%2fx.ts", "nobody/main/preview.jpg", "cam/x/live.m3u8",
        "127.0.0.1/main/preview.jpg", "cam/main/20261121/10/x.ts%0d%0aY", "cam/main/",
    ],
)  # fmt: skip
def test_nothing_else_is_fetched(web, client, path):
    assert client.get(f"/media/{path}").status_code == 404
    assert web.asked == []


def test_a_station_that_is_away_is_told(web, client):
    web.shutdown()
    web.server_close()
    answer = client.get("/media/cam/main/live.m3u8")
    assert (answer.status_code, answer.json()["code"]) == (502, "StationAway")
    assert client.get("/media/cam/main/preview.jpg").status_code == 204


def test_many_at_a_time_cost_one(web, client):
    web.files["/ingest/main/preview.jpg"] = (200, JPEG)

    async def all_at_once():
        return await asyncio.gather(*(client.app.state.media.picture("cam", "main") for _ in range(20)))

    assert set(client.portal.call(all_at_once)) == {JPEG}
    assert len(web.asked) == 1
