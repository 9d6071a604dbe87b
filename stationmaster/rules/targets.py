"""`target: name`: that event_targets has it, and that a target on a station leads to a storage."""

from __future__ import annotations

from collections.abc import Iterator

from stationmaster.findings import HIDDEN, Finding, dotted, hint, invalid, listed, nearest
from stationmaster.options import annotated
from stationmaster.resolve import lookup, providers
from stationmaster.rules.context import Context, at
from stationmaster.targets import SCHEMA


def names(context: Context) -> Iterator[Finding]:
    """An upload's target is an entry of event_targets."""
    valid = sorted(context.event.targets)
    for place in context.annotated("x-target"):
        if isinstance(place.value, str) and place.value not in context.event.targets:
            close = nearest(place.value, valid)
            told = f"{' Allowed' if close else '; allowed'}: {listed(valid)}"
            label = f"{place.instance.role}/{place.instance.id}"
            message = f"{label}: event_targets has no {place.value!r}{hint(close)}{told}"
            yield at(place, message, allowed=valid, suggestion=close)


def on_stations(context: Context) -> Iterator[Finding]:
    """A target of type station names an instance that provides storage."""
    event = context.event
    valid = sorted({name for name, _, _ in providers(event, context.catalogue, ("storage",))})
    for name, target in event.targets.items():
        place = target.get("station")
        if target.get("type") != "station" or not isinstance(place, str):
            continue
        if lookup(event, context.catalogue, place, ("storage",)) is None:
            close = nearest(place, valid)
            station = place.partition("/")[0]
            told = f"{' Allowed' if close else '; allowed'}: {listed(valid)}"
            message = f"event_targets.{name}.station: {place!r} leads to no storage{hint(close)}{told}"
            path = ("event_targets", name, "station")
            yield invalid(
                message,
                stations=[station] if station in event.stations else [],
                origin=event.origins.get(path),
                path=".".join(path),
                value=place,
                allowed=valid,
                suggestion=close,
            )


def misplaced_secrets_of_targets(context: Context) -> Iterator[Finding]:
    """A vault value in a part of a target that is no secret would be written where everybody can read it."""
    event = context.event
    for path in sorted(event.secrets, key=str):
        if path[0] != "event_targets" or len(path) < 3:
            continue
        private = [top for top, _ in annotated(SCHEMA, event.targets.get(str(path[1]), {}), "writeOnly")]
        if not any(path[2:][: len(top)] == top for top in private):
            message = f"{dotted(path)} holds a vault value but is no secret: it would be readable on the station"
            yield invalid(message, origin=event.origins.get(path), path=dotted(path), value=HIDDEN)


RULES = (names, on_stations, misplaced_secrets_of_targets)
