"""`stationmaster import`: configurations of the EventStreamr systems become a room file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stationmaster import catalogue
from stationmaster.eventstreamr import Imported, NotImportable, read

HELP = "turn EventStreamr's station_config.json files into a room file; what has no counterpart is named"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="one station's configuration each")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write it (default: print it)")
    parser.add_argument("--room", default="imported", help="the room's group name (default: %(default)s)")
    parser.add_argument("--room-number", type=int, default=1, help="the room's number (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Write the room file, and what is missing to stderr."""
    roles = catalogue.load()
    try:
        stations = [read(path, roles) for path in arguments.files]
    except NotImportable as error:
        print(f"stationmaster: {error}", file=sys.stderr)
        return 2
    _distinct(stations)
    rooms = {station.room for station in stations if station.room}
    title = rooms.pop() if len(rooms) == 1 else arguments.room
    group = re.sub(r"[^A-Za-z0-9_]+", "_", arguments.room).strip("_") or "imported"
    text = "".join(f"{line}\n" for line in room_file(stations, group, title, arguments.room_number))
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text, "utf-8")
    for station in stations:
        for gap in station.gaps:
            print(f"{station.name}: {gap}", file=sys.stderr)
    return 0


def _distinct(stations: list[Imported]) -> None:
    """Give stations of the same name a number."""
    taken: dict[str, int] = {}
    for station in stations:
        number = taken[station.name] = taken.get(station.name, 0) + 1
        if number > 1:
            station.name = f"{station.name}-{number}"


def room_file(stations: list[Imported], group: str, title: str, number: int) -> Iterator[str]:
    """Yield the lines of a room file.

    Args:
        stations: what was read; gaps become comments beside their station.
        group: the room's group name.
        title: its title.
        number: its number.
    """
    yield "rooms:"
    yield "  children:"
    yield f"    {group}:"
    yield "      vars:"
    yield f"        room_title: {_inline(title)}"
    yield f"        room_number: {number}"
    yield "      hosts:"
    for station in stations:
        yield f"        {_inline(station.name)}:"
        for gap in station.gaps:
            yield f"          # not taken over: {' '.join(gap.split())}"
        if station.mac:
            yield f'          station_mac: "{station.mac}"'
        if station.blocked_roles:
            yield f"          station_blocked_roles: {_inline(station.blocked_roles)}"
        if not station.roles:
            yield "          station_roles: {}"
            continue
        yield "          station_roles:"
        for line in _block(station.roles):
            yield f"            {line}"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _block(value: Any) -> list[str]:
    return yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, width=10_000).splitlines()
