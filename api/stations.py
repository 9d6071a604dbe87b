"""Stations: enrolment, hellos, and what is wanted next to what is."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select

from api import enrolment
from api.access import Admin, Reader, address_of
from api.clock import now, told
from api.enrolment import EnrolmentAnswer, EnrolmentRequest
from api.hello import Hello, HelloAnswer
from api.hello_door import checked, refusal, spread
from api.problems import RESPONSES, Problem, ProblemDocument, not_found
from api.registry import Registry
from api.station_state import Presence, State
from api.station_view import StationView
from api.tables import Registration, Station
from station import hello_signature

router = APIRouter(prefix="/v1", tags=["stations"], responses=RESPONSES)

HELLO_PATH = "/v1/hello"
LISTED = 1000
"""Stations in one answer; a large event has 200."""
_signature = APIKeyHeader(
    name=hello_signature.SIGNATURE,
    scheme_name="hello",
    auto_error=False,
    description="`v1=` and the HMAC-SHA256, in hexadecimal, under the station's secret, over method, path, time, boot "
    "id, counter and SHA-256 of the body, joined by line feeds; beside it go the headers Stationmaster-Station, -Time, "
    "-Boot and -Counter.",
)


def registry_of(request: Request) -> Registry:
    """Return the registry of the manager that a request came to."""
    registry: Registry = request.app.state.manager.registry
    return registry


def _problem(text: str) -> dict[str, Any]:
    return {"model": ProblemDocument, "content": {"application/problem+json": {}}, "description": text}


class StationEntry(BaseModel):
    """A station: what is wanted next to what is."""

    id: str | None
    name: str | None
    room: str | None
    state: State
    presence: Presence
    enrolment: str
    claims: str | None = Field(description="The station that a waiting machine would become.")
    claim: str | None = Field(description="Begin of the SHA-256 of its claim, which the machine shows, too.")
    hostname: str
    macs: list[str]
    address: str | None
    seen_at: str | None
    wanted: str | None
    applied: str | None
    generation: int | None
    held: int
    on_air_until: str | None


class Happened(BaseModel):
    """One entry of a station's record."""

    at: str | None
    kind: str
    result: dict[str, Any]


class StationDetail(StationEntry):
    """A station with its last hello, its pinned host keys and its record, newest first."""

    said: dict[str, Any]
    host_keys: list[str]
    accepted_by: str | None
    created_at: str | None
    rebooted_at: str | None
    machines: list[StationEntry] = Field(description="Machines that wait to be this station.")
    registrations: list[Happened]


class Choice(BaseModel):
    """Which machine is meant."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{}, {"id": "0b6f6f0e-3d5a-4c0b-9a0e-6a1f7f6f2b11"}]}
    )

    id: Annotated[str, Field(max_length=36)] | None = Field(default=None, description="The machine's id.")


class Rotation(BaseModel):
    """Why the secret is changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"leaked": True}]})

    leaked: bool = Field(default=False, description="Then the old secret proves nothing: an operator accepts it anew.")


def _entry(view: StationView) -> dict[str, Any]:
    said = view.said
    state = said.get("state", {})
    on_air = state.get("on_air_until")
    return {
        **{
            key: getattr(view, key)
            for key in ("id", "name", "room", "state", "presence", "enrolment", "claims", "claim")
        },
        "hostname": view.hostname,
        "macs": list(view.macs),
        "address": view.address,
        "seen_at": told(view.seen_at),
        "wanted": view.wanted,
        "applied": said.get("applied"),
        "generation": said.get("generation"),
        "held": len(state.get("held", ())),
        "on_air_until": told(on_air) if on_air is not None and 0 <= on_air < 1e11 else None,
    }


async def _raw(request: Request) -> bytes:
    return await request.body()


def _limited(request: Request) -> None:
    request.app.state.manager.open_limit.check(address_of(request))


@router.post(
    "/enrolments",
    status_code=201,
    dependencies=[Depends(_limited)],
    openapi_extra={"security": []},
    responses={
        202: {"model": EnrolmentAnswer, "description": "It waits; ask again with the same claim"},
        403: _problem("An operator refused the machine"),
        409: _problem("The secret was given for this claim already"),
    },
)
def enrol(
    request: Request, response: Response, asked: EnrolmentRequest, body: Annotated[bytes, Depends(_raw)]
) -> EnrolmentAnswer:
    """Ask to be a station, or ask again; open to all, for who asks has nothing yet."""
    registry = registry_of(request)
    with registry.database.writing() as session:
        proven = enrolment.proof(registry, session, request.headers, body)
        answer = enrolment.enrol(registry, session, asked, proven, address_of(request))
    if isinstance(answer, Problem):
        raise answer
    registry.forget_identity(answer.id)
    response.status_code = 201 if answer.state == "enrolled" else 202
    return answer


_HELLO_SCHEMA = Hello.model_json_schema(
    ref_template="#/paths/~1v1~1hello/post/requestBody/content/application~1json/schema/$defs/{model}"
)


@router.post(
    "/hello",
    response_model=HelloAnswer,
    dependencies=[Depends(_signature)],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _HELLO_SCHEMA}}}},
    responses={
        401: _problem("No station's signature"),
        409: _problem(
            "Its time, boot or counter is not fresh, or another machine signs; `server_time` is the manager's"
        ),
    },
)
async def hello(request: Request) -> Response:
    """Take a station's hello; the answer says when to come again and never brings configuration."""
    registry = registry_of(request)
    body = await request.body()
    identity, signed = await checked(registry, request.app.state.manager.open_limit, request, HELLO_PATH, body)
    try:
        said = Hello.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step)[:64] for step in first["loc"])
        raise Problem(
            422, "InvalidRequest", f"{where}: {first['msg']}", "Update the station's agent by an apply."
        ) from error
    if said.boot_id != signed.boot:
        raise Problem(422, "InvalidRequest", "boot_id: is not the one that was signed", "Report it as a mistake.")
    if not identity.macs.intersection(said.macs) and not registry.moved(identity, said.macs):
        raise refusal("other-machine")
    outcome, view = await registry.take(identity, signed, said, address_of(request))
    if outcome != "taken":
        raise refusal(outcome)
    answer = HelloAnswer.model_construct(
        next_hello_after=spread(registry.settings.hello_interval),
        server_time=round(now(), 3),
        seen_address=view.address or "",
        state=view.state,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/stations")
def list_stations(
    request: Request,
    _principal: Reader,
    room: Annotated[str | None, Query(max_length=64)] = None,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=LISTED)] = LISTED,
) -> list[StationEntry]:
    """List stations of the inventory and machines that wait, those with a name first."""
    entries = (_entry(view) for view in registry_of(request).views())
    chosen = (entry for entry in entries if room in (None, entry["room"]) and state in (None, entry["state"]))
    return [StationEntry(**entry) for entry, _ in zip(chosen, range(limit), strict=False)]


@router.get("/stations/{name}", responses={404: _problem("There is no such station")})
def read_station(request: Request, _principal: Reader, name: str) -> StationDetail:
    """Tell all about a station, by its name or a machine's id: what is wanted, its last hello, what happened to it."""
    registry = registry_of(request)
    views = registry.views()
    view = next((view for view in views if name in (view.name, view.id)), None) or registry.machine(name)
    if view is None:
        raise not_found("station", name[:64])
    happened = select(Registration).where(Registration.station == view.id).order_by(Registration.id.desc())
    with registry.database.reading() as session:
        rows = session.scalars(happened).all() if view.id else []
    return StationDetail(
        **_entry(view),
        said=view.said,
        host_keys=[f"{key.partition(' ')[0]} {_fingerprint(key)}" for key in view.host_keys],
        accepted_by=view.accepted_by,
        created_at=told(view.created_at),
        rebooted_at=told(view.rebooted_at),
        machines=[StationEntry(**_entry(one)) for one in views if one.claims and one.claims == view.name],
        registrations=[Happened(at=told(row.at), kind=row.kind, result=row.result) for row in rows],
    )


def _fingerprint(key: str) -> str:
    digest = hashlib.sha256(base64.b64decode(key.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


_CHANGES: dict[int | str, dict[str, Any]] = {
    404: _problem("There is no such station"),
    409: _problem("No machine waits for it, or several do"),
    503: _problem("The inventory cannot be read"),
}
_Choice = Annotated[Choice, Body(default_factory=Choice)]


@router.post("/stations/{name}/accept", responses=_CHANGES)
def accept(request: Request, principal: Admin, name: str, choice: _Choice) -> StationEntry:
    """Let a waiting machine be this station; one that is enrolled so far is replaced."""
    registry = registry_of(request)
    with registry.database.writing() as session:
        row = enrolment.accept(registry, session, principal, name, choice.id)
    return _changed(registry, row)


@router.post("/stations/{name}/refuse", responses=_CHANGES)
def refuse(request: Request, principal: Admin, name: str, choice: _Choice) -> StationEntry:
    """Refuse a waiting machine; by its id also one that is enrolled, which then is no station any more."""
    registry = registry_of(request)
    with registry.database.writing() as session:
        row = enrolment.refuse(registry, session, principal, name, choice.id)
    return _changed(registry, row)


@router.post("/stations/{name}/rotate", responses={404: _problem("No machine is enrolled as it")})
def rotate(
    request: Request, principal: Admin, name: str, why: Annotated[Rotation, Body(default_factory=Rotation)]
) -> StationEntry:
    """Make the station's secret invalid and have it fetch another one."""
    registry = registry_of(request)
    with registry.database.writing() as session:
        row = enrolment.rotate(registry, session, principal, name, why.leaked)
    return _changed(registry, row)


def _changed(registry: Registry, row: Station) -> StationEntry:
    registry.forget_identity(row.id)
    view = registry.machine(row.id)
    assert view is not None  # noqa: S101 - it was changed just now
    return StationEntry(**_entry(view))
