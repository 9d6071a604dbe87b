"""`stationmaster logs`: a station's journal, as the manager has it."""

from __future__ import annotations

import argparse
import datetime
import re

from stationmaster.client import OK, Client, WrongUse, checked_name, declare, print_json, tells
from stationmaster.plain import plain

HELP = "read a station's journal, as far as the manager received it"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("station", metavar="STATION")
    parser.add_argument("--unit", help="only this unit: a systemd unit's name, or ROLE/INSTANCE")
    parser.add_argument("--since", type=moment, metavar="TIME", help="30s, 10m, 2h, 1d ago, or an ISO 8601 time")
    parser.add_argument("--lines", type=int, default=100, metavar="N", help="the newest of them (default: 100)")
    declare(parser)


def moment(text: str) -> str:
    """Return a time as the manager takes it, from an age such as `10m` or from an ISO 8601 time.

    A time without a zone is one of this machine's.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    age = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    try:
        if age:
            ago = datetime.timedelta(**{UNITS[age[2]]: int(age[1])})
            return (datetime.datetime.now(datetime.UTC) - ago).isoformat()
        return datetime.datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age such as 10m nor an ISO 8601 time") from error


def unit_of(text: str) -> str:
    """Return a systemd unit's name, also from `ROLE/INSTANCE`."""
    role, slash, instance = text.partition("/")
    return f"stationmaster-{role}@{instance}.service" if slash else text


@tells
def run(arguments: argparse.Namespace, client: Client) -> int:
    """Print the lines, oldest first."""
    if arguments.lines < 1:
        raise WrongUse("--lines must be at least 1.")
    query = {"unit": unit_of(arguments.unit) if arguments.unit else None, "since": arguments.since}
    path = f"/v1/stations/{checked_name(arguments.station)}/journal"
    found = client.get(path, **query, lines=arguments.lines)
    if arguments.json:
        print_json(found)
        return OK
    for entry in found["entries"]:
        who = entry["identifier"] or entry["unit"] or "-"
        pid = f"[{entry['pid']}]" if entry["pid"] is not None else ""
        print(plain(f"{entry['time'] or '-'} {entry['level']:7} {who}{pid}: {entry['message']}"))
    return OK
