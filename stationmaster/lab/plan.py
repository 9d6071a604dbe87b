"""What a lab should be, from the inventory's hosts: pure, no system calls.

One subnet is one lab: its identity, its folder and its interfaces' names all
derive from addresses, which cannot collide between labs that coexist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from .errors import LabError

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
"""A host name that both a folder and Linux (64 characters, HOST_NAME_MAX) take."""
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
PREFIX = 24
PORT = "smp"
MACHINE = "smlab-"


@dataclass(frozen=True, slots=True)
class StationPlan:
    """One station to be: its name, address and MAC address (lower case, colons)."""

    name: str
    address: IPv4Address
    mac: str

    @property
    def port(self) -> str:
        """Name of the bridge's end of the station's link (11 of the 15 characters of IFNAMSIZ)."""
        return f"{PORT}{int(self.address):08x}"

    @property
    def machine(self) -> str:
        """Name for systemd-nspawn, which keeps machine names per host and not per lab."""
        return f"{MACHINE}{int(self.address):08x}"


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A whole lab: its network and its stations by name."""

    network: IPv4Network
    stations: dict[str, StationPlan]

    @property
    def id(self) -> str:
        """Folder name of the lab: `10.83.0.0-24`."""
        return lab_id(self.network)

    @property
    def bridge(self) -> str:
        """Name of the lab's bridge."""
        return f"smb{int(self.network.network_address):08x}"

    @property
    def gateway(self) -> IPv4Address:
        """The controller's own address in the lab: the first of the network."""
        return self.network.network_address + 1


def lab_id(network: IPv4Network) -> str:
    """Return the name of the lab on that network."""
    return f"{network.network_address}-{network.prefixlen}"


def address_in(name: str, prefix: str) -> IPv4Address:
    """Return the address of the station that a port's or a machine's name was made for; `prefix` is PORT or MACHINE."""
    return IPv4Address(int(name.removeprefix(prefix), 16))


def plan(hosts: Sequence[Mapping[str, str | None]], subnet: str | None = None) -> LabPlan:
    """Make the plan of a lab.

    `hosts` are mappings with `name`, `address` (`ansible_host`) and `mac`
    (`station_mac`; without one it derives from the address). `subnet` is a
    network in CIDR form that holds all addresses; without it, it is the /24
    that does.

    Raises LabError when there is no host, an address is missing, not IPv4 or
    used twice, or the addresses do not lie in one network.
    """
    if not hosts:
        raise LabError("no host in the groups rooms and services of this inventory: the lab has nothing to boot")
    stations: dict[str, StationPlan] = {}
    holders: dict[IPv4Address, str] = {}
    for host in hosts:
        station = _station(host)
        if (other := holders.get(station.address)) is not None:
            raise LabError(f"{station.name} and {other} both have the address {station.address}")
        holders[station.address] = station.name
        stations[station.name] = station
    network = _network(stations, subnet)
    made = LabPlan(network, dict(sorted(stations.items())))
    _check_addresses(made)
    return made


def _station(host: Mapping[str, str | None]) -> StationPlan:
    name = host.get("name") or ""
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot be a station's host name: letters, digits, '-', '_' and '.', at most 64")
    address = host.get("address")
    if not address:
        raise LabError(f"{name} has no address: give it a place in the event's network or an ansible_host")
    try:
        parsed = IPv4Address(address)
    except AddressValueError as error:
        raise LabError(f"{name}: the lab needs an IPv4 address as ansible_host, not {address!r}") from error
    return StationPlan(name, parsed, _mac(name, host.get("mac"), parsed))


def _mac(name: str, given: str | None, address: IPv4Address) -> str:
    if not given:
        return "02:00:" + ":".join(f"{byte:02x}" for byte in address.packed)
    digits = re.sub(r"[^0-9a-f]", "", given.lower())
    mac = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    if not MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise LabError(f"{name}: station_mac {given!r} is not the MAC address of a network card")
    return mac


def _network(stations: Mapping[str, StationPlan], subnet: str | None) -> IPv4Network:
    if subnet:
        try:
            return IPv4Network(subnet)
        except ValueError as error:
            raise LabError(f"lab_subnet {subnet!r} is not an IPv4 network such as 10.83.0.0/24") from error
    networks: dict[IPv4Network, str] = {}
    for station in stations.values():
        networks.setdefault(IPv4Network((station.address, PREFIX), strict=False), station.name)
    if len(networks) > 1:
        spread = ", ".join(f"{name} in {network}" for network, name in networks.items())
        raise LabError(f"the stations' addresses lie in several /{PREFIX} networks ({spread}): say lab_subnet")
    return next(iter(networks))


def _check_addresses(made: LabPlan) -> None:
    for station in made.stations.values():
        if station.address not in made.network:
            raise LabError(
                f"{station.name} has the address {station.address}, which is not in the lab's network {made.network}: "
                "change event_network or lab_subnet"
            )
        if station.address in (made.gateway, made.network.network_address, made.network.broadcast_address):
            raise LabError(
                f"{station.name} has the address {station.address}, which the lab keeps for itself "
                f"(network, broadcast, and {made.gateway} for the controller)"
            )
