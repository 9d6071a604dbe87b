"""How a machine becomes a station: by its room's token at once, or by an operator who accepts it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from api.access import Principal, audit, find_token, require_rooms
from api.clock import now
from api.hello import Mac
from api.problems import Problem, not_found
from api.registry import Registry, record
from api.tables import Station
from station import hello_signature

WAITING_LIMIT = 256
"""Machines that may wait at a time: more than any event has, and nothing for a disk."""
STALE_AFTER = 600.0
"""Seconds after which a machine that no longer asks is forgotten; one that waits asks each minute at least."""
ASK_AGAIN = 10.0
"""Seconds between two questions of a waiting machine: a person who accepts it looks on."""


def _host_key(line: str) -> str:
    kind, _, rest = line.partition(" ")
    data = rest.partition(" ")[0]
    try:
        blob = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("is no OpenSSH public key: its second word is not base64") from error
    if blob[4 : 4 + int.from_bytes(blob[:4])] != kind.encode():
        raise ValueError("is no OpenSSH public key: its two words do not belong together")
    return f"{kind} {data}"


_KINDS = "ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)"
HostKey = Annotated[
    str, Field(pattern=rf"^(?:{_KINDS}) [A-Za-z0-9+/=]{{16,2048}}( [ -~]{{0,255}})?$"), AfterValidator(_host_key)
]


class EnrolmentRequest(BaseModel):
    """What a machine brings that wants to be a station."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "hostname": "hall-a-cam",
                    "macs": ["02:00:00:00:01:0a"],
                    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAdItGCEJ4sF2yIwFg3bNm3oXvp0TmQ0kXb9v2JZc5yX"],
                    "claim": "LxD5m0nJ3q6yTtR8vVb1cZk2aWpQe4uSgHfIoN7XyEM",
                }
            ]
        },
    )

    hostname: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,255}$")]
    macs: Annotated[list[Mac], Field(min_length=1, max_length=64)]
    host_keys: Annotated[list[HostKey], Field(min_length=1, max_length=8)]
    """Public SSH host keys, as in `/etc/ssh/ssh_host_*_key.pub`; pinned once it is enrolled."""
    claim: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{32,128}$")]
    """A secret of the machine's own making, with which it asks again and fetches its own."""
    token: Annotated[str, Field(max_length=128)] | None = None
    """A token of scope `enrol`."""


class EnrolmentAnswer(BaseModel):
    """How the enrolment is; `secret` and `ssh_keys` are there once it is enrolled."""

    state: Literal["enrolled", "waiting", "unassigned"]
    id: str
    name: str | None
    """The station of the inventory that it is, or would be."""
    claim: str
    """Begin of the claim's SHA-256, to tell machines apart that wait for the same name."""
    reason: str = ""
    """Why it waits."""
    secret: str | None = None
    ssh_keys: list[str] = []
    """Lines for root's `authorized_keys`."""
    ask_again_after: float | None = None
    server_time: float


def enrol(
    registry: Registry, session: Session, asked: EnrolmentRequest, proven: str | None, address: str
) -> EnrolmentAnswer | Problem:
    """Take one question of a machine.

    Args:
        registry: knows the inventory and the secrets.
        session: of a writing transaction, which is to be committed also when a problem is returned.
        asked: what it brings.
        proven: id of the station whose former secret signed the question while it rotates.
        address: where the question came from; kept until hellos tell it.
    """
    claim_hash = hashlib.sha256(asked.claim.encode()).hexdigest()
    row = session.scalar(select(Station).where(Station.claim_hash == claim_hash))
    rotating = session.get(Station, proven) if proven and row is None else None
    if rotating is not None and rotating.rotating:
        rotating.rotating, rotating.claim_hash, rotating.claimed_at = False, claim_hash, None
        record(session, rotating.id, "rotated", {"secret_number": rotating.secret_number})
        row = rotating
    if row is None:
        made = _new(registry, session, asked, claim_hash)
        if isinstance(made, Problem):
            return made
        row = made
    row.asked_at = now()
    reason = ""
    if row.enrolment == "waiting":
        row.address = address[:64]
        reason = _by_token(registry, session, row, asked.token)
    if row.enrolment in ("refused", "replaced"):
        return Problem(
            403,
            "EnrolmentRefused",
            "An operator refused this machine, or gave its name to another one.",
            "Ask the operator; a new claim starts anew.",
        )
    if row.enrolment == "waiting":
        return _waits(registry, row, reason)
    if row.claimed_at is not None:
        return Problem(
            409,
            "ClaimUsed",
            "The secret was already given for this claim.",
            "Enrol with a new claim, and have an operator accept it.",
        )
    row.claimed_at = now()
    return EnrolmentAnswer(
        state="enrolled", id=row.id, name=row.name, claim=claim_hash[:12], server_time=now(),
        secret=registry.secret(row.id, row.secret_number), ssh_keys=[registry.public_key],
    )  # fmt: skip


def _waits(registry: Registry, row: Station, reason: str) -> EnrolmentAnswer:
    name = registry.claimed_by(row.hostname, row.macs)
    unassigned = name is None and registry.assigned(row.hostname) is not None
    if unassigned:
        reason = reason or "neither its MAC addresses nor its host name are in the inventory"
    return EnrolmentAnswer(
        state="unassigned" if unassigned else "waiting", id=row.id, name=name, claim=str(row.claim_hash)[:12],
        reason=reason or "an operator has to accept it", ask_again_after=ASK_AGAIN, server_time=now(),
    )  # fmt: skip


def _new(registry: Registry, session: Session, asked: EnrolmentRequest, claim_hash: str) -> Station | Problem:
    gone = Station.enrolment.in_(("waiting", "refused")) & (Station.asked_at < now() - STALE_AFTER)
    session.execute(delete(Station).where(gone))
    waiting = session.scalar(select(func.count()).where(Station.enrolment == "waiting")) or 0
    if waiting >= WAITING_LIMIT:
        # whoever floods the list must not keep out a machine that the inventory knows
        rows = session.scalars(select(Station).where(Station.enrolment == "waiting").order_by(Station.asked_at))
        strangers = (row for row in rows if registry.claimed_by(row.hostname, row.macs) is None)
        stranger = next(strangers, None) if registry.claimed_by(asked.hostname, asked.macs) else None
        if stranger is None:
            return Problem(
                429,
                "TooManyWaiting",
                f"{waiting} machines wait already.",
                "Accept or refuse some; those that no longer ask are forgotten after ten minutes.",
                retryable=True,
                headers={"Retry-After": "60"},
            )
        session.delete(stranger)
    row = Station(
        id=str(uuid.uuid4()), name=None, enrolment="waiting", macs=sorted(set(asked.macs)), hostname=asked.hostname,
        host_keys=sorted(set(asked.host_keys)), claim_hash=claim_hash, claimed_at=None, asked_at=now(),
        secret_number=1, rotating=False, created_at=now(), left_boots=[], counter=0, said={},
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _by_token(registry: Registry, session: Session, row: Station, secret: str | None) -> str:
    """Enrol a machine by the token of its room; return why not."""
    if secret is None:
        return ""
    token = find_token(registry.database, secret)
    if token is None or token.scope != "enrol":
        return "the token is not valid for an enrolment"
    name = registry.claimed_by(row.hostname, row.macs)
    if name is None:
        return ""
    room = registry.room_of(name)
    if token.room is not None and token.room != room:
        return f"the token is not for the room of {name}"
    if session.scalar(select(Station.id).where(Station.name == name)):
        return f"another machine is enrolled as {name}: an operator has to accept the change"
    _give_name(session, row, name, f"token {token.id}")
    audit(
        session,
        f"token {token.id}",
        "enrol-station",
        {"hostname": row.hostname, "macs": row.macs},
        {"station": name, "id": row.id},
        "enrolled",
    )
    return ""


def _give_name(session: Session, row: Station, name: str, by: str, replaced: str | None = None) -> None:
    row.name, row.enrolment, row.accepted_by = name, "enrolled", by
    told: dict[str, Any] = {"name": name, "by": by, "macs": row.macs, "hostname": row.hostname}
    record(session, row.id, "enrolled", {**told, "replaced": replaced} if replaced else told)


def accept(registry: Registry, session: Session, principal: Principal, name: str, machine: str | None) -> Station:
    """Let a waiting machine be a station of the inventory, in place of one that is enrolled so far.

    Args:
        registry: knows the inventory.
        session: of a writing transaction.
        principal: who accepts.
        name: the station, or the id of a machine that waits to be the station that it claims to be.
        machine: id of the machine, needed if several or none claim to be the station.

    Raises:
        Problem: 404 for a name that the inventory lacks, 409 if there is no such machine or a choice to be made.
    """
    if not registry.assigned(name):
        waiting = session.get(Station, name)
        claimed = registry.claimed_by(waiting.hostname, waiting.macs) if waiting is not None else None
        if waiting is None or claimed is None:
            raise _no_station(registry, name)
        name, machine = claimed, waiting.id
    require_rooms(principal, [registry.room_of(name)])
    row = _waiting(registry, session, name, machine)
    old = session.scalar(select(Station).where(Station.name == name))
    if old is not None:
        old.name, old.enrolment = None, "replaced"
        session.flush()
    _give_name(session, row, name, principal.name, old.id if old else None)
    resolved = {"station": name, "id": row.id, "replaced": old.id if old else None}
    audit(session, principal, "accept-station", {"name": name, "id": machine}, resolved, "enrolled")
    if old is not None:
        registry.forget_identity(old.id)
    return row


def _no_station(registry: Registry, name: str) -> Problem:
    if registry.assigned(name) is None:
        return Problem(
            503,
            "InventoryUnusable",
            "The inventory cannot be read, and it says which stations there are.",
            "Correct it ('stationmaster check'), then accept again.",
            retryable=True,
        )
    return not_found("station", name)


def _waiting(registry: Registry, session: Session, name: str, machine: str | None) -> Station:
    rows = session.scalars(select(Station).where(Station.enrolment == "waiting")).all()
    if machine is not None:
        found = [row for row in rows if row.id == machine]
    else:
        found = [row for row in rows if registry.claimed_by(row.hostname, row.macs) == name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Problem(
            409,
            "NothingWaiting",
            f"No machine {machine or ''} waits to be {name}.".replace("  ", " "),
            "List /v1/stations; give the 'id' of the machine that is meant.",
        )
    raise Problem(
        409,
        "SeveralWaiting",
        f"{len(found)} machines wait to be {name}.",
        "Compare their claims and host keys with what the machines show, and give the 'id' of one.",
        machines=[{"id": row.id, "hostname": row.hostname, "claim": str(row.claim_hash)[:12]} for row in found],
    )


def refuse(registry: Registry, session: Session, principal: Principal, name: str, machine: str | None) -> Station:
    """Refuse a waiting machine; or, given by its id, take the enrolment from one that has it.

    Raises:
        Problem: 409 if there is no such machine or a choice to be made.
    """
    row = session.get(Station, machine or name)
    if row is None or row.enrolment not in ("waiting", "enrolled"):
        row = _waiting(registry, session, name, machine)
    require_rooms(principal, [registry.room_of(row.name or registry.claimed_by(row.hostname, row.macs))])
    before = row.name
    row.name, row.enrolment, row.asked_at = None, "refused", now()
    record(session, row.id, "refused", {"by": principal.name, "name": before})
    audit(
        session,
        principal,
        "refuse-station",
        {"name": name, "id": machine},
        {"station": before, "id": row.id},
        "refused",
    )
    registry.forget_identity(row.id)
    return row


def rotate(registry: Registry, session: Session, principal: Principal, name: str, leaked: bool) -> Station:
    """Make a station's secret invalid; it fetches the next one with a signature by the last, unless that leaked.

    Raises:
        Problem: 404 if no machine is enrolled as the station.
    """
    require_rooms(principal, [registry.room_of(name)])
    row = session.scalar(select(Station).where(Station.name == name, Station.enrolment == "enrolled"))
    if row is None:
        raise not_found("enrolled station", name)
    row.secret_number += 1
    row.rotating = not leaked
    told = {"secret_number": row.secret_number, "leaked": leaked}
    record(session, row.id, "rotating", {**told, "by": principal.name})
    audit(session, principal, "rotate-station", {"name": name, "leaked": leaked}, {"id": row.id}, "rotated")
    registry.forget_identity(row.id)
    return row


def proof(registry: Registry, session: Session, headers: Any, body: bytes) -> str | None:
    """Return the id of the station whose former secret signed an enrolment, if it is to have its next one."""
    try:
        signed = hello_signature.read(headers)
    except hello_signature.Unsigned:
        return None
    row = session.get(Station, signed.station)
    if row is None or not row.rotating or row.enrolment != "enrolled":
        return None
    secret = bytes.fromhex(registry.secret(row.id, row.secret_number - 1))
    return row.id if hello_signature.verify(secret, signed, "POST", "/v1/enrolments", body) else None
