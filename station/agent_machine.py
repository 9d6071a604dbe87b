"""What a hello says of the machine itself: addresses, disk, load, clock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NETWORK = Path("/sys/class/net")
SIOCGIFADDR = 0x8915
"""netdevice(7)"""
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


def addresses(names: Iterable[str] | None = None, inet6: Path = Path("/proc/net/if_inet6")) -> list[str]:
    """Return the machine's addresses that others can reach: of each interface the first IPv4 and all global IPv6 ones.

    Not with `ip`: as a user with a capability it asks for capset, which the unit's filter refuses [measured].
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for name in sorted(names if names is not None else (path.name for path in NETWORK.iterdir())):
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(channel, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    for line in inet6.read_text().splitlines() if inet6.exists() else ():
        words = line.split()
        if len(words) == 6 and words[3] == "00":
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0])))
    return [address for address in found if not address.startswith("127.")][:64]


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
