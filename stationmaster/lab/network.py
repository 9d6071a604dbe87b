"""The lab's bridge and the stations' links.

The station's end of a link is made by its launcher in the station's own
network namespace; here is the host's side.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

from .errors import LabError
from .plan import PORT, LabPlan, StationPlan, address_in
from .system import run

LINKS = Path("/sys/class/net")


def exists(interface: str) -> bool:
    """Tell whether the host has an interface of that name."""
    return (LINKS / interface).exists()


def make_bridge(lab: LabPlan) -> bool:
    """Make the lab's bridge unless it is there; return whether it was made.

    Raises LabError when another interface of the host has an address in the
    lab's network: the stations would be out of reach.
    """
    if exists(lab.bridge):
        return False
    if holder := holder_of(lab.network, run("ip", "-4", "-json", "address")):
        raise LabError(
            f"{lab.network} overlaps with this machine's own interface {holder}: choose another event_network"
        )
    prefix = f"{lab.gateway}/{lab.network.prefixlen}"
    run("ip", "-batch", "-", text=(
        # without snooping multicast reaches everyone even though nobody here queries for members
        f"link add {lab.bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
        f"address add {prefix} dev {lab.bridge}\n"
        f"link set {lab.bridge} up\n"
    ))  # fmt: skip
    return True


def holder_of(network: IPv4Network, addresses: str) -> str | None:
    """Return which interface has an address in `network`, given the output of `ip -4 -json address`."""
    for interface in json.loads(addresses):
        for entry in interface.get("addr_info", ()):
            own = IPv4Network((entry["local"], entry["prefixlen"]), strict=False)
            if own.overlaps(network):
                return f"{interface['ifname']} ({entry['local']}/{entry['prefixlen']})"
    return None


def connect(lab: LabPlan, station: StationPlan) -> None:
    """Plug the station's link into the bridge."""
    run("ip", "link", "set", station.port, "master", lab.bridge, "up")


def set_link(station: StationPlan, up: bool) -> bool:
    """Plug or unplug the station's link, as if by its cable; return whether that changed anything.

    The station sees its carrier go; its addresses and connections stay.
    """
    if not exists(station.port):
        raise LabError(f"{station.name} is not running: it has no link")
    if link_up(station) == up:
        return False
    run("ip", "link", "set", station.port, "up" if up else "down")
    return True


def link_up(station: StationPlan) -> bool:
    """Tell whether the station's link is plugged in."""
    try:
        return bool(int((LINKS / station.port / "flags").read_text(), 16) & 1)
    except FileNotFoundError:
        return False


def remove_link(station: StationPlan) -> None:
    """Remove the station's link; the namespace's own end goes with it."""
    if exists(station.port):
        run("ip", "link", "delete", station.port, check=False)
    forget_connections(station)


def forget_connections(station: StationPlan) -> None:
    """End this machine's own TCP connections to the station's address.

    A multiplexed SSH connection to a station that is gone would otherwise be
    used for the next station of that address, and hang.
    """
    run("ss", "--kill", "--no-header", "dst", str(station.address), check=False)


def remove_bridge(lab: LabPlan) -> None:
    """Remove the lab's bridge, and links of its network whose station nobody remembers."""
    for link in LINKS.glob(f"{PORT}????????"):
        if address_in(link.name, PORT) in lab.network:
            run("ip", "link", "delete", link.name, check=False)
    if exists(lab.bridge):
        run("ip", "link", "delete", lab.bridge)
