"""`python -m stationmaster.lab`: what labs there are, and their removal without an inventory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import lab, store
from .errors import LabError


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m stationmaster.lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="all labs of this machine, with their stations")
    absent = verbs.add_parser("absent", help="remove a lab, whoever made it")
    absent.add_argument("lab", help="as `list` prints it")
    verbs.add_parser("purge", help="remove the cached images that no lab uses")
    clean = verbs.add_parser("clean", help="remove the labs that a checkout made, whose keys it has, then purge")
    clean.add_argument("checkout", type=Path, help="its folder")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "list":
            for name, record in store.records():
                made = record.plan()
                print(f"{name}  {record.inventory}  {'(its inventory is gone)' if record.orphaned() else ''}".rstrip())
                for station in made.stations.values():
                    state = "running" if lab.machine(record, station.name).running() else "off"
                    print(f"  {station.name:<24} {station.address!s:<16} {state}")
        elif arguments.verb == "absent":
            lab.remove(arguments.lab)
        else:
            if arguments.verb == "clean":
                lab.remove_all(arguments.checkout.absolute())
            print("\n".join(lab.purged(lambda text: print(text, file=sys.stderr))))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
