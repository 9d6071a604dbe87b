"""From a form to a run: what may be asked for, the dry run that shows it, and the run that then does it."""

from __future__ import annotations

import difflib
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from sqlalchemy import select

from api import runs
from api.clock import now
from api.pages import render
from api.pages.session import Form, Session, Viewer, need, number_of
from api.problems import Problem
from api.run_request import RunRequest
from api.run_views import RunDetail
from api.tables import Run, RunEvent

router = APIRouter(prefix="/run", include_in_schema=False)

AT_ONCE = ("check", "on-air")
"""Actions that interrupt nothing and change no file: they need no dry run."""
MEANING = {
    "apply": "bring what the inventory wants",
    "check": "check the inventory only",
    "restart": "restart units",
    "start": "start what was stopped, end a rollback",
    "stop": "stop units until they are started",
    "rollback": "go back to an earlier generation",
    "provision": "packages, users, clock",
    "on-air": "protect from interruption, or end that with 0",
}
GOOD_FOR = 900.0
"""Seconds for which what a dry run showed is taken for what is: later it has to be looked at again."""
UNKNOWN = ("failed", "unreachable", "untouched", "unknown")
"""States of a station in a dry run that say nothing of what would become of it."""
TEXT = 20_000
"""Characters of one station's differences that are shown."""


@router.get("/new")
def new(
    request: Request,
    session: Viewer,
    action: str = "apply",
    target: str = "",
    role: str = "",
    generation: str = "",
) -> HTMLResponse:
    """Ask what to do, and where."""
    need(session, "operate")
    given = {"action": action, "target": target, "role": role, "generation": generation}
    return _form(request, session, given)


@router.post("/new")
def ask(request: Request, response: Response, session: Viewer, form: Form) -> Response:
    """Start the dry run, whose page then has the button; or the run itself where nothing can be interrupted."""
    need(session, "operate")
    try:
        body = _request(form)
        if body.action not in AT_ONCE:
            body = body.model_copy(update={"dry_run": True})
        run = runs.start(request, response, session.principal, body)
    except Problem as problem:
        if problem.status != 422:
            raise
        return _form(request, session, form, problem.detail)
    return RedirectResponse(f"/runs/{run.id}", 303)


def _form(request: Request, session: Session, given: dict[str, str], mistake: str = "") -> HTMLResponse:
    snapshot, own = request.app.state.manager.inventory.current(), session.principal.room
    rooms = [room for room in snapshot.event.rooms.values() if own in (None, room.name)]
    stations = [name for name in snapshot.event.stations if own is None or snapshot.room_of(name) == own]
    return render.page(
        request, session, "run-new", 422 if mistake else 200, given=given, mistake=mistake, rooms=rooms,
        stations=stations, everything=own is None, actions=MEANING,
    )  # fmt: skip


def _request(form: dict[str, str]) -> RunRequest:
    """Return what a form asks for; Problem 422 with what is wrong in it."""
    kind, _, name = form.get("target", "").partition(":")
    target: dict[str, Any] = {"everything": True} if kind == "everything" else {kind: name}
    asked: dict[str, Any] = {"action": form.get("action"), "target": target}
    for text in ("role", "reason"):
        if form.get(text, "").strip():
            asked[text] = form[text].strip()
    for number in ("minutes", "generation"):
        if (value := number_of(form, number)) is not None:
            asked[number] = value
    for tick in ("interrupt", "force"):
        if form.get(tick):
            asked[tick] = True
    return validated(asked)


def validated(asked: dict[str, Any]) -> RunRequest:
    """Return a request for a run; Problem 422 if it is none."""
    try:
        return RunRequest.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = "target" if "target" in first["loc"] else ".".join(map(str, first["loc"]))
        told = "choose one" if where in ("target", "action") else first["msg"].removeprefix("Value error, ")
        raise Problem(422, "InvalidForm", f"{where}: {told}" if where else told, "Correct the form.") from error


def request_of(manager: Any, shown: RunDetail) -> RunRequest:
    """Return the request for what a dry run showed.

    Raises:
        Problem: 409, it is none, has not ended, or what it showed may be different by now.
    """
    if why := outdated(manager, shown):
        raise Problem(409, "LookAgain", why, "Do the dry run again, look, and then press the button.")
    given = {name: value for name, value in shown.parameters.items() if name != "dry_run"}
    return validated({"action": shown.action, "target": shown.target, **given})


def outdated(manager: Any, shown: RunDetail) -> str:
    """Return why a run is no dry run that can be done for real now; empty if it is one."""
    if not shown.parameters.get("dry_run"):
        return "This was no dry run."
    if not shown.ended:
        return "The dry run has not ended."
    if shown.state in ("canceled", "cancel_unverified", "lost", "incomplete", "timed_out"):
        return f"The dry run came to no end that shows anything: it is {shown.state}."
    with manager.database.reading() as session:
        run = session.get(Run, shown.id)
        created, ended = (run.created_at, run.ended_at or 0.0) if run is not None else (0.0, 0.0)
    if now() - ended > GOOD_FOR:
        return f"The dry run is more than {GOOD_FOR / 60:.0f} minutes old."
    if manager.inventory.current().at > created:
        return "The inventory has changed since the dry run."
    return ""


def shown_by(manager: Any, run: RunDetail) -> dict[str, Any]:
    """Return what a dry run showed: by station the differences, the live units that would be interrupted, and of
    which stations nothing is known."""
    told = {name: one.apply or {} for name, one in run.results.items()}
    interrupts = {name: one["interrupts"] for name, one in told.items() if one.get("interrupts")}
    unknown = [name for name, one in run.results.items() if one.state in UNKNOWN]
    changes = any(_does(told[name]) or one.state == "changed" for name, one in run.results.items())
    return {"interrupts": interrupts, "unknown": unknown, "changes": changes, "differences": _differences(manager, run)}


def _does(told: dict[str, Any]) -> bool:
    return any(told.get(name) for name in ("changed", "restarted", "started", "stopped", "removed"))


def _differences(manager: Any, run: RunDetail) -> dict[str, str]:
    """Return the text of the differences of each station."""
    found: dict[str, list[str]] = {}
    asked = select(RunEvent).where(RunEvent.run == (run.folded_into or run.id), RunEvent.kind == "runner_on_ok")
    with manager.database.reading() as session:
        for event in session.scalars(asked.order_by(RunEvent.number)):
            result = event.data.get("result") or {}
            if event.station and (result.get("diff") or event.data.get("truncated")):
                found.setdefault(event.station, []).append(_text(result.get("diff")))
    return {name: "".join(texts)[:TEXT] for name, texts in found.items()}


def _text(diff: Any) -> str:
    if not diff:
        return "(too long to be kept here: see ansible-playbook site.yml --check --diff)\n"
    parts = []
    for one in diff if isinstance(diff, list) else [diff]:
        if not isinstance(one, dict):
            continue
        if "prepared" in one:
            parts.append(str(one["prepared"]))
        else:
            before, after = (str(one.get(word) or "").splitlines(keepends=True) for word in ("before", "after"))
            parts += difflib.unified_diff(before, after, "before", "after")
    return "".join(parts)
