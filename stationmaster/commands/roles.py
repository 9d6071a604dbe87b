"""`stationmaster roles`: what a station can be."""

from __future__ import annotations

import argparse

from stationmaster import catalogue

HELP = "list the station roles, one a line: name, tab, summary"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the catalogue."""
    for role in catalogue.load().roles.values():
        print(f"{role.name}\t{role.summary}")
    return 0
