"""`from: station/instance`: that it leads somewhere, to the right kind, and not in a circle; and names of rooms."""

from __future__ import annotations

from collections.abc import Iterator

from stationmaster.findings import Finding, hint, listed, nearest
from stationmaster.resolve import lookup, providers
from stationmaster.role_schema import KINDS
from stationmaster.rules.context import Context, Place, at, option, unreadable


def sources(context: Context) -> Iterator[Finding]:
    """A reference names an instance of a kind that the role accepts."""
    for place in context.annotated("x-reference"):
        if not isinstance(place.value, str):
            continue
        accepts = context.catalogue.roles[place.instance.role].accepts
        found = [lookup(context.event, context.catalogue, place.value, (kind,)) for kind in accepts]
        roles = [row[1].role for row in found if row is not None]
        if not roles:
            yield _leads_nowhere(context, place, accepts)
        elif len(roles) > 1:
            label = f"{place.instance.role}/{place.instance.id}"
            which = f"{place.value!r} may be of role {' or '.join(roles)}"
            yield at(place, f"{label}: {which}; give one of the instances another id", others=[])


def _leads_nowhere(context: Context, place: Place, accepts: tuple[str, ...]) -> Finding:
    event, reference = context.event, place.value
    valid = sorted({name for name, _, _ in providers(event, context.catalogue, accepts)})
    other, slash, instance = reference.partition("/")
    others = [other] if other in event.stations else []
    kinds = " or ".join(accepts) or "nothing"
    close = nearest(reference, valid)
    if not slash or not instance:
        why = "a source is written <station>/<instance>"
        close = close or next((name for name in valid if name.startswith(f"{other}/")), None)
    elif other not in event.stations:
        why = f"there is no station {other!r}"
    elif lookup(event, context.catalogue, reference, KINDS) is not None:
        role = next(name for name, items in event.stations[other].roles.items() if instance in items)
        why = f"it is of role {role}, and {place.instance.role} takes {kinds}"
        close = None
    else:
        here = [name for name in valid if name.startswith(f"{other}/")]
        close = nearest(reference, here) or close
        why = f"{other} has no instance {instance!r} that provides {kinds}"
    label = f"{place.instance.role}/{place.instance.id}"
    told = f"{' Allowed' if close else '; allowed'}: {listed(valid)}"
    message = f"{label}: {reference!r} leads nowhere: {why}{hint(close)}{told}"
    return at(place, message, others=others, allowed=valid, suggestion=close)


def usable(context: Context) -> Iterator[Finding]:
    """Who is named by others has what they need of it (`named_needs`)."""
    for place in context.annotated("x-reference"):
        accepts = context.catalogue.roles[place.instance.role].accepts
        found = lookup(context.event, context.catalogue, place.value, accepts) if isinstance(place.value, str) else None
        if found is None:
            continue
        station, other = found
        needs = context.catalogue.roles[other.role].named_needs
        if needs and not any(option(other, name)[1] or unreadable(other, (name,)) for name in needs):
            label = f"{place.instance.role}/{place.instance.id}"
            told = " or ".join(f"`{name}`" for name in needs)
            message = (
                f"{label}: {place.value!r} can be used by nobody: its role {other.role} has no {told}; give it one"
            )
            yield at(place, message, others=[station.name], allowed=list(needs))


def circles(context: Context) -> Iterator[Finding]:
    """Following references from any instance must end."""
    edges: dict[str, list[tuple[str, Place]]] = {}
    for place in context.annotated("x-reference"):
        if isinstance(place.value, str):
            accepts = context.catalogue.roles[place.instance.role].accepts
            found = lookup(context.event, context.catalogue, place.value, accepts)
            if found is not None:
                node = f"{place.station.name}/{place.instance.role}/{place.instance.id}"
                edges.setdefault(node, []).append((f"{found[0].name}/{found[1].role}/{found[1].id}", place))
    told: set[frozenset[str]] = set()
    done: set[str] = set()
    for start in edges:
        for circle in _circles(start, edges, done):
            nodes = frozenset(node for node, _ in circle)
            if nodes not in told:
                told.add(nodes)
                way = " -> ".join([*(node for node, _ in circle), circle[0][0]])
                others = [place.station.name for _, place in circle]
                yield at(circle[0][1], f"these sources lead in a circle: {way}", others=others)


def _circles(
    start: str, edges: dict[str, list[tuple[str, Place]]], done: set[str]
) -> Iterator[list[tuple[str, Place]]]:
    """Walk in depth without recursion: a chain may be as long as the event has instances."""
    way: list[tuple[str, Place]] = []
    on_way: dict[str, int] = {}
    stack: list[tuple[str, int]] = [(start, 0)]
    while stack:
        node, number = stack.pop()
        if number == 0:
            if node in done:
                continue
            on_way[node] = len(stack)
        following = edges.get(node, [])
        if number >= len(following):
            done.add(node)
            on_way.pop(node, None)
            if way and way[-1][0] == node:
                way.pop()
            continue
        target, place = following[number]
        if way and way[-1][0] == node:
            way.pop()
        way.append((node, place))
        stack.append((node, number + 1))
        if target in on_way:
            first = next(index for index, (name, _) in enumerate(way) if name == target)
            yield way[first:]
        elif target not in done:
            stack.append((target, 0))


def rooms(context: Context) -> Iterator[Finding]:
    """An option that names rooms names rooms of the event."""
    valid = sorted(context.event.rooms)
    for place in context.annotated("x-room"):
        if isinstance(place.value, str) and place.value not in context.event.rooms:
            close = nearest(place.value, valid)
            told = f"{hint(close)}{' Rooms' if close else '; rooms'}: {listed(valid)}"
            label = f"{place.instance.role}/{place.instance.id}"
            message = f"{label}: there is no room {place.value!r}{told}"
            yield at(place, message, allowed=valid, suggestion=close)


RULES = (sources, usable, circles, rooms)
