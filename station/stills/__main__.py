"""The station role `stills`; run it by hand as `python3 -m station.stills --config FILE`.

`--example` prints such a file. With a server file and a verbosity it starts all streams of that file with their
catalogue, as the original does; see `station.stills.alone`.
"""

from __future__ import annotations

import importlib
import sys

from station import config as configuration
from station import missing

try:
    from station.stills.instance import run
    from station.stills.settings import EXAMPLE, OPTIONS
except ModuleNotFoundError as error:
    sys.exit(f"station.stills: {missing.told(error)}")

EPILOG = (
    "Or `python3 -m station.stills SERVER_FILE VERBOSITY`: all streams of a server file with their catalogue in one "
    "process; VERBOSITY, 0 to 5, is how much it tells."
)


def main(argv: list[str]) -> int:
    """Run the program; returns the exit status."""
    if argv and not argv[0].startswith("-"):
        # by name: a station does not run this, so it is no part of the code for which its unit restarts
        return int(importlib.import_module("station.stills.alone").main(argv))
    return configuration.program("stills", run, argv, example=EXAMPLE, options=OPTIONS, epilog=EPILOG)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
