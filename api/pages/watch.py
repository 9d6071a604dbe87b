"""Each room's live stream in the page."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.clock import now
from api.pages import media, render
from api.pages.session import Viewer

router = APIRouter(prefix="/watch", include_in_schema=False)


@router.get("")
def show(request: Request, session: Viewer) -> HTMLResponse:
    """Show a player for each stream; it loads nothing before somebody presses it."""
    event = request.app.state.manager.inventory.current().event
    streams = [
        {
            "room": station.room.title if station.room is not None else "no room",
            "station": station.name,
            "instance": instance.id,
        }
        for station, instance in media.pictured(event)
    ]
    return render.page(request, session, "watch", streams=streams, now=now())
