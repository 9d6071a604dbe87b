"""`stationmaster check`: all findings of all stations, before any station is touched."""

from __future__ import annotations

import argparse
import json
import sys

from stationmaster import catalogue
from stationmaster.commands.common import add_inventory, load_quietly
from stationmaster.findings import Finding
from stationmaster.inventory import UnusableInventory
from stationmaster.rules import check

HELP = "check an inventory: exit 0 if it is in order, 1 with findings, 2 if it cannot be read"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_inventory(parser)
    parser.add_argument("--json", action="store_true", help='print {"findings": […]} and nothing else')


def run(arguments: argparse.Namespace) -> int:
    """Check the inventory and print what is wrong."""
    roles = catalogue.load()
    stations = 0
    code = 1
    try:
        event = load_quietly(arguments.inventory, roles)
        found = check(event, roles)
        stations = len(event.stations)
    except UnusableInventory as error:
        found = error.findings
        code = 2
    if arguments.json:
        json.dump({"findings": [finding.to_dict() for finding in found]}, sys.stdout, ensure_ascii=False, indent=2)
        print()
    else:
        _tell(found, stations)
    return code if found else 0


def _tell(found: list[Finding], stations: int) -> None:
    for finding in found:
        print(finding.text())
    if found:
        print(f"{len(found)} finding{'s' if len(found) > 1 else ''}", file=sys.stderr)
    else:
        print(f"{stations} station{'s' if stations != 1 else ''}, nothing to complain about")
