"""Sign-in to the page: a token once, then a cookie that says which token it was.

The cookie is signed under a key of the manager and holds no secret: the token's id and a word against forged requests.
Each request looks the token up, so that one which was revoked or has expired ends the session at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from fastapi.responses import Response
from itsdangerous import BadData, URLSafeTimedSerializer

from api.access import RANK, Principal, address_of, valid_token
from api.problems import Problem
from api.tables import Token

COOKIE = "stationmaster"
BOARD = "board"
"""The scope of a token that shows the status board and nothing else; its cookie is one of its own, so that an address
with somebody's board token takes nobody's session away."""
LIFETIME = 5 * 86400
"""Seconds until one has to sign in again: set-up, a weekend, and the way home."""


class SignIn(Exception):
    """Nobody is signed in; the answer is the sign-in page, which leads back."""


@dataclass(frozen=True)
class Session:
    """Who looks at the page, and the word that each of their forms has to bring."""

    principal: Principal
    word: str

    def may(self, scope: str) -> bool:
        """Tell whether the token's scope is enough, so that a page offers nothing that would be refused."""
        return RANK.get(self.principal.scope, 0) >= RANK[scope]


def _serializer(request: Request) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(request.app.state.manager.page_key, salt="session")


def give_cookie(request: Request, answer: Response, token: str, kind: str = "") -> Response:
    """Let an answer begin a session.

    Args:
        request: what it answers.
        answer: gets the cookie.
        token: id of the token.
        kind: `BOARD` for the status board's.
    """
    # lax: a link to a run in the crew's chat opens it; what changes something needs the session's word as well
    cookie = str(_serializer(request).dumps([token, secrets.token_urlsafe(16)]))
    secure = request.url.scheme == "https"
    answer.set_cookie(_name(kind), cookie, max_age=LIFETIME, httponly=True, samesite="lax", secure=secure)
    return answer


def _name(kind: str) -> str:
    return f"{COOKIE}-{kind}" if kind else COOKIE


def _signed_in(request: Request, kind: str = "") -> tuple[Token, str]:
    """Return token and word of a cookie; SignIn without a good one."""
    try:
        told: Any = _serializer(request).loads(request.cookies.get(_name(kind), ""), max_age=LIFETIME)
        identity, word = told
    except (BadData, ValueError, TypeError) as error:
        raise SignIn from error
    token = valid_token(request.app.state.manager.database, identity)
    if token is None or (token.scope != kind if kind else token.scope not in RANK):
        raise SignIn
    return token, word


def session_of(request: Request) -> Session:
    """Return the session of a request.

    Raises:
        SignIn: there is none, or its token is no longer valid.
    """
    token, word = _signed_in(request)
    return Session(Principal(token.id, token.scope, token.room, address_of(request)), word)


def board_of(request: Request) -> str:
    """Return the id of the token that shows the status board, which a crew's session does, too; SignIn without one."""
    try:
        return _signed_in(request, BOARD)[0].id
    except SignIn:
        return _signed_in(request)[0].id


Viewer = Annotated[Session, Depends(session_of)]


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form; Problem 422 for one with more fields than any of ours has."""
    try:
        return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), max_num_fields=100))
    except ValueError as error:
        raise Problem(422, "InvalidForm", "The form has too many fields.", "Send the form of the page.") from error


def check_origin(request: Request) -> None:
    """Refuse a form that another site sent; a browser says where it comes from.

    Raises:
        Problem: 403.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(
            403, "ForeignOrigin", "The form was sent from another site.", "Open the page itself and try again."
        )


async def changed(request: Request, session: Viewer) -> dict[str, str]:
    """Return the fields of a form that changes something, once it is sure that the page itself sent it."""
    check_origin(request)
    form = await form_of(request)
    word = form.pop("word", "")
    if not hmac.compare_digest(hashlib.sha256(word.encode()).digest(), hashlib.sha256(session.word.encode()).digest()):
        raise Problem(403, "StaleForm", "The form is not of this session.", "Load the page again and send it anew.")
    return form


Form = Annotated[dict[str, str], Depends(changed)]


def need(session: Session, scope: str) -> None:
    """Refuse what the session's token may not do.

    Raises:
        Problem: 403.
    """
    if not session.may(scope):
        raise Problem(403, "ScopeMissing", f"This needs a token of scope {scope!r}.", "Sign in with another token.")


def number_of(form: dict[str, str], name: str) -> int | None:
    """Return the whole number in a field, None where nothing is written.

    Raises:
        Problem: 422, it is no number.
    """
    text = form.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise Problem(422, "InvalidForm", f"{name}: {text[:20]!r} is no whole number.", "Go back and write a number.")
    return int(text)
