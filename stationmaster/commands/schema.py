"""`stationmaster schema`: what editors need to complete and check inventory files."""

from __future__ import annotations

import argparse
import json

from stationmaster import catalogue
from stationmaster.editor_schema import event_file, room_file

HELP = "print the JSON Schema of room files (with --event: of group_vars/all/event.yml) for editors"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--event", action="store_true", help="the schema of group_vars/all/event.yml instead")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    roles = catalogue.load()
    schema = event_file(roles) if arguments.event else room_file(roles)
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
