"""What there may be only one of: MACs, addresses, ports, devices, stream names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from stationmaster.catalogue import StationRole
from stationmaster.findings import Finding, dotted, invalid, listed
from stationmaster.findings import place as written_at
from stationmaster.model import Instance, Origin, Station
from stationmaster.ports import listening
from stationmaster.rules.context import Context, Place, at, full_path, origin_at

_MAC_DIGITS = re.compile(r"[0-9a-f]{12}\Z")


def normal_mac(text: str) -> str | None:
    """Return a MAC address in lower case with colons, or None if the text is none.

    Args:
        text: twelve hexadecimal digits, with or without `:`, `-`, `.` or spaces between them.
    """
    digits = re.sub(r"[\s:.\-]", "", text).lower()
    if not _MAC_DIGITS.match(digits):
        return None
    return ":".join(digits[number : number + 2] for number in range(0, 12, 2))


def macs(context: Context) -> Iterator[Finding]:
    """A MAC address names one machine, however it is written."""
    known: dict[str, list[Station]] = {}
    for station in context.event.stations.values():
        if station.mac is None:
            continue
        mac = normal_mac(station.mac)
        origin = station.origins.get("station_mac")
        if mac is None or mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"):
            message = f'station_mac {station.mac!r} is no MAC address; write it as "02:00:00:00:01:0a", in quotes'
            yield invalid(
                message,
                stations=[station.name],
                origin=origin,
                path="station_mac",
                value=station.mac,
                allowed="six pairs of hexadecimal digits",
            )
        elif int(mac[:2], 16) & 1:
            message = f"station_mac {mac} is a group address (its first octet is odd); no interface has it"
            yield invalid(
                message,
                stations=[station.name],
                origin=origin,
                path="station_mac",
                value=mac,
                allowed="a MAC address whose first octet is even",
            )
        else:
            known.setdefault(mac, []).append(station)
    yield from _shared(known, "station_mac", "MAC address", "station_mac")


def addresses(context: Context) -> Iterator[Finding]:
    """An address leads to one machine."""
    known: dict[str, list[Station]] = {}
    for station in context.event.stations.values():
        if station.address is not None:
            known.setdefault(station.address.lower(), []).append(station)
    yield from _shared(known, "ansible_host", "address", "ansible_host")


def _shared(known: dict[str, list[Station]], variable: str, what: str, path: str) -> Iterator[Finding]:
    for value, stations in known.items():
        if len(stations) > 1:
            second = stations[1]
            origin = second.origins.get(variable)
            if origin is None or origin.file is None:
                origin = second.origins.get("")
            users = ", ".join(_named(item, variable) for item in stations)
            message = f"{what} {value} is used by several stations: {users}"
            yield invalid(message, stations=[item.name for item in stations], origin=origin, path=path, value=value)


def _named(station: Station, variable: str) -> str:
    origin = station.origins.get(variable)
    if origin is None or origin.file is None:
        return f"{station.name} (derived)"
    return f"{station.name} ({written_at(origin.file, origin.line).rstrip(': ')})"


def ports(context: Context) -> Iterator[Finding]:
    """Two instances on a station cannot listen on the same port."""
    used: dict[tuple[str, str, int], list[Place]] = {}
    for station, instance, row in context.instances():
        for protocol, number, path in _ports(context, station, instance, row):
            place = Place(station, instance, path, number)
            taken = used.setdefault((station.name, protocol, number), [])
            if all(other.instance is not instance or other.path != path for other in taken):
                taken.append(place)
    for (station_name, protocol, number), places in used.items():
        if len(places) > 1:
            who = listed(dict.fromkeys(_whose(place, places) for place in places))
            message = f"{protocol} port {number} is used more than once on {station_name}: {who}"
            yield at(_written_last(places), message)


def _whose(place: Place, places: list[Place]) -> str:
    """Return the instance, with the option where one instance has several of the places."""
    name = f"{place.instance.role}/{place.instance.id}"
    several = sum(other.instance is place.instance for other in places) > 1
    return f"{name} {dotted(place.path)}" if several and place.path else name


def _ports(
    context: Context, station: Station, instance: Instance, row: StationRole
) -> Iterator[tuple[str, int, tuple[str | int, ...]]]:
    named = {path for _, path, _ in listening(row, instance)}
    for place in context.annotated_of(station, instance, row, "x-port"):
        if place.path not in named and isinstance(place.value, int) and not isinstance(place.value, bool):
            yield "tcp", place.value, place.path
    for port, path, value in listening(row, instance):
        yield port.protocol, value, path


def devices(context: Context) -> Iterator[Finding]:
    """A capture device is opened by one instance only."""
    used: dict[tuple[str, str], list[Place]] = {}
    for place in context.annotated("x-device"):
        used.setdefault((place.station.name, str(place.value)), []).append(place)
    for (station_name, device), places in used.items():
        if len(places) > 1:
            who = listed(f"{place.instance.role}/{place.instance.id}" for place in places)
            message = f"device {device} is used more than once on {station_name}: {who}"
            yield at(_written_last(places), message)


def within_an_instance(context: Context) -> Iterator[Finding]:
    """What tells the entries of one instance apart, such as a number of each, is not given twice."""
    for station, instance, row in context.instances():
        used: dict[tuple[int, Any, Any], list[Place]] = {}
        for place in context.annotated_of(station, instance, row, "x-unique"):
            used.setdefault((len(place.path), place.path[-1], place.value), []).append(place)
        for (_, name, value), places in used.items():
            if len(places) > 1:
                who = listed(dotted(place.path[:-1]) for place in places)
                message = f"{instance.role}/{instance.id}: {name} {value} is given more than once: {who}"
                yield at(_written_last(places), message)


def stream_names(context: Context) -> Iterator[Finding]:
    """`station/instance` must mean one thing for whoever asks for a kind."""
    used: dict[tuple[str, str], list[tuple[Station, Instance]]] = {}
    for station, instance, row in context.instances():
        if row.provides is not None:
            used.setdefault((row.provides, f"{station.name}/{instance.id}"), []).append((station, instance))
    for (kind, name), several in used.items():
        if len(several) > 1:
            roles = listed(instance.role for _, instance in several)
            station, instance = several[-1]
            message = f"{name} names {kind} of several roles: {roles}; give one of the instances another id"
            yield invalid(
                message,
                stations=[station.name],
                origin=origin_at(instance, ()),
                role=instance.role,
                instance=instance.id,
                path=full_path(instance, ()),
                value=name,
            )


def _written_last(places: Iterable[Place]) -> Place:
    def line(place: Place) -> tuple[bool, int]:
        origin: Origin = origin_at(place.instance, place.path)
        return origin.layer == "station_roles", origin.line or 0

    return max(reversed(list(places)), key=line)  # of those on one line the last


RULES = (macs, addresses, ports, devices, within_an_instance, stream_names)
