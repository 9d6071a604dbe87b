"""What a hello says of the machine itself: addresses, disk, load, clock."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

NETWORK = Path("/sys/class/net")
TIMEOUT = 3.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def _output(*command: str) -> str:
    """Return what a program prints, empty if it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=True, env=_ENVIRONMENT
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def macs(folder: Path = NETWORK) -> list[str]:
    """Return the MAC addresses of the machine's network cards; where none is a real one, as in a container, of all."""
    found: dict[str, bool] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            address = (path / "address").read_text().strip().lower()
        except OSError:
            continue
        if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", address) and address != "00:00:00:00:00:00":
            found[address] = found.get(address, False) or (path / "device").exists()
    return sorted(address for address, real in found.items() if real or not any(found.values()))[:64]


def addresses() -> list[str]:
    """Return the machine's addresses that others can reach."""
    try:
        links: list[dict[str, Any]] = json.loads(_output("ip", "-json", "address", "show", "up", "scope", "global"))
    except ValueError:
        return []
    found = [str(entry["local"]) for link in links for entry in link.get("addr_info", ()) if "local" in entry]
    return [address[:64] for address in found][:64]


def disk(folder: str) -> dict[str, Any] | None:
    """Return free and whole bytes of the disk that a folder is on, None if there is no such folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return {"free": found.f_bavail * found.f_frsize, "size": found.f_blocks * found.f_frsize}


def clock_offset() -> float | None:
    """Return how many seconds the clock is ahead of its NTP source, None if none is known."""
    words = _output("chronyc", "-c", "tracking").strip().split(",")
    if len(words) >= 14 and words[13] != "Not synchronised":
        try:
            return -float(words[4])  # chrony tells what has to be added to the clock
        except ValueError:
            return None
    found = re.search(r"^\s*Offset: ([+-]?[0-9.]+)(us|ms|s|min|h)$", _output("timedatectl", "timesync-status"), re.M)
    return -float(found[1]) * _UNITS[found[2]] if found else None
