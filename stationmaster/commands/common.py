"""What several commands share: the inventory argument and quiet loading."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from stationmaster.catalogue import Catalogue
from stationmaster.inventory import UnusableInventory, load
from stationmaster.model import Event


def add_inventory(parser: argparse.ArgumentParser) -> None:
    """Declare `-i`, as `ansible` has it."""
    parser.add_argument(
        "-i",
        "--inventory",
        action="append",
        metavar="INVENTORY",
        help="folder or file of the event's inventory (default: the one that ansible.cfg names)",
    )


def port(text: str) -> int:
    """Return a port of the command line, 0 for none. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or int(text) >= 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; needed is 1 to 65535")
    return int(text)


def default_data() -> Path:
    """Return the manager's data folder where no `--data` names it; on its station, its settings do."""
    return Path(os.environ.get("STATIONMASTER_DATA", "data"))


def load_quietly(inventory: list[str] | None, roles: Catalogue) -> Event:
    """Load an inventory; Ansible's own warnings appear only if the inventory could be read.

    Raises:
        UnusableInventory: as `inventory.load`; its findings replace the warnings.
    """
    from ansible import constants
    from ansible.utils import display

    # made before stderr is a buffer: it adjusts the real streams once
    display.Display()
    warnings = io.StringIO()
    try:
        with contextlib.redirect_stderr(warnings):
            event = load(inventory or list(constants.DEFAULT_HOST_LIST), roles=roles)
    except UnusableInventory:
        raise
    except BaseException:
        sys.stderr.write(warnings.getvalue())
        raise
    sys.stderr.write(warnings.getvalue())
    return event
