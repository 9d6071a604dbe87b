"""`stationmaster apply`: have the manager bring stations to what the inventory wants."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stationmaster.client import Client, Refused, WrongUse, checked_name, declare, print_json, tells
from stationmaster.findings import hint
from stationmaster.plain import plain

HELP = "bring a room or a station to what the inventory wants, through the manager"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("target", nargs="?", metavar="ROOM|STATION", help="name of a room or a station")
    parser.add_argument("--everything", action="store_true", help="all stations")
    parser.add_argument("--watch", action="store_true", help="show each station's progress until the run ends")
    parser.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")
    parser.add_argument("--interrupt", action="store_true", help="also touch live units on air; for admins")
    parser.add_argument("--force", action="store_true", help="also stations that are as wanted already")
    declare(parser)


@tells
def run(arguments: argparse.Namespace, client: Client) -> int:
    """Start the run, and follow it if asked to."""
    if bool(arguments.target) == arguments.everything:
        raise WrongUse("Name a room or a station, or say --everything; not both.")
    given = {name: True for name in ("dry_run", "interrupt", "force") if getattr(arguments, name)}
    started = start(client, {"action": "apply", **given}, arguments.target)
    return tell(client, started, arguments)


def start(client: Client, body: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Start a run on a room or a station, whichever has the name, or on everything without one."""
    if name is None:
        return _post(client, body, {"everything": True})
    checked_name(name)
    try:
        return _post(client, body, {"room": name})
    except Refused as refused:
        if refused.kind not in ("UnknownRoom", "NameOfStation"):
            raise
        no_room = refused
    try:
        return _post(client, body, {"station": name})
    except Refused as refused:
        if refused.kind != "UnknownStation":
            raise
        close = no_room.document.get("suggestion") or refused.document.get("suggestion")
        text = f"There is neither a room nor a station {name!r}{hint(close) or '.'}"
        raise WrongUse(f"{text} 'stationmaster status' lists both.") from refused


def _post(client: Client, body: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/runs", {**body, "target": target}, repeatable=True)
    return answer


def tell(client: Client, started: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Follow a run that was started, or say where it can be looked at."""
    from stationmaster.follow import address, follow

    if arguments.watch:
        try:
            return follow(client, started, as_json=arguments.json)
        except KeyboardInterrupt:
            print(f"\nthe run goes on: stationmaster runs {plain(started['id'])} --watch", file=sys.stderr)
            raise
    if arguments.json:
        print_json({**started, "address": address(client, started)})
    else:
        print(address(client, started))
    return 0
