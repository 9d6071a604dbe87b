"""A message of the crew on the screens of a room, for some minutes; signage shows it in place of the talks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.access import Operator, Principal, Reader, audit, require_rooms
from api.clock import now, told
from api.database import Database
from api.problems import RESPONSES, ProblemDocument, not_found
from api.run_states import new_id
from api.tables import Lock, Override

router = APIRouter(prefix="/v1/rooms/{room}/override", tags=["rooms"], responses=RESPONSES)
MUTEX = "overrides"
JOINERS = "\u200c\u200d"
"""Not printable, and part of words and of pictures in some scripts."""
SOURCES = 100
"""Instances of which it is kept when they showed it."""
ABSENT: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemDocument, "description": "No such room, or no override"}
}


def one_line(text: str) -> str:
    """Return a text as a screen and a radio show it: one line of letters; ValueError if nothing is left."""
    found = "".join(letter for letter in " ".join(text.split()) if letter.isprintable() or letter in JOINERS)
    if not found.strip(JOINERS):
        raise ValueError("the text has no letter that can be shown")
    return found


class OverrideRequest(BaseModel):
    """The body of `POST /v1/rooms/{room}/override`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "The next talk begins 15 minutes later.", "minutes": 20}]},
    )

    text: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(one_line)]
    minutes: int = Field(ge=1, le=1440, strict=True, description="Until it ends by itself.")
    link: str | None = Field(default=None, max_length=1000, pattern=r"^https?://[^\s<>\"\\^`{|}\x00-\x1f\x7f]+$")


class OverrideEntry(BaseModel):
    """A message of the crew on the screens of a room."""

    id: str
    room: str
    text: str
    link: str | None
    since: str | None
    until: str | None
    author: str
    shown: dict[str, str | None]
    """Since when each instance of signage has it on its screens, by its name; empty until one has."""


class RoomOverride(BaseModel):
    """What the crew shows on the screens of a room."""

    override: OverrideEntry | None
    """Null while the screens show the talks."""


def entry(row: Override) -> OverrideEntry:
    """Return an override as the API tells it."""
    return OverrideEntry(
        id=row.id, room=row.room, text=row.text, link=row.link, since=told(row.since), until=told(row.until),
        author=row.author, shown={source: told(at) for source, at in row.shown_at.items()},
    )  # fmt: skip


def running(session: Session, room: str | None = None) -> list[Override]:
    """Return the overrides that run now, of one room or of all."""
    asked = select(Override).where(Override.ended_at.is_(None), Override.until > now()).order_by(Override.room)
    return list(session.scalars(asked if room is None else asked.where(Override.room == room)))


@router.post("", responses=ABSENT)
def put(request: Request, principal: Operator, room: str, body: OverrideRequest) -> OverrideEntry:
    """Show a message on the screens of a room for some minutes, in place of any other one there."""
    manager = request.app.state.manager
    _known(manager, principal, room)
    with manager.database.writing() as session:
        _turn(manager.database, session)
        _end(session, room)
        at = now()
        made = Override(
            id=new_id(), room=room, text=body.text, link=body.link, since=at, until=at + body.minutes * 60,
            author=principal.name, ended_at=None, shown_at={},
        )  # fmt: skip
        session.add(made)
        asked = {"room": room, **body.model_dump(exclude_none=True)}
        audit(session, principal, "override", asked, {"override": made.id}, f"until {told(made.until)}")
        return entry(made)


@router.get("", responses=ABSENT)
def read(request: Request, _principal: Reader, room: str) -> RoomOverride:
    """Tell which message of the crew is on the screens of a room."""
    manager = request.app.state.manager
    _known(manager, None, room)
    with manager.database.reading() as session:
        found = running(session, room)
        return RoomOverride(override=entry(found[0]) if found else None)


@router.delete("", status_code=204, responses=ABSENT)
def end(request: Request, principal: Operator, room: str) -> None:
    """End the message of the crew; the screens show the talks again."""
    manager = request.app.state.manager
    _known(manager, principal, room)
    with manager.database.writing() as session:
        _turn(manager.database, session)
        ended = _end(session, room)
        if not ended:
            raise not_found("running override of", room)
        audit(session, principal, "end-override", {"room": room}, {"override": ended[0]}, "ended")


def shown(session: Session, override: str, source: str) -> None:
    """Note that an instance has an override on its screens; the first time counts."""
    row = session.scalar(select(Override).where(Override.id == override).with_for_update())
    if row is not None and source not in row.shown_at and len(row.shown_at) < SOURCES:
        row.shown_at = {**row.shown_at, source: now()}


def _known(manager: Any, principal: Principal | None, room: str) -> None:
    """Refuse a room that the inventory does not have, or that the token may not change."""
    if principal is not None:
        require_rooms(principal, [room])
    if room not in manager.inventory.current().event.rooms:
        raise not_found("room", room[:80])


def _turn(database: Database, session: Session) -> None:
    """Have the session to itself what only one may do at a time: a room has one override."""
    session.execute(database.insert(Lock).values(name=MUTEX).on_conflict_do_nothing())
    session.execute(select(Lock).where(Lock.name == MUTEX).with_for_update())


def _end(session: Session, room: str) -> list[str]:
    """End what runs in a room; return its id, if any."""
    ended = [one.id for one in running(session, room)]
    if ended:
        session.execute(update(Override).where(Override.id.in_(ended)).values(ended_at=now()))
    return ended
