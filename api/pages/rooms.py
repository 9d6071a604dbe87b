"""The first page: one card a room, the worst first; and the page of one room."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from api import rooms, runs
from api.inventory import Snapshot
from api.pages import render, run_plan, screens, stills
from api.pages.changes import Cards, answer, stream
from api.pages.health import ORDER, Health, health
from api.pages.session import Form, Viewer, need, number_of
from api.problems import Problem, not_found

router = APIRouter(include_in_schema=False)
SCREEN = "screen "
"""Begin of the names of fragments that tell what a room's screens show; they are on the room's own page alone."""
SILENT = ("lost", "shutdown")
"""Of these stations nothing is known: what they said last is over."""
FINE = ("ready", "held", "rebooted")
"""States of a room that need nobody."""


def cards_of(manager: Any) -> Cards:
    """Return the cards of all rooms, the same for everybody, the line that names the worst, and the rooms' screens."""
    shown = screens.Screens(manager)

    def draw() -> dict[str, str]:
        found = read(manager)
        cards = {one["room"].name: render.fragment("room", **one) for one in found}
        sent = {f"{SCREEN}{name}": render.fragment("screen", screen=one) for name, one in shown.read().items()}
        return {"": render.fragment("worst", **worst(found)), **cards, **sent}

    return Cards(draw)


def read(manager: Any) -> list[dict[str, Any]]:
    """Return what the card of each room shows, and that of the stations in none, the worst first."""
    try:
        snapshot = manager.inventory.current()
    except Problem:
        return []
    views = rooms.views_by_name(manager)
    found, zone = [], manager.schedule.plan().timezone
    order, pictures = list(snapshot.event.stations), stills.with_pictures(snapshot.event)
    for room in (*rooms.all_rooms(manager, views), rooms.services(manager, views)):
        if room is None:
            continue
        told = {one.name: _health(snapshot, views, one.name) for one in room.stations}
        # in the inventory's order, so that no station moves when another one's state changes
        room.stations.sort(key=lambda one: order.index(one.name))
        state = room.state
        if ORDER.index(state) > ORDER.index("warn") and any(_warns(one) for one in told.values()):
            state = "warn"
        picture = room.name in pictures
        found.append({"room": room, "state": state, "health": told, "picture": picture, "zone": zone})
    return sorted(found, key=lambda one: ORDER.index(one["state"]))


def worst(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the line above the cards says."""
    bad = [one for one in found if one["state"] not in FINE]
    return {"bad": bad}


def _health(snapshot: Snapshot, views: dict[str, Any], name: str) -> Health:
    view = views.get(name)
    said, heard = (dict(view.said), view.presence not in SILENT) if view is not None else ({}, True)
    return health(snapshot.event.stations[name], said, heard)


def _warns(one: Health) -> bool:
    return one.machine_word == "warn" or any(each.word in ("warn", "failed") for each in one.instances)


@router.get("/")
def show(request: Request, session: Viewer) -> HTMLResponse:
    """Show all rooms; what changes comes by itself and leaves every card in its place."""
    found = read(request.app.state.manager)
    own = session.principal.room
    found.sort(key=lambda one: own is not None and one["room"].name != own)  # a captain's own room comes first
    return render.page(request, session, "rooms", found=found, **worst(found))


@router.get("/rooms/changes")
def changes(
    request: Request, _session: Viewer, room: Annotated[str | None, Query(max_length=64)] = None
) -> StreamingResponse:
    """Send the cards of rooms, or of one with what its screens show, as they change."""
    app = request.app
    return answer(stream(app.state.manager, app.state.room_cards, functools.partial(is_shown, room)))


def is_shown(room: str | None, name: str) -> bool:
    """Tell whether the page of a room, or the one of all, has the fragment of a name."""
    return not name.startswith(SCREEN) if room is None else name in (room, f"{SCREEN}{room}")


@router.get("/rooms/{name}")
def show_one(request: Request, session: Viewer, name: str) -> HTMLResponse:
    """Show a room, with what a captain does there."""
    found = next((one for one in read(request.app.state.manager) if one["room"].name == name), None)
    if found is None:
        raise not_found("room", name[:80])
    manager = request.app.state.manager
    # services are no target of a run: each of these stations has a page of its own
    is_room = name in manager.inventory.current().event.rooms
    may_change = is_room and session.may("operate") and session.principal.may_touch([name])
    screen = screens.Screens(manager).read(name).get(name)
    shown = stills.shown(request.app.state.stills, manager.inventory.current(), name)
    return render.page(request, session, "one-room", may_change=may_change, screen=screen, streams=shown, **found)


@router.post("/rooms/{name}/on-air")
def on_air(request: Request, response: Response, session: Viewer, form: Form, name: str) -> Response:
    """Set the room on air for some minutes, or off; it interrupts nothing, so that it is done at once."""
    need(session, "operate")
    minutes = number_of(form, "minutes")
    body = run_plan.validated({"action": "on-air", "target": {"room": name}, "minutes": minutes})
    run = runs.start(request, response, session.principal, body)
    return RedirectResponse(f"/runs/{run.id}", 303)
