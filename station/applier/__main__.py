"""The engine on the station's disk, run by its units: `python3 ENGINE converge`."""

import sys

from station.applier.main import converge

if sys.argv[1:2] == ["converge"]:
    sys.exit(converge(*sys.argv[2:3]))
sys.exit("usage: python3 ENGINE converge [ROOT]")
