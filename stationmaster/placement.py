"""Who is a station, in which room, and which variable is set where."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.inventory.helpers import sort_groups

from stationmaster import origins
from stationmaster.addresses import ROOMS_GROUP, SERVICES_GROUP
from stationmaster.findings import Finding, hint, invalid, listed, nearest, place
from stationmaster.model import Origin, Station
from stationmaster.sources import VARS_FOLDERS, Definition, Sources, entity_of, parts_below
from stationmaster.variables import VARIABLES, scope_of

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names that an inventory may list for the controller itself."""


def members(manager: Any, sources: Sources) -> tuple[list[tuple[Any, str | None]], list[Finding]]:
    """Say which hosts are stations, and of which room.

    Args:
        manager: Ansible's inventory manager.
        sources: what the files define.

    Returns:
        Hosts with their room's name (None for services), in the inventory's
        order, and findings on hosts that are in several rooms or in none.
    """
    result = []
    found = []
    for host in manager.hosts.values():
        name = str(host.name)
        homes = _homes(host)
        if not homes and (name in LOCAL or _is_local(host)):
            continue
        result.append((host, next((home for home in homes if home != SERVICES_GROUP), None)))
        lines = _lines(sources, name)
        origin = origins.origin_of(host.name) or (lines[0] if lines else None)
        if not homes:
            message = f"{name} is in no room: put it below a child of group 'rooms', or into group 'services'"
            close = nearest(next(iter(_groups(host)), ""), [ROOMS_GROUP, SERVICES_GROUP])
            found.append(
                invalid(
                    message + hint(close),
                    stations=[name],
                    origin=origin,
                    value=_groups(host),
                    allowed=[ROOMS_GROUP, SERVICES_GROUP],
                    suggestion=close,
                )
            )
        elif len(homes) > 1:
            places = ", ".join(place(line.file, line.line).rstrip(": ") for line in lines)
            message = f"{name} is listed in several places: {listed(homes)} ({places}); a station is in one room"
            found.append(invalid(message, stations=[name], origin=lines[-1] if lines else origin, value=homes))
        else:
            found.extend(_listed_twice(sources, name))
    return result, found


def _homes(host: Any) -> list[str]:
    groups = host.get_groups()
    rooms = {str(group.name) for group in groups for parent in group.parent_groups if parent.name == ROOMS_GROUP}
    names = {str(group.name) for group in groups}
    if SERVICES_GROUP in names:
        rooms.add(SERVICES_GROUP)
    return sorted(rooms)


def _groups(host: Any) -> list[str]:
    return sorted(str(group.name) for group in host.get_groups() if group.name not in ("all", "ungrouped"))


def _is_local(host: Any) -> bool:
    return str(host.vars.get("ansible_connection", "")) == "local" and not any(
        scope_of(str(name)) for name in host.vars
    )


def _lines(sources: Sources, host: str) -> list[Origin]:
    placement = sources.placements.get(host)
    return [line for lines in placement.groups.values() for line in lines] if placement else []


def _listed_twice(sources: Sources, host: str) -> Iterator[Finding]:
    placement = sources.placements.get(host)
    for group, lines in placement.groups.items() if placement else ():
        for first, second in itertools.pairwise(lines):
            where = place(first.file, first.line).rstrip(": ")
            message = f"{host} is listed twice in group {group}, first at {where}; keep one"
            yield invalid(message, stations=[host], origin=second, value=host)


def definitions_of(sources: Sources, host: Any, variable: str) -> list[Definition]:
    """Return the definitions of a variable that concern a host, the one that counts last."""
    found = [
        item for group in sort_groups(host.get_groups()) for item in sources.of("group", str(group.name), variable)
    ]
    return [*found, *sources.of("host", str(host.name), variable)]


def may_be_sealed(unreadable: Iterable[str], folders: Iterable[Path], host: Any) -> bool:
    """Say whether a file that could not be decrypted may set variables of this very host."""
    names = {str(host.name), *(str(group.name) for group in host.get_groups())}
    for file in unreadable:
        parts = parts_below(file, folders)
        if len(parts) > 1 and parts[0] in VARS_FOLDERS and entity_of(parts[1]) in names:
            return True
    return False


def variable_findings(manager: Any, sources: Sources, stations: Mapping[str, Station]) -> list[Finding]:
    """Find unknown names with our prefixes, names at the wrong level, and values set twice."""
    found = []
    for definition in sources.definitions:
        scope = scope_of(definition.name)
        if scope is None:
            continue
        concerned = _concerned(manager, definition, stations)
        valid = VARIABLES[scope]
        if definition.name not in valid:
            message, close = _unknown(definition.name)
            found.append(
                invalid(
                    message,
                    stations=concerned,
                    origin=definition.origin,
                    path=definition.name,
                    value=definition.name,
                    allowed=sorted(valid),
                    suggestion=close,
                )
            )
        elif (wrong := _wrong_level(scope, definition)) is not None:
            message = f"{definition.name} is set for {definition.kind} {definition.entity}: {wrong}"
            found.append(invalid(message, stations=concerned, origin=definition.origin, path=definition.name))
    for first, second in sources.repeated():
        if scope_of(second.name) is not None or second.name == "ansible_host":
            found.append(_set_twice(first, second, _concerned(manager, second, stations)))
    for name in stations:
        found.extend(_between_groups(sources, manager.hosts[name]))
    return found


def names_without_a_line(
    variables: Mapping[str, Mapping[str, Any]], sources: Sources, stations: Iterable[str]
) -> list[Finding]:
    """Find unknown names that no YAML file sets: those of INI files, scripts and plugins."""
    known = {definition.name for definition in sources.definitions}
    users: dict[str, list[str]] = {}
    for station in stations:
        for name in map(str, variables[station]):
            scope = scope_of(name)
            if scope is not None and name not in VARIABLES[scope] and name not in known:
                users.setdefault(name, []).append(station)
    found = []
    for name, concerned in users.items():
        message, close = _unknown(name)
        allowed = sorted(VARIABLES[scope_of(name) or ""])
        found.append(invalid(message, stations=concerned, path=name, value=name, allowed=allowed, suggestion=close))
    return found


def _unknown(name: str) -> tuple[str, str | None]:
    valid = VARIABLES[scope_of(name) or ""]
    close = nearest(name, [known for names in VARIABLES.values() for known in names])
    told = f"{' Allowed' if close else '; allowed'}: {listed(valid)}"
    return f"unknown variable {name!r}{hint(close)}{told}", close


def _concerned(manager: Any, definition: Definition, stations: Mapping[str, Station]) -> list[str]:
    if definition.kind == "host":
        return [definition.entity] if definition.entity in stations else []
    if definition.entity in ("all", "stations", ROOMS_GROUP) or definition.entity not in manager.groups:
        return []
    return [str(host.name) for host in manager.groups[definition.entity].get_hosts() if str(host.name) in stations]


def _wrong_level(scope: str, definition: Definition) -> str | None:
    if scope == "event" and (definition.kind, definition.entity) != ("group", "all"):
        return "event_ variables hold for all stations alike; they belong into group_vars/all/"
    if scope == "room" and definition.kind == "host":
        return "room_ variables belong to the room's group"
    return None


def _set_twice(first: Definition, second: Definition, concerned: list[str]) -> Finding:
    where = place(first.origin.file, first.origin.line).rstrip(": ")
    message = f"{second.name} of {second.kind} {second.entity} is set twice, first at {where}; keep one"
    return invalid(message, stations=concerned, origin=second.origin, path=second.name)


def _between_groups(sources: Sources, host: Any) -> Iterator[Finding]:
    """Find variables that two groups set of which neither contains the other: which one counts is chance."""
    setters: dict[str, list[tuple[Any, Definition]]] = {}
    for group in sort_groups(host.get_groups()):
        for variable in (name for names in VARIABLES.values() for name in names):
            known = sources.of("group", str(group.name), variable)
            if known:
                setters.setdefault(variable, []).append((group, known[-1]))
    for variable, several in setters.items():
        for (one, first), (other, second) in itertools.pairwise(several):
            if one not in other.get_ancestors() and other not in one.get_ancestors():
                where = place(first.origin.file, first.origin.line).rstrip(": ")
                message = (
                    f"{variable} is set by group {other.name} and by group {one.name} ({where}), "
                    f"and {host.name} is in both: only one of them counts; set it in one place"
                )
                yield invalid(message, stations=[str(host.name)], origin=second.origin, path=variable)
