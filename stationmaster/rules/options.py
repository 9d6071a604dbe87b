"""Options of instances against the schema of their role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from stationmaster.catalogue import StationRole
from stationmaster.findings import HIDDEN, Finding, hint, invalid, nearest
from stationmaster.model import Instance, Origin, Path
from stationmaster.options import annotated
from stationmaster.rules.context import Context, Place, at, full_path, origin_at
from stationmaster.validation import Problem, problems

TIMESTAMP: dict[str, Any] = {
    "type": "integer",
    "minimum": 0,
    "description": "milliseconds since 1970; reported in hellos, decides nothing",
}
"""Accepted in every instance, whatever its role's schema says."""


def schema_of(row: StationRole) -> dict[str, Any]:
    """Return the schema of a role's options with what every instance accepts."""
    schema = dict(row.options)
    schema["properties"] = {"timestamp": TIMESTAMP, **schema.get("properties", {})}
    return schema


def options(context: Context) -> Iterator[Finding]:
    """Each option has a known name, the right type, a valid choice, and lies in its range."""
    schemas = {name: schema_of(row) for name, row in context.catalogue.roles.items()}
    judged: dict[tuple[str, str], list[Problem]] = {}
    for _station, instance, row in context.instances():
        hidden = sorted(map(str, instance.secrets | instance.opaque))
        key = (row.name, json.dumps([instance.options, hidden], sort_keys=True))
        if key not in judged:
            judged[key] = problems(schemas[row.name], instance.options, instance.secrets, instance.opaque)
        for problem in judged[key]:
            yield _finding(_station.name, instance, problem)


def _finding(station: str, instance: Instance, problem: Problem) -> Finding:
    return invalid(
        f"{instance.role}/{instance.id}: {problem.message}"
        if origin_at(instance, problem.path).layer == "station_roles"
        else f"{instance.role}: {problem.message}",
        stations=[station],
        origin=origin_at(instance, problem.path),
        role=instance.role,
        instance=instance.id,
        path=full_path(instance, problem.path),
        value=problem.value,
        allowed=problem.allowed,
        suggestion=problem.suggestion,
    )


def misplaced_secrets(context: Context) -> Iterator[Finding]:
    """A vault value in an option that is no secret would be written where everybody can read it."""
    for station, instance, row in context.instances():
        private = [path for path, _ in annotated(row.options, instance.options, "writeOnly")]
        for path in sorted(instance.secrets, key=str):
            inside = any(path[: len(top)] == top[: len(path)] for top in private)
            if not inside and path[:1] != ("timestamp",):
                place = Place(station, instance, path, HIDDEN)
                known = ", ".join(".".join(map(str, top)) for top in private) or "none here"
                message = (
                    f"{instance.role}/{instance.id}: {full_path(instance, path)} holds a vault value but is no secret "
                    f"option: it would be readable on the station; secret options of {row.name}: {known}"
                )
                yield at(place, message)


def files(context: Context) -> Iterator[Finding]:
    """A file that an option names lies in the inventory's files/."""
    root = FilePath(context.event.folder) / "files"
    known: list[str] | None = None
    for place in context.annotated("x-file"):
        if not isinstance(place.value, str) or place.value.startswith("/"):
            continue
        path = (root / place.value).resolve()
        if path.is_file() and path.is_relative_to(root.resolve()):
            continue
        if known is None:
            known = sorted(str(item.relative_to(root)) for item in root.rglob("*") if item.is_file())
        close = nearest(place.value, known)
        message = f"there is no file {place.value!r} in {root}{hint(close)}"
        yield at(place, message, allowed=known, suggestion=close)


def default_roles(context: Context) -> Iterator[Finding]:
    """Defaults name roles and options that exist, even where no instance uses them yet."""
    event = context.event
    yield from _defaults(context, "event_role_defaults", event.settings.get("role_defaults"), event.origins, [])
    for room in event.rooms.values():
        stations = [item.name for item in event.stations.values() if item.room is room]
        yield from _defaults(context, "room_role_defaults", room.role_defaults, room.origins, stations)


def _defaults(
    context: Context, layer: str, defaults: Any, origins: Mapping[Path, Origin], stations: list[str]
) -> Iterator[Finding]:
    valid = sorted(context.catalogue.roles)
    for role, given in defaults.items() if isinstance(defaults, dict) else ():
        origin = origins.get((layer, role))
        if role not in context.catalogue.roles:
            close = nearest(role, valid)
            message = f"{layer} names {role!r}, which is no station role{hint(close)}"
            yield invalid(
                message,
                stations=stations,
                origin=origin,
                role=role,
                path=f"{layer}.{role}",
                value=role,
                allowed=valid,
                suggestion=close,
            )
            continue
        names = sorted(schema_of(context.catalogue.roles[role])["properties"])
        for option in given if isinstance(given, dict) else ():
            if option not in names:
                close = nearest(option, names)
                told = f"{' Allowed' if close else '; allowed'}: {', '.join(names)}"
                message = f"{role}: unknown option {option!r}{hint(close)}{told}"
                yield invalid(
                    message,
                    stations=stations,
                    origin=origins.get((layer, role, option), origin),
                    role=role,
                    path=f"{layer}.{role}.{option}",
                    allowed=names,
                    suggestion=close,
                )


RULES = (options, misplaced_secrets, files, default_roles)
