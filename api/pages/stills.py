"""Pictures of the rooms: streams of pictures that the inventory has, which of them a room's card shows, how they are.

Only streams of the inventory are asked for, and only their newest picture and the list of their server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from api.inventory import Snapshot
from api.pages import render
from api.pages.media import FRESH, PLAIN, Media, pictured
from api.pages.session import Viewer
from api.problems import not_found
from stationmaster import resolve
from stationmaster.addresses import SERVICES_GROUP
from stationmaster.model import Event, Instance, Station

router = APIRouter(include_in_schema=False)

ROLE = "stills"
"""Station role of the servers of pictures."""
PORT = 8070
"""Their HTTP port where the inventory names none, as roles/stills says."""
WORDS = ("ready", "waiting", "failed")
"""States that a server tells of a stream; another one, or none, is `unknown`."""
PATIENCE = httpx2.Timeout(3.0, connect=2.0)
"""Seconds: a live stream that has just been asked for needs a moment for its first picture; the ingest's own picture is
there for a room meanwhile."""
TRIED = 4
"""Sources of a room's picture that are asked, one after the other, before it has none."""
LONGEST = 200
"""Letters of what a server says of a stream that are shown."""


@dataclass(frozen=True)
class Stream:
    """A stream of pictures as the inventory wants it; `server` is where its server answers, `room` None for services.

    `live` tells a stream that is made of an ingest, `kind` says what it is made of.
    """

    station: str
    instance: str
    key: str
    room: str | None
    live: bool
    kind: str
    name: str
    method: str
    server: str

    @property
    def latest(self) -> str:
        """Where its newest picture is, on its station."""
        return f"{self.server}/streams/{quote(self.key, safe='')}/latest?type=jpg"

    @property
    def path(self) -> str:
        """Where the manager has its newest picture."""
        return (
            "/media/"
            + "/".join(quote(part, safe="") for part in (self.station, self.instance, self.key))
            + "/latest.jpg"
        )


@dataclass(frozen=True)
class State:
    """How a stream is: `word` is ready, waiting, failed or unknown, `text` what its server says of it."""

    word: str = "unknown"
    text: str = "its server has not been asked yet"


AWAY = "its server does not answer"
UNTOLD = "its server does not have it"


def streams(event: Event) -> Iterator[Stream]:
    """Yield all streams of the inventory whose server has an address, in its order."""
    for station in event.stations.values():
        for instance in station.roles.get(ROLE, {}).values():
            for key, told in (instance.options.get("streams") or {}).items():
                if station.address is not None:
                    yield _stream(event, station, instance, str(key), told or {})


def _stream(event: Event, station: Station, instance: Instance, key: str, told: dict[str, Any]) -> Stream:
    source = told.get("from")
    made_of = event.stations.get(str(source).partition("/")[0]) if source else None
    own = next((one.room.name for one in (station, made_of) if one is not None and one.room is not None), None)
    kinds = {
        "from": f"live from {source}",
        "images": "pictures",
        "flux": "a descriptor's pictures",
        "testcard": "test card",
    }
    kind = next((text for option, text in kinds.items() if told.get(option) is not None), "pictures")
    server = f"http://{station.address}:{instance.options.get('http_port', PORT)}"
    name, method = str(told.get("name") or key), str(told.get("method") or "")
    return Stream(station.name, instance.id, key, told.get("room") or own, bool(source), kind, name, method, server)


def of_room(event: Event, room: str) -> list[Stream]:
    """Return the streams of a room, the live ones first; of the services those that belong to no room."""
    wanted = None if room == SERVICES_GROUP else room
    return sorted((one for one in streams(event) if one.room == wanted), key=lambda one: not one.live)


def sources(event: Event, room: str) -> list[str]:
    """Return where a room's picture is to be had, the best first.

    The best is a live stream of pictures; then the preview of an ingest; then what has nothing to do with the room's
    camera, such as its slides. The services have no picture.
    """
    if room not in event.rooms:
        return []
    own = of_room(event, room)
    live, others = ([one.latest for one in own if one.live is wanted] for wanted in (True, False))
    previews = [
        resolve.base_url(event, station, instance) + "preview.jpg"
        for station, instance in pictured(event)
        if station.room is not None and station.room.name == room and station.address
    ]
    # the second live stream is mostly of the same station as the first: if that is away, so is this
    return [*live[:1], *previews[:1], *live[1:], *others][:TRIED]


def with_pictures(event: Event) -> set[str]:
    """Return the rooms that have a source of a picture."""
    made_of: set[str | None] = {one.room for one in streams(event)}
    made_of |= {station.room.name for station, _ in pictured(event) if station.room is not None and station.address}
    return {room for room in event.rooms if room in made_of}


class States:
    """Knows how streams are; a server is asked once for all that look, and only while somebody does."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._known: dict[str, tuple[float, dict[str, State] | None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def known(self, stream: Stream) -> State:
        """Return how a stream was when its server was asked last."""
        if stream.server not in self._known:
            return State()
        _, told = self._known[stream.server]
        return State(text=AWAY) if told is None else told.get(stream.key, State(text=UNTOLD))

    async def renew(self, servers: set[str]) -> None:
        """Ask servers that were not asked in the last seconds, all at once."""
        await asyncio.gather(*map(self._renew, servers))

    async def _renew(self, server: str) -> None:
        async with self._locks.setdefault(server, asyncio.Lock()):
            at, _ = self._known.get(server, (-FRESH, None))
            if time.monotonic() - at >= FRESH:
                found = await self._media.fetch(f"{server}/streams", (b"{",), PATIENCE)
                self._known[server] = time.monotonic(), _read(found) if found is not None else None


def _read(text: bytes) -> dict[str, State] | None:
    """Return the states in a server's list of its streams, None if it is none."""
    try:
        told = json.loads(text)["streams"]
        return {str(one["key"]): _state(one) for one in told}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _state(told: dict[str, Any]) -> State:
    word, text = told.get("state"), told.get("state_text")
    return State(word if word in WORDS else "unknown", str(text or "")[:LONGEST])


def shown(states: States, snapshot: Snapshot, room: str) -> list[tuple[Stream, State]]:
    """Return what a room's page shows of its streams."""
    return [(one, states.known(one)) for one in of_room(snapshot.event, room)]


def _room(snapshot: Snapshot, name: str) -> str:
    if name not in snapshot.event.rooms and name != SERVICES_GROUP:
        raise not_found("room", name[:80])
    return name


@router.get("/rooms/{name}/picture")
async def picture(request: Request, _session: Viewer, name: str) -> Response:
    """Send the newest picture of a room; 204 while there is none."""
    event = request.app.state.manager.inventory.current().event
    found = sources(event, name)
    if not found:
        raise not_found("picture of a room", name[:80])
    media: Media = request.app.state.media
    for url in found:
        content = await media.newest(url, PATIENCE)
        if content is not None:
            return _jpeg(content)
    return Response(status_code=204)


@router.get("/rooms/{name}/streams")
async def list_streams(request: Request, _session: Viewer, name: str) -> HTMLResponse:
    """Send the streams of a room with how they are now; it takes as long as the slowest server, and seconds at most."""
    snapshot = request.app.state.manager.inventory.current()
    states: States = request.app.state.stills
    await states.renew({one.server for one in of_room(snapshot.event, _room(snapshot, name))})
    return HTMLResponse(render.fragment("streams", streams=shown(states, snapshot, name)))


@router.get("/media/{station}/{instance}/{key}/latest.jpg")
async def latest(request: Request, _session: Viewer, station: str, instance: str, key: str) -> Response:
    """Send the newest picture of a stream; 204 while there is none."""
    event = request.app.state.manager.inventory.current().event
    wanted = (station, instance, key)
    found = next((one for one in streams(event) if (one.station, one.instance, one.key) == wanted), None)
    if found is None:
        raise not_found("stream of pictures", "/".join(part[:64] for part in wanted))
    content = await request.app.state.media.newest(found.latest, PATIENCE)
    return _jpeg(content) if content is not None else Response(status_code=204)


def _jpeg(content: bytes) -> Response:
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=1", **PLAIN})
