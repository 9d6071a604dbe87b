"""The way in and out of the page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.access import RANK, address_of, find_token
from api.pages import render
from api.pages.session import COOKIE, Form, check_origin, form_of, give_cookie

router = APIRouter(include_in_schema=False)


def _way(text: str) -> str:
    """Return where to go after signing in: a path of ours, and nothing that a browser takes for another site's."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() else "/"


@router.get("/sign-in")
def ask(request: Request, next: str = "/") -> HTMLResponse:
    """Ask for a token."""
    return render.page(request, None, "sign-in", mistake="", next=_way(next))


@router.post("/sign-in")
def sign_in(request: Request, form: Annotated[dict[str, str], Depends(form_of)]) -> Response:
    """Take a token and begin a session."""
    check_origin(request)
    manager = request.app.state.manager
    token = find_token(manager.database, form.get("token", "").strip())
    if token is None or token.scope not in RANK:
        manager.open_limit.check(address_of(request))
        told = "This token is not valid: it has expired, was revoked, or is mistyped."
        if token is not None:
            told = f"A token of scope {token.scope} is not for this page; the status board is at /board?token=…"
        return render.page(request, None, "sign-in", 401, mistake=told, next=_way(form.get("next", "/")))
    return give_cookie(request, RedirectResponse(_way(form.get("next", "/")), 303), token.id)


@router.post("/sign-out")
def sign_out(_form: Form) -> Response:
    """End the session."""
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE)
    return answer
