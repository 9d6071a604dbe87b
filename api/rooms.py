"""Rooms: intent and registration in one picture, with what is on now and next."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.access import Reader
from api.clock import now, told
from api.inventory import Snapshot
from api.problems import RESPONSES, ProblemDocument, not_found
from api.schedule import TalkEntry, entry
from stationmaster.addresses import SERVICES_GROUP

router = APIRouter(prefix="/v1/rooms", tags=["rooms"], responses=RESPONSES)

WORST_FIRST = (
    "failed",
    "lost",
    "drifted",
    "late",
    "waiting",
    "new",
    "held",
    "rebooted",
    "shutdown",
    "ready",
)
"""A station shows the first of these words that is true of it, and a room the worst of its stations."""


class RoomStation(BaseModel):
    """A station of a room: what is wanted of it next to what it has."""

    name: str
    state: str
    """failed, lost, drifted, late, waiting, new, held, rebooted, shutdown or ready."""
    wanted: str | None
    """Hash of the bundle that the inventory wants; null while it is being rendered."""
    applied: str | None
    as_wanted: bool | None
    seen_at: str | None
    on_air_until: str | None
    held: list[str]
    """Units of which a change waits."""
    stopped: list[str]
    pinned: bool


class Room(BaseModel):
    """A room; its stations are told worst first."""

    name: str
    title: str
    number: int | None
    state: str
    """The worst of its stations' states; `ready` for a room without any."""
    on_air_until: str | None
    """Until when all its stations with live units on air are so at least; null if none is."""
    now: TalkEntry | None
    next: TalkEntry | None
    stations: list[RoomStation]


@router.get("")
def list_rooms(request: Request, _principal: Reader) -> list[Room]:
    """List the rooms, in the inventory's order."""
    manager = request.app.state.manager
    return all_rooms(manager, views_by_name(manager))


@router.get("/{room}", responses={404: {"model": ProblemDocument, "description": "No such room"}})
def read_room(request: Request, _principal: Reader, room: str) -> Room:
    """Tell of one room what is wanted and what is, and its talks now and next."""
    manager = request.app.state.manager
    snapshot = manager.inventory.current()
    if room not in snapshot.event.rooms:
        raise not_found("room", room[:80])
    return _room(manager, snapshot, room, views_by_name(manager))


def all_rooms(manager: Any, views: dict[str, Any]) -> list[Room]:
    """Return all rooms, in the inventory's order; Problem 503 without a usable inventory."""
    snapshot = manager.inventory.current()
    return [_room(manager, snapshot, name, views) for name in snapshot.event.rooms]


def services(manager: Any, views: dict[str, Any]) -> Room | None:
    """Return the stations that belong to no room as if they were in one; None if there are none. Problem 503."""
    snapshot = manager.inventory.current()
    names = [name for name in snapshot.event.stations if snapshot.room_of(name) is None]
    if not names:
        return None
    found = _stations(manager, names, views, now())
    return Room(
        name=SERVICES_GROUP, title="Services", number=None, state=found[0].state, on_air_until=None, now=None,
        next=None, stations=found,
    )  # fmt: skip


def _stations(manager: Any, names: list[str], views: dict[str, Any], at: float) -> list[RoomStation]:
    """Return stations, the worst first."""
    found = [_station(name, views.get(name), manager.inventory.wanted_of(name), at) for name in names]
    return sorted(found, key=lambda station: WORST_FIRST.index(station.state))


def views_by_name(manager: Any) -> dict[str, Any]:
    """Return the view of each station of the inventory by its name."""
    return {view.name: view for view in manager.registry.views() if view.name is not None}


def _room(manager: Any, snapshot: Snapshot, name: str, views: dict[str, Any]) -> Room:
    at = now()
    stations = _stations(manager, snapshot.stations_of(name), views, at)
    current, following = manager.schedule.plan().now_and_next(name, at)
    on_air = [station.on_air_until for station in stations if station.on_air_until]
    room = snapshot.event.rooms[name]
    return Room(
        name=name,
        title=room.title,
        number=room.number,
        state=stations[0].state if stations else "ready",
        on_air_until=min(on_air, default=None),
        now=entry(current),
        next=entry(following),
        stations=stations,
    )


def _station(name: str, view: Any | None, wanted: str | None, at: float) -> RoomStation:
    said = dict(view.said) if view is not None else {}
    state = said.get("state") or {}
    applied, until = said.get("applied"), state.get("on_air_until")
    return RoomStation(
        name=name,
        state=worst(view.state, view.presence) if view is not None else "waiting",
        wanted=wanted,
        applied=applied,
        as_wanted=None if wanted is None or not said else applied == wanted,
        seen_at=told(view.seen_at) if view is not None else None,
        on_air_until=told(until) if until is not None and until > at else None,
        held=[held["unit"] for held in state.get("held") or ()],
        stopped=list(state.get("stopped") or ()),
        pinned=bool(state.get("pinned")),
    )


def worst(*words: str) -> str:
    """Return the worst of some words for a station; those that say nothing of note count as ready."""
    known = [word for word in words if word in WORST_FIRST]
    return min(known, key=WORST_FIRST.index, default="ready")
