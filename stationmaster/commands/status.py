"""`stationmaster status`: what is wanted next to what is, as the manager knows it."""

from __future__ import annotations

import argparse
from typing import Any

from stationmaster.client import OK, Client, WrongUse, checked_name, declare, print_json, tells
from stationmaster.plain import plain, table

HELP = "tell how the stations are: wanted next to applied, and which machines wait"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("room", nargs="?", metavar="ROOM", help="only this room")
    declare(parser)


@tells
def run(arguments: argparse.Namespace, client: Client) -> int:
    """Print the stations of a room or of all, and in the second case the machines that wait."""
    found = client.get("/v1/stations", room=arguments.room and checked_name(arguments.room))
    if arguments.room and not found:
        rooms = sorted({str(one["room"]) for one in client.get("/v1/stations") if one["room"]})
        raise WrongUse(f"There is no room {arguments.room!r} with stations; there are {', '.join(rooms) or 'none'}.")
    if arguments.json:
        print_json(found)
        return OK
    named = [one for one in found if one["enrolment"] != "waiting" or not one["id"]]
    head = ("ROOM", "STATION", "STATE", "PRESENCE", "AS WANTED", "ON AIR UNTIL", "SEEN", "ADDRESS")
    print("\n".join(table(head, [_row(one) for one in named])))
    for one in found:
        if one not in named:
            claims = f"would be {one['claims']}" if one["claims"] else "is not in the inventory"
            told = f"{one['hostname']} ({', '.join(one['macs'])}) {claims}"
            print(plain(f"waiting: {told}; claim {one['claim'] or '-'}, id {one['id']}"))
    return OK


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    if one["wanted"] is None or one["applied"] is None:
        wanted = "-"
    else:
        wanted = "yes" if one["applied"] == one["wanted"] else "no"
    if one["held"]:
        wanted += f", {one['held']} held"
    return (one["room"] or "-", one["name"] or one["hostname"], one["state"], one["presence"], wanted,
            one["on_air_until"] or "-", one["seen_at"] or "-", one["address"] or "-")  # fmt: skip
