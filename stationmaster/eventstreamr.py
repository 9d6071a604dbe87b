"""Reading configurations of the EventStreamr systems.

The first system's `station_config.json` is role, then uuid, then options;
`station.json` beside it names the blocked roles. The older Perl system's
`config.json` has a list of roles and a list of devices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stationmaster.catalogue import Catalogue
from stationmaster.rules.options import schema_of
from stationmaster.rules.uniqueness import normal_mac
from stationmaster.validation import shield

INSTANCE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
GENERIC_NAMES = ("station_config", "station-config", "config", "station", "settings", "dynamic_config")
"""File names that say nothing of the station; its folder's name is taken instead."""

NO_COUNTERPART = {
    "cut": "encode cuts and encodes in one go, exact to the frame",
    "monitoring": "a preview of every ingest is served by its station; dvswitch relays have no counterpart",
    "mixer": "a mixer is no station role; an ingest takes its output (source type tcp)",
    "stream": "live distribution is not part of this",
    "youtube": "live distribution is not part of this",
    "controller": "the manager is set up by its own playbook",
}
SETTINGS_1B = {
    "backend": "dvswitch and gstswitch are not used",
    "mixer": "an ingest takes a mixer's output: source type tcp",
    "record_path": "recordings lie below /srv/stationmaster",
    "stream": NO_COUNTERPART["stream"],
    "youtube": NO_COUNTERPART["youtube"],
    "sync": "name the storage in event_targets and give the station the role sync",
    "commands": "a program of the crew's is the role script",
    "run": "stopping and starting is playbooks/stop.yml and start.yml",
    "control": "stopping and starting is playbooks/stop.yml and start.yml",
    "device_control": "stopping and starting is playbooks/stop.yml and start.yml",
}


class NotImportable(Exception):
    """A file that is no configuration of either system; the text says why."""


@dataclass(slots=True)
class Imported:
    """A station as far as it could be taken over; `gaps` says what could not, one line each."""

    name: str
    mac: str | None = None
    room: str | None = None
    blocked_roles: list[str] = field(default_factory=list)
    roles: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)


def read(path: Path, catalogue: Catalogue) -> Imported:
    """Read one station's configuration.

    Args:
        path: the JSON file; its name, or its folder's, names the station.
        catalogue: says which roles and options there are.

    Raises:
        NotImportable: the file cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NotImportable(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise NotImportable(f"{path}: not an object of roles")
    station = _identity(path)
    if isinstance(data.get("roles"), list):
        _older(station, data, catalogue)
    else:
        _newer(station, data, catalogue)
        _blocked(station, path.with_name("station.json"), catalogue)
    return station


def _told(value: Any) -> str:
    """Return a value as JSON without what is named like a secret: the text goes into a file and onto the screen."""
    return json.dumps(shield(value, (), set()), sort_keys=True)


def _identity(path: Path) -> Imported:
    mac = normal_mac(path.stem) if len(path.stem) >= 12 else None
    if mac is not None:
        return Imported(f"station-{mac.replace(':', '')[6:]}", mac)
    stem = path.resolve().parent.name if path.stem.lower() in GENERIC_NAMES else path.stem
    return Imported(host_name(stem))


def host_name(text: str) -> str:
    """Return a text as a name that a station may have."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-").lower()
    return name or "station"


def _newer(station: Imported, data: Mapping[str, Any], catalogue: Catalogue) -> None:
    for role, instances in sorted(data.items()):
        if not isinstance(instances, dict):
            station.gaps.append(f"{role}: {_told(instances)} is not uuid, then options")
            continue
        if role not in catalogue.roles:
            why = NO_COUNTERPART.get(role, "there is no such role")
            for uuid, options in instances.items():
                station.gaps.append(f"{role}/{uuid} {_told(options)}: {why}")
            continue
        for uuid, options in instances.items():
            _instance(station, role, uuid, options if isinstance(options, dict) else {}, catalogue)


def _instance(station: Imported, role: str, uuid: str, options: Mapping[str, Any], catalogue: Catalogue) -> None:
    row = catalogue.roles[role]
    properties = schema_of(row)["properties"]
    name = uuid if INSTANCE_ID.match(uuid) else re.sub(r"[^A-Za-z0-9_-]+", "-", uuid).strip("-")[:64] or "main"
    taken = station.roles.setdefault(role, {})
    taken[name] = {key: value for key, value in options.items() if key in properties}
    label = f"{role}/{name}"
    for key, value in options.items():
        if key not in properties:
            station.gaps.append(f"{label}: {key} = {_told(shield(value, (key,), set()))}: {role} has no such option")
        elif properties[key].get("x-file") is True and not str(value).startswith("/"):
            station.gaps.append(f"{label}: {key} = {value}: copy that program into the inventory's files/")
    for key in row.options.get("required", ()):
        if key not in options:
            about = properties.get(key, {}).get("description", "")
            station.gaps.append(f"{label}: {key} is required and must be added{': ' if about else ''}{about}")


def _blocked(station: Imported, path: Path, catalogue: Catalogue) -> None:
    try:
        roles = json.loads(path.read_text("utf-8")).get("blocked_roles", [])
    except (OSError, ValueError, AttributeError):
        return
    for role in roles if isinstance(roles, list) else ():
        if role in catalogue.roles:
            station.blocked_roles.append(role)
        else:
            station.gaps.append(f"blocked role {role!r}: there is no such role to block")


def _older(station: Imported, data: Mapping[str, Any], catalogue: Catalogue) -> None:
    if data.get("nickname"):
        station.name = host_name(str(data["nickname"]))
    station.room = str(data["room"]) if data.get("room") else None
    station.mac = normal_mac(str(data.get("macaddress", ""))) or station.mac
    for key, why in SETTINGS_1B.items():
        if data.get(key) not in (None, "", {}, []):
            station.gaps.append(f"{key} = {_told(data[key])}: {why}")
    for role in data["roles"]:
        if role == "ingest" and "ingest" in catalogue.roles:
            _devices(station, data.get("devices"))
        elif role == "record":
            station.gaps.append("record: every ingest records; a copy on another station is the role record")
        else:
            station.gaps.append(f"{role}: {NO_COUNTERPART.get(str(role), 'set it up by hand')}")


def _devices(station: Imported, devices: Any) -> None:
    if not isinstance(devices, list) or not devices:
        station.gaps.append(f"ingest: devices = {json.dumps(devices)}: name each device in an ingest's source")
        return
    for device in devices:
        kind = str(device.get("type", "")).lower() if isinstance(device, dict) else ""
        place = str(device.get("device") or "") if isinstance(device, dict) else ""
        if kind == "v4l" and place.startswith("/dev/"):
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(device.get("id") or place)).strip("-")[:64] or "main"
            station.roles.setdefault("ingest", {})[name] = {"source": {"type": "v4l2", "device": place}}
        else:
            why = "sound belongs to the source of an ingest" if kind == "alsa" else "no counterpart"
            station.gaps.append(f"ingest device {json.dumps(device, sort_keys=True)}: {why}")
