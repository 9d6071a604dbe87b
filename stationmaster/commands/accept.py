"""`stationmaster accept`: let a machine that waits be a station."""

from __future__ import annotations

import argparse

from stationmaster.client import OK, Client, checked_name, declare, print_json, tells
from stationmaster.plain import plain

HELP = "let a machine that waits be a station; compare its claim with what the machine shows"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("station", metavar="STATION")
    parser.add_argument("--id", help="the machine that is meant, if several wait or its host name is another")
    declare(parser)


@tells
def run(arguments: argparse.Namespace, client: Client) -> int:
    """Accept it."""
    body = {"id": arguments.id} if arguments.id else {}
    found = client.post(f"/v1/stations/{checked_name(arguments.station)}/accept", body)
    if arguments.json:
        print_json(found)
    else:
        macs = ", ".join(found["macs"])
        print(plain(f"{found['name']} is the machine {found['hostname']} ({macs}), claim {found['claim'] or '-'}"))
    return OK
