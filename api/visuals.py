"""What the stations that push slides and texts ask of the manager, and what it knows of their topics."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from api import messages, overrides
from api.access import Reader, VisualsStation, require_event, require_rooms
from api.broadcasters import Channel, channels
from api.clock import now
from api.logs import EARLIEST, LATEST, Time
from api.messages import CURSOR, MessageEntry, MessageList, Search
from api.problems import RESPONSES, ProblemDocument, not_found
from api.tables import Override

if TYPE_CHECKING:
    from api.manager import Manager

router = APIRouter(prefix="/v1/visuals", tags=["visuals"], responses=RESPONSES)

LOOK = 0.5
"""Seconds between two looks at what all who wait for the directory share: a new override is there within one."""
LOGGED = 500
"""Messages in one request."""
PAGE = 500
"""Most messages in one answer."""
SILENT = 150.0
"""Seconds without a message after which a channel counts as silent: the fallback breaks the silence after 60, and looks
every 15."""
Source = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")
]
"""An instance, `station/instance`."""


class ChannelRow(BaseModel):
    """A channel that a broadcaster may send to."""

    topic: str
    id: str | None = None
    name: str | None = None
    picture: str | None = None
    text: str | None = None
    link: str | None = None


class BroadcasterRow(BaseModel):
    """Who may send, from where and to what."""

    users: dict[str, str]
    """Name to the scrypt hash of its password."""
    networks: list[str]
    channels: list[ChannelRow]


class OverrideRow(BaseModel):
    """A message of the crew on the screens of a room; times in seconds since 1970."""

    id: str
    room: str
    text: str
    link: str | None
    since: float
    until: float
    author: str


class DirectoryEntry(BaseModel):
    """What stations that push slides and texts go by."""

    revision: str
    broadcasters: dict[str, BroadcasterRow]
    overrides: list[OverrideRow]


class Logged(BaseModel):
    """One message, as it was sent to its topic."""

    topic: str = Field(min_length=1, max_length=4096)
    body: str
    headers: dict[str, str] = Field(default_factory=dict, max_length=100)
    when: float = Field(ge=EARLIEST, le=LATEST, strict=True, description="Seconds since 1970.")
    source: Source


class LogRequest(BaseModel):
    """The body of `POST /v1/visuals/log`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [
                        {
                            "topic": "/topic/id/demo/hall_a/text",
                            "body": "TEXT Opening",
                            "headers": {"message-id": "4f6c1e0a"},
                            "when": 1792576800,
                            "source": "hall-a-enc/main",
                        }
                    ]
                }
            ]
        }
    )

    messages: list[Logged] = Field(max_length=LOGGED)


class LogAnswer(BaseModel):
    """How many of the messages were not known yet."""

    stored: int


class ShownRequest(BaseModel):
    """The body of `POST /v1/visuals/overrides/{id}/shown`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"source": "hall-a-enc/main"}]})

    source: Source


class ChannelEntry(BaseModel):
    """A channel with what it shows by default and what was sent to it last."""

    topic: str
    name: str
    broadcaster: str | None
    """Null for a channel that signage makes of a room."""
    room: str | None
    picture: str | None
    text: str | None
    link: str | None
    last_picture: MessageEntry | None
    last_text: MessageEntry | None
    age_seconds: float | None
    """Since its last message; null if the log has none."""
    silent: bool
    """Whether a channel that has a default picture got nothing for 150 s."""


@dataclass(frozen=True)
class Document:
    """The directory as it is sent, and what changes whenever it does."""

    body: bytes
    etag: str


class Directory:
    """Part of the manager that knows the directory; looked up once for all who wait for it.

    Args:
        manager: with inventory and database.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._lock = asyncio.Lock()
        self._due = float("-inf")
        self._known: Document | None = None

    async def look(self) -> Document:
        """Return the directory as it was half a second ago or later; Problem 503 while there is no inventory."""
        async with self._lock:
            if self._known is None or time.monotonic() >= self._due:
                self._known = await run_in_threadpool(self._read)
                self._due = time.monotonic() + LOOK
            return self._known

    def _read(self) -> Document:
        snapshot = self._manager.inventory.current()
        with self._manager.database.reading() as session:
            rows = [
                OverrideRow.model_validate(row, from_attributes=True).model_dump()
                for row in overrides.running(session)
                if row.room in snapshot.event.rooms
            ]
        told = {"revision": snapshot.revision, "broadcasters": dict(snapshot.broadcasters), "overrides": rows}
        body = json.dumps(told, ensure_ascii=False, sort_keys=True).encode()
        return Document(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@router.get(
    "/directory",
    response_model=DirectoryEntry,
    responses={
        304: {"description": "It is as the caller has it"},
        503: {"model": ProblemDocument, "description": "There is no usable inventory yet"},
    },
)
async def directory(
    request: Request,
    _principal: VisualsStation,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for a change.")] = 0,
    if_none_match: Annotated[str, Header(max_length=200, description="The ETag that the caller has.")] = "",
) -> Response:
    """Tell who may send slides and texts to which channels, and what the crew shows on the screens of rooms.

    With `If-None-Match` it answers as soon as that is no longer so, and with 304 when `wait` is over.
    """
    manager, deadline = request.app.state.manager, time.monotonic() + wait
    while True:
        found = await manager.directory.look()
        left = deadline - time.monotonic()
        headers = {"ETag": found.etag}
        if found.etag not in if_none_match and if_none_match.strip() != "*":
            return Response(found.body, media_type="application/json", headers=headers)
        if left <= 0 or manager.ending.is_set():
            return Response(status_code=304, headers=headers)
        await asyncio.sleep(min(LOOK, left))


@router.post("/log")
def log(request: Request, principal: VisualsStation, body: LogRequest) -> LogAnswer:
    """Keep messages that were sent to topics, each once however often it is told."""
    require_event(principal)
    told = [one.model_dump() for one in body.messages]
    return LogAnswer(stored=messages.store(request.app.state.manager.database, told))


@router.post(
    "/overrides/{id}/shown",
    status_code=204,
    responses={404: {"model": ProblemDocument, "description": "No such override"}},
)
def shown(request: Request, principal: VisualsStation, id: str, body: ShownRequest) -> None:
    """Take note that an instance has an override on its screens."""
    with request.app.state.manager.database.writing() as session:
        row = session.get(Override, messages.clean(id[:64]))
        if row is None:
            raise not_found("override", id[:64])
        require_rooms(principal, [row.room])
        overrides.shown(session, row.id, body.source)


@router.get("/messages")
def read_messages(
    request: Request,
    _principal: Reader,
    topic: Annotated[str, Query(max_length=200, description="A part of the topic.")] = "",
    text: Annotated[str, Query(max_length=200, description="A part of the body.")] = "",
    since: Time | None = None,
    until: Time | None = None,
    before: Annotated[str | None, Query(pattern=CURSOR, description="`next` of an answer.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> MessageList:
    """List messages that were sent to topics, the newest first."""
    since_at, until_at = (
        None if one is None else min(max(one.timestamp(), EARLIEST), LATEST) for one in (since, until)
    )
    wanted = Search(topic, text, since_at, until_at, before)
    with request.app.state.manager.database.reading() as session:
        return messages.search(session, wanted, limit)


@router.get("/channels", responses={503: {"model": ProblemDocument, "description": "There is no usable inventory yet"}})
def read_channels(request: Request, _principal: Reader) -> list[ChannelEntry]:
    """List the channels of all broadcasters and of the rooms' signage, with what was sent to them last."""
    manager = request.app.state.manager
    snapshot = manager.inventory.current()
    with manager.database.reading() as session:
        return [_entry(session, one) for one in channels(snapshot.event, snapshot.broadcasters)]


def _entry(session: Any, channel: Channel) -> ChannelEntry:
    picture = messages.last_of(session, f"{channel.topic}image")
    text = messages.last_of(session, f"{channel.topic}text")
    last = max((one.at for one in (picture, text) if one is not None), default=None)
    age = None if last is None else max(0.0, now() - last)
    return ChannelEntry(
        topic=channel.topic, name=channel.name, broadcaster=channel.broadcaster, room=channel.room,
        picture=channel.picture, text=channel.text, link=channel.link,
        last_picture=messages.entry(picture) if picture is not None else None,
        last_text=messages.entry(text) if text is not None else None,
        age_seconds=age, silent=channel.picture is not None and (age is None or age > SILENT),
    )  # fmt: skip
