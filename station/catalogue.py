"""The station role `catalogue`: all image streams of the event that run now.

Run it by hand as `python3 -m station.catalogue --config FILE`; `--example` prints such a file, for a server of stills
that runs its own example. The event's servers are in the file that `paths.context` names, which is read again when it
changes; `stationmaster.role_context` tells its shape.
"""

from __future__ import annotations

import sys

from station import config as configuration
from station.catalogues import settings
from station.config import Config


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status. Raises ConfigError."""
    # what speaks over the network is slow to import, and --example needs none of it
    from station.catalogues.service import serve

    return serve(settings.read(config))


if __name__ == "__main__":
    sys.exit(configuration.program("catalogue", run, example=settings.EXAMPLE, options=settings.OPTIONS))
