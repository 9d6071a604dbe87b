"""Tokens over HTTP: who asks, which there are, revoke one. They are made on the command line only."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import select

from api.access import Admin, Reader, audit, require_event
from api.clock import now, told
from api.problems import RESPONSES, not_found
from api.tables import Token

router = APIRouter(prefix="/v1", tags=["tokens"], responses=RESPONSES)


class TokenEntry(BaseModel):
    """A token without its secret."""

    id: str
    scope: str
    room: str | None
    note: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None


class WhoAmI(BaseModel):
    """What the token of this request may do."""

    id: str
    scope: str
    room: str | None


@router.get("/whoami")
def whoami(principal: Reader) -> WhoAmI:
    """Tell what the caller's own token may do."""
    return WhoAmI(id=principal.id, scope=principal.scope, room=principal.room)


@router.get("/tokens")
def list_tokens(request: Request, _principal: Admin) -> list[TokenEntry]:
    """List all tokens, revoked ones too."""
    with request.app.state.manager.database.reading() as session:
        return [
            TokenEntry(
                id=token.id, scope=token.scope, room=token.room, note=token.note, created_at=told(token.created_at),
                expires_at=told(token.expires_at), revoked_at=told(token.revoked_at),
            )
            for token in session.scalars(select(Token).order_by(Token.created_at))
        ]  # fmt: skip


@router.delete("/tokens/{token_id}", status_code=204, responses={404: {"description": "No valid token of that id"}})
def revoke(request: Request, principal: Admin, token_id: str) -> None:
    """Revoke a token; what it started goes on."""
    require_event(principal)
    with request.app.state.manager.database.writing() as session:
        token = session.get(Token, token_id)
        if token is None or token.revoked_at is not None:
            raise not_found("token", token_id)
        token.revoked_at = now()
        audit(session, principal, "revoke-token", {"token": token_id}, {"note": token.note}, "revoked")
