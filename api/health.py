"""Whether the manager lives, and whether it can work."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import text

from api.problems import Problem

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A short answer for probes."""

    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """Tell that the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"description": "The database does not answer"}})
def readyz(request: Request) -> Health:
    """Tell that the manager can do its work: the database answers."""
    try:
        with request.app.state.manager.database.reading() as session:
            session.execute(text("SELECT 1"))
    except Exception as error:
        raise Problem(
            503, "NotReady", "The database does not answer.", "See the manager's journal.", retryable=True
        ) from error
    return Health(status="ready")
