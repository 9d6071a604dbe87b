"""Runs: the past ones, one of them as it goes, and what may be done with it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from api import run_stream, runs
from api.pages import render, run_follow, run_log, run_plan
from api.pages.changes import answer
from api.pages.session import Form, Session, Viewer, need

router = APIRouter(prefix="/runs", include_in_schema=False)
SHOWN = 50
"""Runs on one page."""
Search = Annotated[str, Query(max_length=200)]


@router.get("")
def show(
    request: Request,
    session: Viewer,
    before: Annotated[runs.Identity | None, Query()] = None,
    station: Annotated[str | None, Query(max_length=64)] = None,
) -> HTMLResponse:
    """List the runs, the newest first."""
    found = runs.list_runs(request, session.principal, before=before, station=station or None, limit=SHOWN)
    return render.page(request, session, "runs", runs=found.runs, next=found.next, station=station)


@router.get("/{run_id}")
async def show_one(request: Request, session: Viewer, run_id: runs.Identity) -> HTMLResponse:
    """Show a run and what became of each station."""
    told = await run_follow.now(request.app.state.manager, run_id, _may(request, session))
    return render.page(request, session, "run", **told)


@router.get("/{run_id}/live")
async def live(
    request: Request,
    session: Viewer,
    run_id: runs.Identity,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**31 - 1)] = None,
) -> StreamingResponse:
    """Send what becomes of a run as it goes on; a browser that was cut off goes on behind what it had."""
    manager = request.app.state.manager
    begin = after if last_event_id is None else last_event_id
    await run_stream.poll(manager, run_id, begin, 0)  # an unknown run is answered with 404 before it begins
    return answer(run_follow.stream(manager, run_id, begin, _may(request, session), session.word))


@router.get("/{run_id}/log")
def log(
    request: Request,
    session: Viewer,
    run_id: runs.Identity,
    search: Search = "",
    station: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> HTMLResponse:
    """Show the log of a run, or the lines of it that have a text; each can be linked."""
    run = runs.read_run(request, session.principal, run_id)
    page = run_log.search(request.app.state.manager, run_id, search, station, after)
    return render.page(request, session, "run-log", run=run, search=search, station=station, **page)


@router.post("/{run_id}/cancel")
def cancel(request: Request, response: Response, session: Viewer, _form: Form, run_id: runs.Identity) -> Response:
    """Have a run ended."""
    need(session, "operate")
    runs.cancel(request, response, session.principal, run_id)
    return RedirectResponse(f"/runs/{run_id}", 303)


@router.post("/{run_id}/retry")
def retry(request: Request, response: Response, session: Viewer, _form: Form, run_id: runs.Identity) -> Response:
    """Do it again where it failed."""
    need(session, "operate")
    again = runs.retry(request, response, session.principal, run_id)
    return RedirectResponse(f"/runs/{again.id}", 303)


@router.post("/{run_id}/do")
def do(request: Request, response: Response, session: Viewer, _form: Form, run_id: runs.Identity) -> Response:
    """Do what a dry run showed; of two who press at a time, both come to the same run."""
    need(session, "operate")
    shown = runs.read_run(request, session.principal, run_id)
    body = run_plan.request_of(request.app.state.manager, shown)
    run = runs.start(request, response, session.principal, body, idempotency_key=f"shown by {run_id}")
    return RedirectResponse(f"/runs/{run.id}", 303)


def _may(request: Request, session: Session) -> Any:
    """Return what tells whether the session may change stations."""

    def may(stations: list[str]) -> bool:
        if not session.may("operate"):
            return False
        snapshot = request.app.state.manager.inventory.current()
        return session.principal.may_touch(snapshot.room_of(name) for name in stations)

    return may
