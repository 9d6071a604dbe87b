"""What the lab writes into its stations: who is where, and who may log in."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address

from .errors import LabError
from .plan import LabPlan
from .station import Machine


def hosts(lab: LabPlan, before: str = "") -> str:
    """Return the /etc/hosts of the lab's stations; `before` is what a station has, where lines of others stay."""
    if not before:
        before = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    kept = [line for line in before.splitlines() if not _within(line, lab)]
    own = [f"{station.address} {name}" for name, station in lab.stations.items()]
    # a station of that name comes first and wins
    own.append(f"{lab.gateway} controller")
    return "".join(f"{line}\n" for line in kept + own)


def authorized_keys(key: str, before: str = "") -> str:
    """Return the authorized_keys of a station's root, with the controller's key; `before` is what it has."""
    return before if key in before.splitlines() else f"{before}{key}\n"


def bring(station: Machine, lab: LabPlan, key: str) -> None:
    """Bring both files of a running station up to date: other stations may have come.

    Raises LabError when they cannot be written.
    """
    if not station.running():
        return
    _rewrite(station, "/etc/hosts", lambda before: hosts(lab, before))
    _rewrite(station, "/root/.ssh/authorized_keys", lambda before: authorized_keys(key, before))


def _rewrite(station: Machine, path: str, change: Callable[[str], str]) -> None:
    before = station.enter("cat", path).stdout.decode()
    after = change(before)
    if after != before:
        done = station.enter("sh", "-c", 'cat > "$1" && sync "$1"', "sh", path, text=after.encode())
        if done.returncode:
            raise LabError(f"{station.plan.name}: {path} cannot be written: {done.stderr.decode().strip()}")


def _within(line: str, lab: LabPlan) -> bool:
    try:
        return IPv4Address(line.split(maxsplit=1)[0]) in lab.network
    except (IndexError, AddressValueError):
        return False
