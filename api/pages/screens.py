"""The screens at a room's door: what they show, and the message that the crew puts there in place of the talks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import broadcasters, messages, overrides
from api.inventory import Snapshot
from api.messages import MessageEntry
from api.overrides import OverrideEntry, OverrideRequest
from api.pages.media import JPEG, PLAIN, Media
from api.pages.session import Form, Viewer, need, number_of
from api.problems import Problem, not_found
from api.tables import Message

router = APIRouter(prefix="/rooms", include_in_schema=False)
FILE = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_./-]{0,200}")
"""A picture below a signage instance's folder."""


@dataclass(frozen=True)
class Sent:
    """What was sent last to one channel of a room."""

    label: str
    topic: str
    text: MessageEntry | None
    picture: MessageEntry | None

    @property
    def words(self) -> str:
        """The text as a reader sees it."""
        return self.text.body.removeprefix("TEXT").strip() if self.text is not None else ""


@dataclass(frozen=True)
class Screen:
    """What the screens and the radios of a room show."""

    room: str
    title: str
    zone: str
    sent: list[Sent]
    slide: str | None = field(repr=False)
    """Where the picture is that was sent last to its radios; None if there is none that signage of ours made."""
    override: OverrideEntry | None = None


class Screens:
    """Reads what rooms show; what was sent last is looked up only when something was sent."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._known: tuple[object, dict[str, list[Sent]]] = (None, {})

    def read(self, room: str | None = None) -> dict[str, Screen]:
        """Return what the rooms with signage show, or one of them; none while there is no inventory."""
        try:
            snapshot = self._manager.inventory.current()
            zone = self._manager.schedule.plan().timezone
        except Problem:
            return {}
        rooms = snapshot.event.rooms
        with self._manager.database.reading() as session:
            sent = self._sent(session, snapshot, room)
            running = {one.room: overrides.entry(one) for one in overrides.running(session)}
        return {
            name: Screen(name, rooms[name].title, zone, told, _slide(snapshot, name, told), running.get(name))
            for name, told in sent.items()
        }

    def _sent(self, session: Session, snapshot: Snapshot, room: str | None) -> dict[str, list[Sent]]:
        newest = (snapshot.state, session.scalar(select(func.max(Message.number))))
        if self._known[0] != newest:
            found = {name: _of(session, snapshot, name) for name in snapshot.event.rooms if room in (None, name)}
            self._known = newest, {name: told for name, told in found.items() if told}
        return self._known[1]


def _of(session: Session, snapshot: Snapshot, room: str) -> list[Sent]:
    found = []
    for channel in broadcasters.of_room(snapshot.event, room):
        text, picture = (messages.last_of(session, f"{channel.topic}{kind}") for kind in ("text", "image"))
        told = [messages.entry(one) if one is not None else None for one in (text, picture)]
        found.append(Sent("Screens" if channel.screen else "Radios", channel.topic, *told))
    return found


def _slide(snapshot: Snapshot, room: str, sent: list[Sent]) -> str | None:
    """Return where our station has the small slide of a room; None unless it is a file of the room's own signage."""
    picture = next((one.picture for one in sent if one.picture is not None), None)
    if picture is None:
        return None
    url = picture.body.removeprefix("SHOW").strip()
    for begin, folder in broadcasters.picture_folders(snapshot.event, room).items():
        if url.startswith(begin) and FILE.fullmatch(url.removeprefix(begin)):
            return folder + url.removeprefix(begin)
    return None


@router.get("/{name}/slide")
async def slide(request: Request, _session: Viewer, name: str) -> Response:
    """Send the picture that the room's radios show; 204 while there is none."""
    manager = request.app.state.manager
    found = (await run_in_threadpool(Screens(manager).read, name)).get(name)
    if found is None:
        raise not_found("screen of a room", name[:80])
    media: Media = request.app.state.media
    content = await media.slide(name, found.slide) if found.slide is not None else None
    if content is None:
        return Response(status_code=204)
    kind = "image/jpeg" if content.startswith(JPEG) else "image/png"
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=1", **PLAIN})


@router.post("/{name}/override")
def put(request: Request, session: Viewer, form: Form, name: str) -> Response:
    """Show a message on the room's screens for some minutes."""
    need(session, "operate")
    told = {"text": form.get("text", ""), "minutes": number_of(form, "minutes"), "link": form.get("link") or None}
    try:
        body = OverrideRequest.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where, why = first["loc"][0], first["msg"].removeprefix("Value error, ")
        why = "write an address that begins with http:// or https://" if where == "link" else why
        raise Problem(422, "InvalidForm", f"{where}: {why}", "Go back and correct it.") from error
    overrides.put(request, session.principal, name, body)
    return RedirectResponse(f"/rooms/{name}", 303)


@router.post("/{name}/override/end")
def end(request: Request, session: Viewer, _form: Form, name: str) -> Response:
    """End the message of the crew; the screens show the talks again."""
    need(session, "operate")
    overrides.end(request, session.principal, name)
    return RedirectResponse(f"/rooms/{name}", 303)
