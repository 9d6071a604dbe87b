"""The inventory over HTTP: what is in force, and whether the newest state would pass."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.access import Reader
from api.clock import told
from api.inventory import Inventory, Newest
from api.problems import RESPONSES, Problem, ProblemDocument

router = APIRouter(prefix="/v1/inventory", tags=["inventory"], responses=RESPONSES)


class Finding(BaseModel):
    """One mistake in the inventory, as `stationmaster check --json` tells it; files are named from its folder."""

    error: str
    station: str | None
    stations: list[str]
    role: str | None
    instance: str | None
    path: str | None
    file: str | None
    line: int | None
    value: Any
    allowed: Any
    suggestion: str | None
    message: str


class Checked(BaseModel):
    """What the check says of the newest state."""

    findings: list[Finding]
    revision: str | None
    dirty: bool
    stations: int


class InForce(BaseModel):
    """The state that runs and wanted hashes follow."""

    revision: str
    dirty: bool
    since: str | None
    stations: int
    rooms: int


class Rendering(BaseModel):
    """Of how many stations the wanted hash is known."""

    done: int
    total: int


class InventoryEntry(BaseModel):
    """How it stands with the inventory."""

    branch: str | None
    in_force: InForce | None
    """Null until a first state has passed the check."""
    newest: Checked
    problem: str | None
    """Why the newest state cannot be had, if it cannot."""
    rendering: Rendering


@router.get("")
def read_inventory(request: Request, _principal: Reader) -> InventoryEntry:
    """Tell which state of the inventory is in force, and what is wrong with the newest if it is another one."""
    manager = request.app.state.manager
    inventory: Inventory = manager.inventory
    done, total = inventory.rendering
    newest = inventory.newest
    return InventoryEntry(
        branch=manager.settings.branch,
        in_force=_in_force(inventory),
        newest=_checked(newest),
        problem=newest.problem,
        rendering=Rendering(done=done, total=total),
    )


@router.post("/check", responses={503: {"model": ProblemDocument, "description": "It cannot be read at all now"}})
def check(request: Request, _principal: Reader) -> Checked:
    """Check the inventory as it is now on disk, or at the branch's head, and tell all findings.

    Nothing comes into force by it, and nothing is started; it takes one to a few seconds.
    """
    found: Newest = request.app.state.manager.inventory.check()
    if found.problem:
        raise Problem(
            503,
            "InventoryUnusable",
            f"The inventory cannot be checked: {found.problem}.",
            "See the manager's journal, and whether the inventory is where the manager was told.",
            retryable=True,
        )
    return _checked(found)


def _checked(newest: Newest) -> Checked:
    findings = [Finding(**finding) for finding in newest.findings]
    return Checked(findings=findings, revision=newest.revision, dirty=newest.dirty, stations=newest.stations)


def _in_force(inventory: Inventory) -> InForce | None:
    try:
        snapshot = inventory.current()
    except Problem:
        return None
    event = snapshot.event
    return InForce(
        revision=snapshot.revision,
        dirty=snapshot.dirty,
        since=told(snapshot.at),
        stations=len(event.stations),
        rooms=len(event.rooms),
    )
