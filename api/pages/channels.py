"""Channels with what was sent to them last, and the log of all that was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from api import messages, visuals
from api.logs import EARLIEST, LATEST
from api.pages import render
from api.pages.session import Viewer
from api.problems import Problem

router = APIRouter(include_in_schema=False)
SHOWN = 100
"""Messages on one page."""
Search = Annotated[str, Query(max_length=200)]


@router.get("/channels")
def show(request: Request, session: Viewer) -> HTMLResponse:
    """Show each channel with its broadcaster, its default slide and text, and its last message."""
    try:
        found, problem = visuals.read_channels(request, session.principal), ""
    except Problem as error:  # there is no inventory yet
        found, problem = [], error.detail
    return render.page(request, session, "channels", channels=found, problem=problem)


@router.get("/messages")
def show_messages(
    request: Request,
    session: Viewer,
    topic: Search = "",
    text: Search = "",
    since: Search = "",
    until: Search = "",
    before: Annotated[str | None, Query(pattern=messages.CURSOR)] = None,
) -> HTMLResponse:
    """List what was sent, the newest first, by topic, text and time."""
    wanted = messages.Search(topic, text, _seconds("since", since), _seconds("until", until), before)
    with request.app.state.manager.database.reading() as reading:
        found = messages.search(reading, wanted, SHOWN)
    asked = {"topic": topic, "text": text, "since": since, "until": until}
    older = urlencode({**{name: value for name, value in asked.items() if value}, "before": found.next or ""})
    return render.page(
        request, session, "messages", found=found.messages, older=older if found.next else "", asked=asked
    )


def _seconds(name: str, text: str) -> float | None:
    """Return a time in UTC as a browser's field has it, in seconds since 1970; Problem 422 if it is none."""
    if not text:
        return None
    try:
        # a field for a time brings 2026-11-21T10:04, and a link may bring what the page shows, 2026-11-21 10:04:05
        return min(max(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp(), EARLIEST), LATEST)
    except ValueError as error:
        raise Problem(
            422, "InvalidForm", f"{name}: {text[:40]!r} is no time.", "Go back and write one such as 2026-11-21T10:04."
        ) from error
