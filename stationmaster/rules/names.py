"""Names and numbers of stations and rooms."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stationmaster.findings import Finding, hint, invalid, listed, nearest
from stationmaster.model import Room
from stationmaster.rules.context import Context

STATION_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
"""Every other character means something in a host pattern (`-l`), in a file name or in DNS."""

RESERVED = ("all", "ungrouped", "localhost", "rooms", "services", "stations")


def station_names(context: Context) -> Iterator[Finding]:
    """A station's name must mean that station and nothing else wherever a person types it."""
    for station in context.event.stations.values():
        name = station.name
        reason = None
        if not STATION_NAME.match(name):
            reason = "a name is 1 to 63 of A-Z a-z 0-9 _ . - and begins and ends with a letter or digit"
        elif name in RESERVED:
            reason = "Ansible and the inventory use this name themselves"
        elif name in context.event.groups:
            reason = "a group has this name: `-l` would mean the group; give one of them another name"
        elif name in context.catalogue.roles:
            reason = "a station role has this name"
        if reason is not None:
            message = f"{name!r} cannot be a station's name: {reason}"
            yield invalid(
                message, stations=[name], origin=station.origins.get(""), path=name, value=name, allowed=reason
            )


def room_names(context: Context) -> Iterator[Finding]:
    """A room must not be called like a role."""
    for room in context.event.rooms.values():
        if room.name in context.catalogue.roles:
            message = f"room {room.name!r} is named like a station role; give it another name"
            yield invalid(
                message,
                stations=_stations(context, room),
                origin=next(iter(room.origins.values()), None),
                value=room.name,
            )


def room_numbers(context: Context) -> Iterator[Finding]:
    """Addresses follow from the number, so each room has its own."""
    by_number: dict[int, list[Room]] = {}
    for room in context.event.rooms.values():
        if room.number is not None:
            by_number.setdefault(room.number, []).append(room)
    for number, rooms in by_number.items():
        if len(rooms) > 1:
            stations = [name for room in rooms for name in _stations(context, room)]
            message = f"room_number {number} is used by several rooms: {listed(room.name for room in rooms)}"
            yield invalid(
                message,
                stations=stations,
                origin=rooms[-1].origins.get(("room_number",)),
                path="room_number",
                value=number,
            )


def spares(context: Context) -> Iterator[Finding]:
    """A spare replaces a station that there is."""
    for station in context.event.stations.values():
        other = station.spare_of
        if other is not None and (other not in context.event.stations or other == station.name):
            valid = sorted(set(context.event.stations) - {station.name})
            close = nearest(other, valid)
            message = f"station_spare_of names {other!r}, which is no other station{hint(close)}"
            yield invalid(
                message,
                stations=[station.name],
                origin=station.origins.get("station_spare_of"),
                path="station_spare_of",
                value=other,
                allowed=valid,
                suggestion=close,
            )


def manager(context: Context) -> Iterator[Finding]:
    """The manager runs on a station that belongs to no room."""
    name = context.event.settings.get("manager")
    services = sorted(station.name for station in context.event.stations.values() if station.room is None)
    if isinstance(name, str) and name not in services:
        close = nearest(name, services)
        message = f"event_manager names {name!r}, which is no station of the group services{hint(close)}"
        yield invalid(
            message,
            stations=[name] if name in context.event.stations else [],
            origin=context.event.origins.get(("event_manager",)),
            path="event_manager",
            value=name,
            allowed=services,
            suggestion=close,
        )


def _stations(context: Context, room: Room) -> list[str]:
    return [
        station.name for station in context.event.stations.values() if station.room and station.room.name == room.name
    ]


RULES = (station_names, room_names, room_numbers, spares, manager)
