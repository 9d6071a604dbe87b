"""A station's address follows from its room's number and its place in the room.

Used by the loader of the inventory and, through a vars plugin, by every
plain `ansible` command, so that both always mean the same machine.
"""

from __future__ import annotations

import functools
import ipaddress
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stationmaster.variables import VARIABLES

ROOMS_GROUP = "rooms"
SERVICES_GROUP = "services"
SERVICES_NUMBER = 0
SERVICES_FIRST = 2
"""The first station of services: network + 1 is the gateway."""


class AddressError(ValueError):
    """No address can be derived; the text says why and what to set."""


def derive(network: str, room_size: int, room_number: int, place: int) -> str:
    """Compute the address of a place in a room.

    Args:
        network: IPv4 network in CIDR notation (`event_network`).
        room_size: addresses per room (`event_room_size`).
        room_number: the room's number, 0 for services.
        place: the station's place in its room, from 1.

    Returns:
        The address as dotted text.

    Raises:
        AddressError: the place is outside the room, or the room outside the network.
    """
    try:
        net = ipaddress.IPv4Network(network)
    except ValueError as error:
        raise AddressError(f"event_network {network!r} is no IPv4 network: {error}") from error
    if not 1 <= place < room_size:
        raise AddressError(
            f"place {place} is outside the {room_size} addresses of a room (event_room_size): "
            "set a higher event_room_size, or ansible_host by hand"
        )
    number = int(net.network_address) + room_number * room_size + place
    if number >= int(net.broadcast_address):
        raise AddressError(
            f"room number {room_number} with {room_size} addresses a room lies outside event_network {network}: "
            "set a larger event_network, or ansible_host by hand"
        )
    return str(ipaddress.IPv4Address(number))


def room_of(host: Any) -> Any | None:
    """Return the group that is the host's room, or the services group, or None.

    Args:
        host: a host of Ansible's inventory.
    """
    groups = sorted(host.get_groups(), key=lambda group: str(group.name))
    for group in groups:
        if any(parent.name == ROOMS_GROUP for parent in group.parent_groups):
            return group
    return next((group for group in groups if group.name == SERVICES_GROUP), None)


def address_of(host: Any, variables: Mapping[str, Any]) -> str:
    """Derive the address of a host of Ansible's inventory.

    Args:
        host: the host.
        variables: its merged variables, of which the numbers and the network are used.

    Raises:
        AddressError: the host is in no room, or a number is missing or unfit.
    """
    room = room_of(host)
    if room is None:
        raise AddressError("the station is in no room and not in services: no address follows; set ansible_host")
    services = room.name == SERVICES_GROUP
    position = [str(other.name) for other in room.get_hosts()].index(str(host.name)) + (
        SERVICES_FIRST if services else 1
    )
    event = VARIABLES["event"]
    if not services and "room_number" not in variables:
        raise AddressError(f"room {room.name} has no room_number, from which addresses follow; set it, or ansible_host")
    return derive(
        str(variables.get("event_network", event["event_network"]["default"])),
        _number(variables, "event_room_size", event["event_room_size"]["default"]),
        SERVICES_NUMBER if services else _number(variables, "room_number", None),
        _number(variables, "station_number", position),
    )


def _number(variables: Mapping[str, Any], name: str, default: int | None) -> int:
    value = variables.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AddressError(f"{name} must be a whole number from 1 on, not {str(value)[:60]!r}")
    return int(value)


_group_variables: weakref.WeakKeyDictionary[Any, dict[Any, dict[str, Any]]] = weakref.WeakKeyDictionary()
_paths: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()
"""The folders asked about so far, by loader."""


def host_variables(loader: Any, path: str, host: Any) -> dict[str, Any]:
    """Answer Ansible's question for a host's variables: its address, unless written by hand.

    Args:
        loader: Ansible's loader.
        path: the folder that Ansible asks for: each inventory's, then the playbook's, which may be above it.
        host: the host asked about.

    Returns:
        `{"ansible_host": …}`, or nothing when the inventory says it or it cannot be derived
        (`stationmaster check` then tells why).
    """
    from ansible.inventory.helpers import sort_groups
    from ansible.plugins.loader import vars_loader

    folders = _folders(path, host.vars.get("inventory_file"))
    if room_of(host) is None or not folders:
        return {}
    files = vars_loader.get("host_group_vars")
    groups = sort_groups(host.get_groups())
    known = _group_variables.setdefault(loader, {})
    key = (folders, tuple(str(group.name) for group in groups))
    if key not in known:
        merged: dict[str, Any] = {}
        for group in groups:
            merged.update(group.vars)
        for folder in folders:
            for group in groups:
                merged.update(files.get_vars(loader, folder, [group]))
        known[key] = merged
    variables = {**known[key], **host.vars}
    for folder in folders:
        variables.update(files.get_vars(loader, folder, [host]))
    if "ansible_host" in variables:
        return {}
    try:
        return {"ansible_host": address_of(host, variables)}
    except AddressError:
        return {}


@functools.lru_cache(maxsize=4096)
def _folders(path: str, file: str | None) -> tuple[str, ...]:
    """Return the folders from the one asked for down to the host's own file; none if it lies elsewhere.

    Asked for the playbook's folder, we must still see what the inventory's
    host_vars say: that answer would go over the inventory's own.
    """
    top = Path(path).resolve()
    place = Path(file or "/").resolve().parent
    if not place.is_relative_to(top):
        return ()
    below = [place, *place.parents]
    return tuple(str(folder) for folder in reversed(below[: below.index(top) + 1]))
