"""Runs over HTTP: start, list, read, follow, cancel, repeat."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints
from sqlalchemy import select

from api import run_stream
from api.access import RANK, Operator, Principal, Reader, audit, require_rooms
from api.problems import RESPONSES, Problem, ProblemDocument, not_found
from api.run_request import RunRequest
from api.run_states import ACTIVE, ENDED, QUEUED
from api.run_views import RunDetail, RunEvents, RunList, RunSummary, detail, summary
from api.tables import Run

router = APIRouter(prefix="/v1", tags=["runs"], responses=RESPONSES)
Identity = Annotated[str, StringConstraints(pattern=r"^[0-9A-Z]{26}$")]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
State = Literal["open", "ended"] | Literal[
    "queued", "waiting", "starting", "running", "canceling", "succeeded", "failed", "unreachable", "incomplete",
    "timed_out", "canceled", "cancel_unverified", "lost",
]  # fmt: skip
ABSENT: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemDocument, "content": {"application/problem+json": {}}, "description": "No such run"}
}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemDocument, "content": {"application/problem+json": {}}, "description": "Not in this state"}
}
UNUSABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": ProblemDocument, "content": {"application/problem+json": {}}, "description": "No usable inventory"}
}


def _rooms(manager: Any, stations: list[str]) -> set[str | None]:
    snapshot = manager.inventory.current()
    return {snapshot.room_of(name) for name in stations}


def _answer(response: Response, run: Run) -> RunSummary:
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return RunSummary(**summary(run))


@router.post("/runs", status_code=202, responses={**CONFLICT, **UNUSABLE})
def start(
    request: Request, response: Response, principal: Operator, body: RunRequest, idempotency_key: Key = None
) -> RunSummary:
    """Put a run into the queue, or name the queued one that does the same already.

    A repeated request with the same `Idempotency-Key` gets the same run.
    """
    manager = request.app.state.manager
    if body.interrupt and RANK.get(principal.scope, 0) < RANK["admin"]:
        raise Problem(
            403, "ScopeMissing", "Interrupting what is on air needs the scope 'admin'.",
            "Leave interrupt out: what is held is done by the next apply off air.",
        )  # fmt: skip

    def allow(stations: list[str]) -> None:
        require_rooms(principal, _rooms(manager, stations))

    with manager.database.writing() as session:
        run = manager.runs.submit(body, principal.name, key=idempotency_key, session=session, allow=allow)
        told = {"stations": run.stations}
        audit(session, principal, "run", body.model_dump(exclude_none=True), told, f"run {run.id}")
    return _answer(response, run)


@router.get("/runs")
def list_runs(
    request: Request,
    _principal: Reader,
    state: Annotated[State | None, Query(description="`open`, `ended`, or one state")] = None,
    action: str | None = None,
    station: Annotated[str | None, Query(description="only runs that have this station")] = None,
    author: str | None = None,
    before: Annotated[Identity | None, Query(description="only runs older than this one")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> RunList:
    """List runs, the newest first."""
    asked = select(Run).order_by(Run.id.desc())
    if state is not None:
        groups = {"open": (*QUEUED, *ACTIVE), "ended": ENDED}
        asked = asked.where(Run.state.in_(groups.get(state, (state,))))
    if action is not None:
        asked = asked.where(Run.action == action)
    if author is not None:
        asked = asked.where(Run.author == author)
    if before is not None:
        asked = asked.where(Run.id < before)
    found: list[Run] = []
    with request.app.state.manager.database.reading() as session:
        # which stations a run has is a list in a column, so it is looked through here
        for run in session.scalars(asked.execution_options(yield_per=200)):
            if station is None or station in run.stations:
                found.append(run)
            if len(found) > limit:
                break
        page = [RunSummary(**summary(run)) for run in found[:limit]]
    return RunList(runs=page, next=page[-1].id if len(found) > limit else None)


@router.get("/runs/{run_id}", responses=ABSENT)
def read_run(request: Request, _principal: Reader, run_id: Identity) -> RunDetail:
    """Tell of a run and what became of each station."""
    with request.app.state.manager.database.reading() as session:
        run = session.get(Run, run_id)
        if run is None:
            raise not_found("run", run_id)
        return detail(run)


def _may_change(manager: Any, principal: Principal, run: Run | None, run_id: str) -> Run:
    if run is None:
        raise not_found("run", run_id)
    if principal.room is not None:
        require_rooms(principal, _rooms(manager, run.stations))
    return run


@router.post("/runs/{run_id}/cancel", status_code=202, responses={**ABSENT, **CONFLICT})
def cancel(request: Request, response: Response, principal: Operator, run_id: Identity) -> RunSummary:
    """Have a run ended. It is `canceled` once its stations are proven to be free of it."""
    manager = request.app.state.manager
    with manager.database.writing() as session:
        _may_change(manager, principal, session.get(Run, run_id), run_id)
        run = manager.runs.cancel(run_id, principal.name, session)
        audit(session, principal, "cancel-run", {"run": run_id}, {"stations": run.stations}, run.state)
    return _answer(response, run)


@router.post("/runs/{run_id}/retry", status_code=202, responses={**ABSENT, **CONFLICT, **UNUSABLE})
def retry(request: Request, response: Response, principal: Operator, run_id: Identity) -> RunSummary:
    """Run the same again for the stations that failed or could not be reached."""
    manager = request.app.state.manager
    with manager.database.writing() as session:
        old = _may_change(manager, principal, session.get(Run, run_id), run_id)
        results = old.result.get("stations", {})
        stations = sorted(name for name, one in results.items() if one["state"] in ("failed", "unreachable"))
        if old.state not in ENDED or not stations:
            raise Problem(
                409, "NothingToRetry", f"The run is {old.state} and no station of it failed.",
                "Only failed and unreachable stations of an ended run are done again.",
            )  # fmt: skip
        given = {name: value for name, value in old.parameters.items() if name != "automatic"}
        body = RunRequest.model_validate({"action": old.action, "target": old.target, **given})
        known = set(manager.runs.resolve(body))
        if gone := set(stations) - known:
            raise Problem(
                409, "StationsGone", f"The inventory no longer has {', '.join(sorted(gone))} there.",
                "Start a new run for what there is.",
            )  # fmt: skip
        run = manager.runs.submit(body, principal.name, session=session, stations=stations, retry_of=old.id)
        audit(session, principal, "retry-run", {"run": run_id}, {"stations": stations}, f"run {run.id}")
    return _answer(response, run)


@router.get("/runs/{run_id}/events", responses=ABSENT)
async def events(
    request: Request,
    _principal: Reader,
    run_id: Identity,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="number of the last event that is known")] = 0,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for an event")] = 0,
) -> RunEvents:
    """Tell a run's events behind a number, waiting for one if there is none yet."""
    return await run_stream.poll(request.app.state.manager, run_id, after, wait)


@router.get(
    "/runs/{run_id}/stream",
    responses={**ABSENT, 200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
    response_class=StreamingResponse,
)
async def stream(
    request: Request,
    _principal: Reader,
    run_id: Identity,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=2**31 - 1)] = 0,
) -> StreamingResponse:
    """Send a run's events as they come, with the same numbers."""
    manager = request.app.state.manager
    await run_stream.poll(manager, run_id, last_event_id, 0)  # an unknown run is answered with 404 before it begins
    return StreamingResponse(
        run_stream.stream(manager, run_id, last_event_id),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )
