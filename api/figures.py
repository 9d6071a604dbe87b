"""A station's figures over the last hours."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from api import history
from api.access import Reader
from api.problems import RESPONSES, ProblemDocument, not_found

router = APIRouter(prefix="/v1", tags=["stations"], responses=RESPONSES)


# no tuple: schemathesis, which checks the answers, reads the `prefixItems` of its schema as a schema that is not valid
Point = Annotated[list[int | float], Field(min_length=2, max_length=2)]


class Figures(BaseModel):
    """The course of a station's figures."""

    station: str
    step: int = Field(description="Seconds between two values; a minute without a hello has none.")
    figures: dict[str, list[Point]] = Field(
        description="By name, an instance's with `role/instance ` before it: start of the minute in seconds since 1970 "
        "and the last value in it, oldest first."
    )


@router.get(
    "/stations/{name}/figures",
    responses={404: {"model": ProblemDocument, "description": "No such station"}},
)
def figures(
    request: Request, _principal: Reader, name: str, hours: Annotated[float, Query(ge=0.1, le=history.KEPT)] = 6
) -> Figures:
    """Tell how a station's figures were over the last hours; empty for one that said no hello in them."""
    manager = request.app.state.manager
    if manager.registry.view(name) is None and not manager.registry.assigned(name):
        raise not_found("station", name[:64])
    found = history.read(manager.database, name, hours)
    points = {figure: [list(point) for point in course] for figure, course in found.items()}
    return Figures(station=name, step=history.MINUTE, figures=points)
