"""The machines that wait to be a station, and those that no line of the inventory knows."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import lines, stations
from api.pages import render
from api.pages.session import Form, Session, Viewer, need
from api.problems import Problem

router = APIRouter(prefix="/enrolment", include_in_schema=False)


@router.get("")
def waiting(request: Request, session: Viewer) -> HTMLResponse:
    """Show both."""
    rooms = list(request.app.state.manager.inventory.current().event.rooms.values())
    return render.page(request, session, "enrolment", rooms=rooms, news=False, **_who(request, session))


@router.get("/news")
def news(request: Request, session: Viewer, known: Annotated[str, Query(max_length=64)] = "") -> HTMLResponse:
    """Tell whether others wait than those that a page shows; it then says so, and moves nothing."""
    found = _who(request, session)
    return HTMLResponse(render.fragment("enrolment-news", known=known, news=found["mark"] != known))


def _who(request: Request, session: Session) -> dict[str, Any]:
    """Return who waits, who is in no inventory, and a mark that differs when they do."""
    found = stations.list_stations(request, session.principal)
    waiting = [one for one in found if one.id and one.enrolment == "waiting" and one.claims]
    unassigned = [one for one in found if one.id and one.state == "unassigned"]
    told = [(one.id, one.claims, one.claim) for one in (*waiting, *unassigned)]
    return {"waiting": waiting, "unassigned": unassigned, "mark": hashlib.sha256(repr(told).encode()).hexdigest()[:16]}


@router.get("/{identity}/lines")
def propose(request: Request, session: Viewer, identity: str, room: str = "", name: str = "") -> HTMLResponse:
    """Show the lines that would make a machine a station of a room, and what the check says of them."""
    manager = request.app.state.manager
    found = lines.propose(manager, identity, room=room or None, name=name.strip() or None)
    return render.page(request, session, "lines", proposed=found)


@router.post("/{name}/{choice}")
def decide(request: Request, session: Viewer, form: Form, name: str, choice: str) -> Response:
    """Let a waiting machine in, or refuse it."""
    need(session, "admin")
    decisions = {"accept": stations.accept, "refuse": stations.refuse}
    if choice not in decisions:
        raise Problem(404, "NotFound", f"There is no decision {choice[:20]!r}.", "Accept or refuse.")
    decisions[choice](request, session.principal, name, stations.Choice(id=form.get("id") or None))
    return RedirectResponse("/enrolment", 303)
