"""One station: what it should have and has, its units and their journal, its generations, what happened to it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from api import history, logs, runs, stations
from api.pages import plots, render
from api.pages.changes import Cards, answer, stream
from api.pages.health import health
from api.pages.rooms import SILENT
from api.pages.session import Viewer
from api.problems import Problem

router = APIRouter(prefix="/stations", include_in_schema=False)
LINES = 200
"""Lines of the journal that a page begins with."""
HOURS = 6.0
"""Hours that the plots show."""
RUNS = 10
"""The last runs that a station's page names."""
Unit = Annotated[str, Query(pattern=f"^$|{logs.UNIT}")]


@router.get("/{name}")
def show(request: Request, session: Viewer, name: str, unit: Unit = "") -> HTMLResponse:
    """Show a station."""
    told = _told(request, session.principal, name)
    station = told["station"]
    known = station.name or ""
    recent = runs.list_runs(request, session.principal, station=known, limit=RUNS).runs if known else []
    figures = history.read(request.app.state.manager.database, known, HOURS) if known else {}
    return render.page(
        request, session, "station", **told, unit=unit, runs=recent, plots=plots.plots_of(figures),
        journal=_journal(request, session.principal, name, unit, None, LINES),
        may_change=bool(known) and session.may("operate") and session.principal.may_touch([station.room]),
    )  # fmt: skip


@router.get("/{name}/changes")
async def changes(request: Request, session: Viewer, name: str) -> StreamingResponse:
    """Send what a station has and does as it changes."""
    manager = request.app.state.manager
    await run_in_threadpool(stations.read_station, request, session.principal, name)  # 404 before it begins

    def draw() -> dict[str, str]:
        try:
            told = _told(request, session.principal, name)
        except Problem:
            return {}
        return {part: render.fragment(f"station-{part}", **told) for part in ("now", "details")}

    return answer(stream(manager, Cards(draw)))


@router.get("/{name}/journal")
def journal(
    request: Request,
    session: Viewer,
    name: str,
    unit: Unit = "",
    after: Annotated[str, Query(pattern=f"^$|{logs.CURSOR}")] = "",
) -> HTMLResponse:
    """Send the lines that followed, and where to go on."""
    found = _journal(request, session.principal, name, unit, after or None, LINES)
    return HTMLResponse(render.fragment("journal-lines", journal=found, more=True))


def _told(request: Request, principal: Any, name: str) -> dict[str, Any]:
    """Return what the live part of the page shows."""
    station = stations.read_station(request, principal, name)
    event = request.app.state.manager.inventory.current().event
    wanted = event.stations.get(station.name or "")
    how = health(wanted, station.said, station.presence not in SILENT) if wanted is not None else None
    return {"station": station, "said": station.said, "how": how}


def _journal(request: Request, principal: Any, name: str, unit: str, after: str | None, lines: int) -> dict[str, Any]:
    """Return entries of the journal, or why there are none."""
    try:
        found = logs.journal(request, principal, name, unit=unit or None, after=after, lines=lines)
    except Problem as problem:
        return {"entries": [], "after": after, "problem": f"{problem.detail} {problem.action}"}
    return {"entries": found.entries, "after": found.after, "problem": ""}
