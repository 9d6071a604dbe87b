"""`python -m stationmaster`."""

import sys

from stationmaster.cli import main

sys.exit(main())
