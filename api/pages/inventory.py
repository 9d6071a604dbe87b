"""The inventory: which state is in force, and what is wrong with the newest."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api import checks
from api.pages import render
from api.pages.session import Viewer
from api.problems import Problem

router = APIRouter(prefix="/inventory", include_in_schema=False)


@router.get("")
def show(request: Request, session: Viewer) -> HTMLResponse:
    """Show the inventory's state with all findings of the newest."""
    found = checks.read_inventory(request, session.principal)
    return render.page(request, session, "inventory", inventory=found, checked=None, problem="")


@router.get("/check")
def check(request: Request, session: Viewer) -> HTMLResponse:
    """Check the inventory as it is this moment; nothing comes into force by it."""
    found, checked, problem = checks.read_inventory(request, session.principal), None, ""
    try:
        checked = checks.check(request, session.principal)
    except Problem as error:
        problem = error.detail
    return render.page(request, session, "inventory", inventory=found, checked=checked, problem=problem)
