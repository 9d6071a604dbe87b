"""Addresses, networks and multicast groups that options name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from stationmaster.findings import Finding, dotted
from stationmaster.rules.context import Context, Place, at, beside, label


def written_addresses(context: Context) -> Iterator[Finding]:
    """An address or a network is written as one: a slip of a digit is found before a program does not start."""
    for annotation, reads, needed in (
        ("x-address", ip_address, "an IPv4 or IPv6 address, such as 192.0.2.7"),
        ("x-network", lambda text: ip_network(text, strict=False), "a network, such as 192.0.2.0/24"),
    ):
        for place in context.annotated(annotation):
            try:
                reads(str(place.value))
            except ValueError:
                yield at(
                    place,
                    f"{label(place)}: {dotted(place.path)} is {place.value!r}; needed is {needed}",
                    allowed=needed,
                )


def groups(context: Context) -> Iterator[Finding]:
    """A multicast group and port is what one stream of the event is sent to: who listens would get two mixed."""
    used: dict[tuple[str, int], list[Place]] = {}
    for place in context.annotated("x-group"):
        port = beside(place, "port")
        try:
            address = ip_address(str(place.value))
        except ValueError:
            continue
        if address.is_multicast and isinstance(port, int):
            used.setdefault((str(address), port), []).append(place)
    for (group, port), places in used.items():
        for first, second in itertools.pairwise(places):
            other = f"{first.station.name}, {label(first)} {dotted(first.path[:-1])}"
            message = (
                f"{label(second)}: {dotted(second.path[:-1])} is sent to {group} port {port}, as that of {other}; "
                "give one of them another group or port"
            )
            yield at(second, message, others=[first.station.name])


RULES = (written_addresses, groups)
