"""The console script `stationmaster`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from stationmaster import ansible_setup
from stationmaster.catalogue import CatalogueError
from stationmaster.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; by default the process's.

    Returns:
        Exit code: 0 for success, 1 for findings, 2 for wrong use or an inventory that cannot be read.
    """
    ansible_setup.use_configuration()
    parser = argparse.ArgumentParser(prog="stationmaster", description="Rooms in an inventory become running stations.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CatalogueError as error:
        print(f"stationmaster: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of our output (head, less) has gone: no reason for a traceback
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
