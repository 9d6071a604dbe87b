"""From a target that a caller names to stations of the inventory: exact names only, never a host pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from api.problems import Problem
from stationmaster.findings import hint, nearest
from stationmaster.model import Event

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
"""Every other character may mean something in a host pattern; so does a leading `-` on a command line."""
SHOWN = 80
"""Characters of a caller's text that an answer repeats."""


class Target(Protocol):
    """Exactly one of the three is set."""

    @property
    def everything(self) -> bool | None:
        """All stations."""

    @property
    def room(self) -> str | None:
        """The group of a room."""

    @property
    def station(self) -> str | None:
        """One station."""


def resolve(event: Event, target: Target, action: str) -> list[str]:
    """Return the stations that a target means, in the inventory's order; never none.

    Args:
        event: the inventory in force.
        target: what the caller named.
        action: what is to be done there, for the problem's text.

    Raises:
        Problem: 422 with the code PatternCharacters, NameOfGroup, NameOfRoom, NameOfStation,
            UnknownStation, UnknownRoom, EmptyRoom or NoStations.
    """
    if target.station is not None:
        names = [_station(event, target.station)]
    elif target.room is not None:
        room = _room(event, target.room)
        names = [name for name, one in event.stations.items() if one.room is not None and one.room.name == room]
        if not names:
            raise _refused("EmptyRoom", f"The room {room!r} has no stations: there is nothing to {action}.")
    else:
        names = list(event.stations)
        if not names:
            raise _refused("NoStations", f"The inventory has no stations: there is nothing to {action}.")
    for name in names:
        # the check of the inventory refuses both; a run limited to such a name would reach other stations too
        if name in event.groups or not NAME.match(name):
            raise _refused("NameOfGroup", f"The station {_shown(name)} is named like a group or a pattern.")
    return names


def _station(event: Event, name: str) -> str:
    if name in event.stations:
        return name
    _refuse_patterns("station", name)
    if name in event.rooms:
        raise _refused("NameOfRoom", f'{name!r} is a room. Say {{"room": "{name}"}} for all its stations.')
    _refuse_groups(event, name)
    raise _unknown("UnknownStation", "station", name, event.stations)


def _room(event: Event, name: str) -> str:
    if name in event.rooms:
        return name
    _refuse_patterns("room", name)
    if name in event.stations:
        raise _refused("NameOfStation", f'{name!r} is a station. Say {{"station": "{name}"}}.')
    _refuse_groups(event, name)
    raise _unknown("UnknownRoom", "room", name, event.rooms)


def _refuse_patterns(what: str, name: str) -> None:
    if not NAME.match(name):
        raise _refused("PatternCharacters", f"{_shown(name)} is no name of a {what}; patterns and lists are not taken.")


def _refuse_groups(event: Event, name: str) -> None:
    if name in event.groups:
        raise _refused("NameOfGroup", f"{_shown(name)} is a group of the inventory, neither a room nor a station.")


def _unknown(code: str, what: str, name: str, known: Iterable[str]) -> Problem:
    close = nearest(name[:SHOWN], known)
    return _refused(code, f"The inventory has no {what} {_shown(name)}{hint(close)}", suggestion=close)


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN else f"{name[:SHOWN]}…")


def _refused(code: str, detail: str, suggestion: str | None = None) -> Problem:
    action = "Name a room or a station exactly as GET /v1/rooms and /v1/stations have it."
    return Problem(422, code, detail, action, suggestion=suggestion)
