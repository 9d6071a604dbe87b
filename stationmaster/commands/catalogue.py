"""`stationmaster catalogue`: the catalogue of what runs here, without an inventory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from station.config import ConfigError
from stationmaster.commands.common import port

HELP = "tell old clients which streams run, by the descriptors in ./running/"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("--port", type=port, required=True, help="port of the catalogue")
    add("--dir", type=Path, default=Path("running"), help="folder of descriptors (default: ./running/)")
    add("--http-port", type=port, metavar="PORT", help="serve the page and JSON there, too (default: not)")
    add(
        "--server",
        action="append",
        default=[],
        metavar="URL",
        help="a server of stills to follow, such as http://192.0.2.7:8070; for each one of them",
    )
    add("-v", "--verbose", action="count", default=0, help="tell what happens, and (-vv) what clients get")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; what cannot be used is told on stderr, with status 1."""
    from station.catalogues.service import serve
    from station.catalogues.settings import by_hand
    from station.stills import trace

    trace.use(arguments.verbose)
    try:
        settings = by_hand(arguments.port, arguments.dir, arguments.http_port, arguments.server)
    except ConfigError as error:
        print(f"stationmaster: {str(error).removeprefix('options.')}", file=sys.stderr)
        return 1
    return serve(settings, lambda text: trace.tell(trace.RECEIVED, "catalogue", text))
