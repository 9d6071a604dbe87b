"""Which servers of stills there should be: those of context.json, and those that are named by their address."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from station.catalogues.follow import Door, Server


def wanted(context: Mapping[str, Any], registered: Mapping[str, str], named: Iterable[str]) -> dict[str, Server]:
    """Return the servers to follow, by name.

    Args:
        context: context.json, whose `stills` `stationmaster.role_context` writes.
        registered: addresses that stations registered with, by station; they go before the inventory's.
        named: base addresses of servers that the inventory does not know.
    """
    found: dict[str, Server] = {}
    listed = context.get("stills")
    for one in listed if isinstance(listed, list) else []:
        server = _server(one, registered) if isinstance(one, dict) else None
        if server is not None:
            found[server.name] = server
    for base in named:
        name = urllib.parse.urlsplit(base).netloc
        found.setdefault(name, Server(name, None, (), (Door(base),)))
    return found


def base_of(address: str, port: int) -> str:
    """Return the base of a server's addresses."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _server(one: Mapping[str, Any], registered: Mapping[str, str]) -> Server | None:
    name, station, port = one.get("name"), one.get("station"), one.get("http_port")
    if not isinstance(name, str) or not isinstance(port, int):
        return None
    doors = []
    if isinstance(station, str) and station in registered:
        doors.append(Door(base_of(registered[station], port), registered=True))
    address = one.get("address")
    if isinstance(address, str) and address:
        door = Door(base_of(address, port))
        # the same address is no other door, and nothing has to be told in place of it
        doors = [door] if doors and doors[0].base == door.base else [*doors, door]
    if not doors:
        return None
    streams = one.get("streams")
    told = tuple(
        (str(row.get("key")), int(row["id"]))
        for row in (streams if isinstance(streams, list) else [])
        if isinstance(row, dict) and isinstance(row.get("id"), int)
    )
    room = one.get("room")
    return Server(name, room if isinstance(room, str) else None, told, tuple(doors))
