"""`stationmaster explain`: what a station will have, and which line of the inventory says so."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stationmaster import bundle, catalogue, ports, resolve, rules
from stationmaster.commands.common import add_inventory, load_quietly
from stationmaster.findings import HIDDEN, dotted, hint, nearest, place
from stationmaster.inventory import UnusableInventory
from stationmaster.model import Event, Instance, Origin, Station
from stationmaster.model import Path as OptionPath
from stationmaster.options import annotated

HELP = "tell what a station will have: units, files, ports, sources, and where each value comes from"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("station", metavar="STATION")
    add_inventory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print all that follows from the inventory for one station."""
    roles = catalogue.load()
    try:
        event = load_quietly(arguments.inventory, roles)
    except UnusableInventory as error:
        print(error, file=sys.stderr)
        return 2
    station = event.stations.get(arguments.station)
    if station is None:
        close = nearest(arguments.station, event.stations)
        print(f"stationmaster: no station {arguments.station!r} in the inventory{hint(close)}", file=sys.stderr)
        return 2
    mine = [finding for finding in rules.check(event, roles) if station.name in finding.stations]
    for finding in mine:
        print(finding.text(), file=sys.stderr)
    for line in _station(station):
        print(line)
    manifest = {} if mine else bundle.render(event, station.name, roles, "").manifest
    for instance in station.instances():
        print()
        for line in _instance(event, roles, station, instance, manifest):
            print(line)
    return 1 if mine else 0


def _station(station: Station) -> Iterator[str]:
    room = f"room {station.room.name} ({station.room.title})" if station.room else "no room"
    yield f"{station.name}: {room}{_from(station.origins.get(''))}"
    address = station.origins.get("ansible_host", Origin("derived"))
    yield f"  address {station.address}{_from(address)}"
    if station.mac:
        yield f"  MAC {station.mac}{_from(station.origins.get('station_mac'))}"
    if station.spare_of:
        yield f"  spare of {station.spare_of}{_from(station.origins.get('station_spare_of'))}"
    if station.blocked_roles:
        yield f"  blocked roles {', '.join(station.blocked_roles)}{_from(station.origins.get('station_blocked_roles'))}"
    if not station.roles:
        yield "  wants nothing"


def _instance(
    event: Event, roles: catalogue.Catalogue, station: Station, instance: Instance, manifest: dict[str, Any]
) -> Iterator[str]:
    row = roles.roles.get(instance.role)
    reason = "the event's manager" if instance.role == resolve.AGENT_ROLE else "what other roles serve"
    implied = f", implied by {reason}" if instance.implied else ""
    yield f"{instance.role}/{instance.id}{_from(instance.origins.get(()))}{implied}"
    if row is None:
        yield "  there is no such role"
        return
    hidden = {*instance.secrets, *(path for path, _ in annotated(row.options, instance.options, "writeOnly"))}
    for path, value in _leaves(instance.options, (), hidden):
        text = HIDDEN if path in hidden else json.dumps(value, ensure_ascii=False)
        yield f"  {dotted(path)} = {text}{_from(_origin(instance, path))}"
    for reference, source in resolve.sources(event, roles, station, instance).items():
        yield f"  source {reference}: {source['path'] or source['url']}"
    for name, target in resolve.targets(event, roles, instance).items():
        where = " ".join(str(target[key]) for key in ("host", "port", "url", "bucket", "path") if target.get(key))
        yield f"  target {name}: {target.get('type')} {where}{_from(event.origins.get(('event_targets', name)))}"
    for port, _, number in ports.listening(row, instance):
        yield f"  port {number}/{port.protocol} ({port.name})"
    if row.serves:
        yield f"  served at {resolve.base_url(event, station, instance)}"
    for unit, told in sorted(manifest.get("units", {}).items()):
        if (told["role"], told["instance"]) == (instance.role, instance.id):
            yield f"  unit {unit}{', live' if told['live'] else ''}"
    for file in sorted(manifest.get("files", {})):
        if Path(file).parts[1:3] == (instance.role, instance.id):
            yield f"  file {bundle.CURRENT}/{file}"


def _leaves(value: Any, path: OptionPath, whole: set[OptionPath]) -> Iterator[tuple[OptionPath, Any]]:
    if isinstance(value, dict) and value and path not in whole:
        for key, item in value.items():
            yield from _leaves(item, (*path, key), whole)
    elif path:
        yield path, value


def _origin(instance: Instance, path: OptionPath) -> Origin | None:
    return next(
        (instance.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in instance.origins), None
    )


def _from(origin: Origin | None) -> str:
    if origin is None:
        return ""
    if origin.file is not None:
        layer = f" ({origin.layer})" if origin.layer.endswith("_role_defaults") else ""
        return f"    <- {place(origin.file, origin.line).rstrip(': ')}{layer}"
    return {"default": "    <- the role's default", "derived": "    <- derived"}.get(origin.layer, "")
