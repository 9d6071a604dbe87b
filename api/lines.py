"""Lines for the inventory: what has to be written so that a machine which said hello becomes a station.

The manager proposes and checks them; a person writes them, for the inventory is theirs.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import textwrap
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from api import inventory_trial
from api.access import Reader
from api.checks import Finding
from api.inventory import Snapshot
from api.inventory_worker import Judged
from api.manager import Manager
from api.problems import RESPONSES, Problem, ProblemDocument
from api.station_view import StationView
from stationmaster import catalogue
from stationmaster.addresses import SERVICES_GROUP
from stationmaster.findings import invalid, listed
from stationmaster.model import Origin, Station
from stationmaster.rules.names import RESERVED, STATION_NAME
from stationmaster.rules.uniqueness import normal_mac

router = APIRouter(prefix="/v1", tags=["stations"], responses=RESPONSES)

NAMELESS = "station"
"""What a machine is called whose host name leaves nothing to make a name of."""
LONGEST = 59
"""Characters of a name made from a host name: a number still fits into 63."""
INDENT = {True: 4, False: 8}
"""Spaces before a host of the services, and of a room, where the file does not tell."""


class Lines(BaseModel):
    """Lines for the inventory that make a machine a station, and what the check says of the inventory with them."""

    machine: str
    name: str = Field(description="The station that the machine becomes.")
    room: str = Field(description="The room's group, or `services`.")
    file: str | None = Field(description="The room's file, from the inventory's folder; null if that cannot be told.")
    after: str | None = Field(
        description="The room's last station, below which the lines belong: addresses follow from the place in the "
        "room, so that above another they would take its address. Null for a room without stations."
    )
    lines: str = Field(description="YAML for the end of the room's `hosts:`.")
    findings: list[Finding] = Field(description="None: with these lines the inventory passes.")


@router.get(
    "/stations/{id}/lines",
    responses={
        404: {"model": ProblemDocument, "description": "There is no such machine, or it is a station already"},
        409: {"model": ProblemDocument, "description": "This form of inventory cannot be checked with lines added"},
        503: {"model": ProblemDocument, "description": "The inventory cannot be checked now"},
    },
)
def read_lines(
    request: Request,
    _principal: Reader,
    machine: Annotated[str, InPath(alias="id", description="The machine's id.")],
    room: Annotated[str | None, Query(max_length=255, description="A room's group, or `services`.")] = None,
    name: Annotated[str | None, Query(max_length=63, description="What the station shall be called.")] = None,
) -> Lines:
    """Propose the lines of a machine that the inventory does not know, checked; nothing is written anywhere.

    It takes one to a few seconds. Without `room` it is the event's first room.
    """
    manager: Manager = request.app.state.manager
    return propose(manager, machine, room, name)


def propose(manager: Manager, machine: str, room: str | None = None, name: str | None = None) -> Lines:
    """Return the lines that make a machine a station, and all findings of the inventory with them.

    Its address follows from its place in the room, and nothing in the lines says it, unless the manager sees the
    machine at another one. Then they carry that one: runs and other stations reach it under what the inventory says,
    so that with an address which it does not have it would be a station that nobody reaches. A comment says when
    the line can go, for an address that a DHCP server lent may change, and one that follows does not.

    Args:
        manager: whose inventory it is.
        machine: its id.
        room: a room's group or `services`; the event's first room without it.
        name: the station's; without it the one that the machine is enrolled under, else one made from its host name.

    Raises:
        Problem: 404 for a machine that there is not or that is a station; 422 for an unknown room or an impossible
            name; 409 if the inventory cannot be copied so that Ansible reads the same; 503 if it cannot be read.
    """
    snapshot = manager.inventory.current()
    view = manager.registry.machine(machine)
    if view is None or (view.enrolment == "enrolled" and view.name in snapshot.event.stations):
        raise Problem(
            404,
            "NotFound",
            f"There is no machine {machine[:64]!r} that the inventory does not know.",
            "List /v1/stations and take the 'id' of a machine that is no station.",
        )
    group = _room(snapshot, room)
    if name is not None and not STATION_NAME.match(name):
        raise Problem(
            422,
            "InvalidRequest",
            f"{name[:80]!r} cannot be a station's name.",
            "Take 1 to 63 of A-Z a-z 0-9 _ . - that begin and end with a letter or digit.",
        )
    name = name or _free_name(manager, snapshot, view)
    values = _values(snapshot, view)
    text = _yaml(name, values)
    judged = _judge(manager, snapshot, group, name, text)
    derived = _derived(judged, name)
    if derived and (here := _elsewhere(view, derived)):
        text = _yaml(name, {**values, "ansible_host": here})
        if derived != name:
            text = f"{text.rstrip()}  # its address now; delete this line once it has {derived}\n"
        judged = _judge(manager, snapshot, group, name, text)
    last = next(reversed(_members(snapshot, group)), None)
    file, indent = _place(snapshot, group, last)
    return Lines(
        machine=machine,
        name=name,
        room=group,
        file=file,
        after=last.name if last else None,
        lines=textwrap.indent(text, " " * indent),
        findings=[_told(finding, file) for finding in [*judged.findings, *_moved(snapshot, judged, name)]],
    )


def _room(snapshot: Snapshot, asked: str | None) -> str:
    rooms = [*snapshot.event.rooms, SERVICES_GROUP]
    if asked is None:
        return rooms[0]
    if asked not in rooms:
        raise Problem(422, "UnknownRoom", f"The inventory has no room {asked[:80]!r}.", f"Take one of {listed(rooms)}.")
    return asked


def _free_name(manager: Manager, snapshot: Snapshot, view: StationView) -> str:
    """Return a name that is the machine's own as far as possible, and nobody else's."""
    event = snapshot.event
    others = (name for name, machine in manager.registry.ids().items() if machine != view.id)
    taken = {name.lower() for name in (*event.stations, *event.groups, *catalogue.load().roles, *RESERVED, *others)}
    plain = unicodedata.normalize("NFKD", view.name or view.hostname).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9_.-]+", "-", plain).strip("_.-")[:LONGEST].rstrip("_.-") or NAMELESS
    numbered = (f"{words}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain((words,), numbered) if name not in taken)


def _values(snapshot: Snapshot, view: StationView) -> dict[str, Any]:
    known = {normal_mac(station.mac) for station in snapshot.event.stations.values() if station.mac}
    macs = [mac for mac in map(normal_mac, view.macs) if mac]
    mac = next((mac for mac in macs if mac not in known), next(iter(macs), None))
    return {**({"station_mac": _Quoted(mac)} if mac else {}), "station_roles": {}}


class _Quoted(str):
    """Text that is written in double quotes."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def _yaml(name: str, values: dict[str, Any]) -> str:
    return yaml.dump({name: values}, Dumper=_Dumper, sort_keys=False, default_flow_style=False)


def _judge(manager: Manager, snapshot: Snapshot, room: str, name: str, text: str) -> Judged:
    """Judge the inventory with a host in a room; refuse to, rather than to judge less than the whole of it."""
    groups = [SERVICES_GROUP] if room == SERVICES_GROUP else ["rooms", room]
    body: dict[str, Any] = {"hosts": None}
    for group in reversed(groups[1:]):
        body = {"children": {group: body}}
    head = yaml.safe_dump({groups[0]: body}).removesuffix(" null\n")
    judged = inventory_trial.judge_with(manager.inventory, snapshot.path, f"{head}\n{textwrap.indent(text, ' ' * 8)}")
    missing = {*snapshot.event.stations, name} - set(judged.event.stations) if judged.event else set()
    if missing:
        raise Problem(
            409,
            "InventoryForm",
            f"In a copy of the inventory with one more file Ansible does not find {listed(missing)}.",
            "Make the inventory a folder of YAML files that needs nothing outside it; or write the lines by hand and "
            "run 'stationmaster check'. If it is just being edited, ask again.",
        )
    return judged


def _derived(judged: Judged, name: str) -> str | None:
    """Return the address that follows for the new station (its name if none does); None if one is written."""
    station = judged.event.stations[name] if judged.event else None
    if station is None or station.origins["ansible_host"].layer != "derived":
        return None
    return station.address


def _elsewhere(view: StationView, derived: str) -> str | None:
    """Return the machine's own address if the manager knows it and it is not the one that follows."""
    own = view.said.get("addresses") or []
    try:
        seen = ipaddress.ip_address(view.address or "")
    except ValueError:
        return None
    seen = getattr(seen, "ipv4_mapped", None) or seen
    if derived in (str(seen), *own) or (own and str(seen) not in own):
        return None  # it has the right one; or what is seen is that of a gateway
    if seen.is_loopback or seen.is_link_local or seen.is_multicast or seen.is_unspecified:
        return None
    return str(seen)


def _members(snapshot: Snapshot, room: str) -> list[Station]:
    stations = snapshot.event.stations.values()
    return [station for station in stations if (station.room.name if station.room else SERVICES_GROUP) == room]


def _place(snapshot: Snapshot, room: str, last: Station | None) -> tuple[str | None, int]:
    """Return the file in which a room's hosts stand, and the spaces before each of them."""
    usual = INDENT[room == SERVICES_GROUP]
    written: list[Origin | None] = [last.origins.get(key) for key in ("", "station_mac")] if last else []
    if room in snapshot.event.rooms:
        written += snapshot.event.rooms[room].origins.values()
    top = snapshot.path if snapshot.path.is_dir() else snapshot.path.parent
    for origin in written:
        if origin is None or origin.file is None:
            continue
        file = Path(origin.file)
        below = file.relative_to(top) if file.is_relative_to(top) else None
        if below and file.suffix in (".yml", ".yaml") and below.parts[0] not in inventory_trial.BESIDE:
            return str(below), _indent(file, origin.line, last) or usual
    return None, usual


def _indent(file: Path, line: int | None, host: Station | None) -> int | None:
    try:
        text = file.read_text("utf-8").splitlines()[(line or 0) - 1]
    except (OSError, ValueError, IndexError):
        return None
    found = re.match(rf"""( +)["']?{re.escape(host.name)}["']?:""", text) if host else None
    return len(found[1]) if found else None


def _moved(snapshot: Snapshot, judged: Judged, name: str) -> list[dict[str, Any]]:
    """Find stations that would get another address, as in a room whose hosts stand in groups of their own."""
    after = judged.event.stations if judged.event else {}
    moved = [
        station.name
        for station in snapshot.event.stations.values()
        if station.name in after and station.name != name and after[station.name].address != station.address
    ]
    message = (
        f"{listed(moved)} would get other addresses than the inventory in force says, for addresses follow from the "
        "place in the room; write station_number for each of them first"
    )
    return [invalid(message, stations=moved, path="station_number").to_dict()] if moved else []


def _told(finding: dict[str, Any], file: str | None) -> Finding:
    """Name the room's file instead of the one that was added, whose lines are nowhere else."""
    told = dict(finding)
    if told["file"] == inventory_trial.ADDED:
        told["file"], told["line"] = file, None
    told["message"] = re.sub(
        rf"{re.escape(inventory_trial.ADDED)}(:\d+)?", lambda _: file or "the new lines", told["message"]
    )
    return Finding(**told)
