"""The page: what the manager knows and does, for people under stress; one module a page, over the API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from api.pages import (
    board,
    channels,
    enrolment,
    inventory,
    media,
    render,
    rooms,
    run_plan,
    runs,
    screens,
    sign_in,
    stations,
    stills,
    watch,
)
from api.pages.session import SignIn, session_of
from api.problems import Problem

PAGES = (sign_in, rooms, screens, run_plan, runs, stations, enrolment, watch, channels, inventory, board, stills, media)
"""Modules with a `router`; a page is added here and nowhere else."""
Handler = Callable[[Request, Exception], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Add what the page needs to the manager's application, whose errors are problem documents already."""
    manager = app.state.manager
    app.state.room_cards = rooms.cards_of(manager)
    app.state.board_cards = board.cards_of(manager)
    app.state.media = media.Media(manager)
    app.state.stills = stills.States(app.state.media)
    app.add_exception_handler(SignIn, _ask)
    for kind in (Problem, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _readable(app.exception_handlers[kind]))
    app.mount("/static", Static(directory=Path(__file__).parent / "static"), name="static")


class Static(StaticFiles):
    """Files that a browser keeps, and asks for only whether they have changed."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        """Return the answer for a file."""
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _ask(request: Request, _error: Exception) -> Response:
    """Answer who is not signed in; afterwards one is where one was, which for a form is the page that it stands on."""
    back = request.url.path if request.method == "GET" else urlsplit(request.headers.get("referer", "/")).path
    way = f"/sign-in?next={quote(back)}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": way})
    return RedirectResponse(way, 303)


def _readable(handler: Any) -> Handler:
    """Return a handler that answers a browser with a page that tells the problem."""

    async def answer(request: Request, error: Exception) -> Response:
        told: Response = await handler(request, error)
        if request.url.path.startswith("/v1/") or "text/html" not in request.headers.get("accept", ""):
            return told
        try:
            session = await run_in_threadpool(session_of, request)
        except SignIn:
            session = None
        problem = json.loads(bytes(told.body))
        return await run_in_threadpool(render.page, request, session, "problem", told.status_code, problem=problem)

    return answer
