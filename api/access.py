"""Who may do what: tokens with a scope, perhaps for one room only, and the audit of every change."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.clock import now
from api.database import Database
from api.hashes import hash_of
from api.problems import Problem
from api.tables import Audit, Token

Scope = Literal["read", "operate", "admin", "enrol", "board", "visuals"]
"""`read` sees everything, `operate` also starts runs, `admin` also accepts stations and manages tokens; a token of
scope `enrol` does nothing but bring stations of its room to their secret, one of scope `board` shows the status board
and nothing else, and one of scope `visuals` is for the stations that push slides and texts: it reads who may send them,
with hashes of passwords that `read` and `operate` do not see, and reports what was sent."""
SCOPES: tuple[Scope, ...] = ("read", "operate", "admin", "enrol", "board", "visuals")
RANK = {"read": 1, "operate": 2, "admin": 3}
PREFIX = "smt_"
"""Begin of each token, so that scanners of repositories recognise one that was committed by mistake."""


@dataclass(frozen=True)
class Principal:
    """Who asks: the token's id, its scope, and the room that it is limited to."""

    id: str
    scope: str
    room: str | None
    address: str

    @property
    def name(self) -> str:
        """How the audit and the runs call it."""
        return f"token {self.id}"

    def may_touch(self, rooms: Iterable[str | None]) -> bool:
        """Tell whether it may change stations of these rooms (None: a station of no room)."""
        return self.room is None or all(room == self.room for room in rooms)


def create_token(
    database: Database, scope: str, room: str | None = None, days: float | None = None, note: str = ""
) -> tuple[str, str]:
    """Make a token.

    Args:
        database: where its hash goes.
        scope: one of `SCOPES`.
        room: the only room that it may change; for `enrol` the room whose stations it brings in.
        days: until it expires; None for never.
        note: what it is for.

    Returns:
        Its id and the token itself, which is kept nowhere.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    identity = secrets.token_hex(4)
    expires = now() + days * 86400 if days else None
    with database.writing() as session:
        session.add(
            Token(
                id=identity, hash=hash_of(secret), scope=scope, room=room, note=note, created_at=now(),
                expires_at=expires, revoked_at=None,
            )
        )  # fmt: skip
    return identity, secret


def revoke_token(database: Database, identity: str) -> bool:
    """Revoke a token by its id; return whether there was a valid one."""
    with database.writing() as session:
        token = session.get(Token, identity)
        if token is None or token.revoked_at is not None:
            return False
        token.revoked_at = now()
        return True


def find_token(database: Database, secret: str) -> Token | None:
    """Return the valid token with this text, or None."""
    with database.reading() as session:
        return _valid(session.scalar(select(Token).where(Token.hash == hash_of(secret))))


def valid_token(database: Database, identity: str) -> Token | None:
    """Return the token with this id while it is valid, or None."""
    with database.reading() as session:
        return _valid(session.get(Token, identity))


def _valid(token: Token | None) -> Token | None:
    if token is None or token.revoked_at is not None or (token.expires_at or float("inf")) <= now():
        return None
    return token


_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token from `stationmaster token create`.")


def address_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else "unknown"


def _principal(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    manager = request.app.state.manager
    token = find_token(manager.database, credentials.credentials) if credentials else None
    if token is None and credentials and hash_of(credentials.credentials) in manager.inventory.visuals_tokens():
        # stations that push slides and texts know one another by a secret of the inventory, and the manager them
        return Principal("of the inventory", "visuals", None, address_of(request))
    if token is None:
        raise Problem(
            401,
            "NoValidToken",
            "The request brings no valid token.",
            "Send 'Authorization: Bearer TOKEN'; an admin makes one with 'stationmaster token create'.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Principal(token.id, token.scope, token.room, address_of(request))


def is_enough(scope: str, least: str) -> bool:
    """Tell whether a token of one scope may do what needs at least another; `visuals` is met by itself and `admin`."""
    if least in RANK:
        return RANK.get(scope, 0) >= RANK[least]
    return scope in (least, "admin")


class _Needs:
    def __init__(self, scope: str) -> None:
        self.scope = scope

    def __call__(self, principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        if not is_enough(principal.scope, self.scope):
            raise Problem(
                403,
                "ScopeMissing",
                f"This needs the scope {self.scope!r}; the token has {principal.scope!r}.",
                f"Use a token made with 'stationmaster token create --scope {self.scope}'.",
            )
        return principal


Reader = Annotated[Principal, Depends(_Needs("read"))]
Operator = Annotated[Principal, Depends(_Needs("operate"))]
Admin = Annotated[Principal, Depends(_Needs("admin"))]
VisualsStation = Annotated[Principal, Depends(_Needs("visuals"))]


def require_rooms(principal: Principal, rooms: Iterable[str | None]) -> None:
    """Refuse a change of stations outside the token's room."""
    if not principal.may_touch(rooms):
        raise Problem(
            403,
            "RoomNotAllowed",
            f"The token may change the room {principal.room!r} only.",
            "Name a target inside that room, or use a token without a room.",
        )


def require_event(principal: Principal) -> None:
    """Refuse a change that concerns the whole event to a token of one room."""
    require_rooms(principal, [None])


def audit(
    session: Session,
    principal: Principal | str,
    action: str,
    asked: dict[str, Any],
    resolved: dict[str, Any],
    result: str,
    address: str = "",
) -> None:
    """Write down a change: who, from where, what was asked, what it came to, and the result.

    `session` is the one of the change itself, so that there is none without the other.
    """
    who, where = (principal, address) if isinstance(principal, str) else (principal.name, principal.address)
    session.add(Audit(at=now(), who=who, address=where, action=action, asked=asked, resolved=resolved, result=result))
