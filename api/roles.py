"""What a station can be: the station roles, each with the JSON Schema of its options."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.access import Reader
from api.problems import RESPONSES, ProblemDocument, not_found
from stationmaster import catalogue
from stationmaster.rules.options import schema_of

router = APIRouter(prefix="/v1/roles", tags=["roles"], responses=RESPONSES)


class RoleUnit(BaseModel):
    """A systemd unit that each instance of the role has."""

    name: str
    """As systemd has it, with `INSTANCE` for the instance's id."""
    live: bool | str
    """Whether it is held while its station is on air; an expression over the options where it depends on them."""
    user: str
    memory_max: str
    cpu_weight: int
    io_weight: int
    tasks_max: int


class Role(BaseModel):
    """A station role."""

    name: str
    summary: str
    description: str
    options: dict[str, Any]
    """JSON Schema, draft 2020-12, of one instance's options."""
    instances: int | None
    """How many a station may have; null for any number."""
    provides: str | None
    accepts: list[str]
    packages: list[str]
    units: list[RoleUnit]


@router.get("")
def list_roles(_principal: Reader) -> list[Role]:
    """List the station roles that an inventory may use."""
    return [_told(row) for row in catalogue.load().roles.values()]


@router.get("/{role}", responses={404: {"model": ProblemDocument, "description": "No such role"}})
def read_role(_principal: Reader, role: str) -> Role:
    """Tell what one station role does, and its options."""
    rows = catalogue.load().roles
    if role not in rows:
        raise not_found("role", role[:80])
    return _told(rows[role])


def _told(row: catalogue.StationRole) -> Role:
    return Role(
        name=row.name,
        summary=row.summary,
        description=row.description,
        options=dict(schema_of(row)),
        instances=row.instances or None,
        provides=row.provides,
        accepts=list(row.accepts),
        packages=list(row.packages),
        units=[
            RoleUnit(
                name=f"stationmaster-{row.name}{f'-{unit.name}' if unit.name else ''}@INSTANCE.service",
                live=unit.live,
                user=unit.user or row.user,
                memory_max=unit.memory_max,
                cpu_weight=unit.cpu_weight,
                io_weight=unit.io_weight,
                tasks_max=unit.tasks_max,
            )
            for unit in row.units
        ],
    )
