"""What a role's context.json has beyond what all have: talks, its own address, image streams; role.yml asks for them.

Nothing of it makes a unit restart: a schedule changes many times a day.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from stationmaster import resolve
from stationmaster.catalogue import Catalogue
from stationmaster.model import Event, Instance, Station


def wanted_context(
    event: Event, catalogue: Catalogue, station: Station, instance: Instance, keys: Collection[str]
) -> dict[str, Any]:
    """Return the parts of an instance's context that its role asks for.

    Args:
        event: the whole conference.
        catalogue: the station roles.
        station: where the instance is.
        instance: what the parts are for.
        keys: `context` of its role.yml, some of `role_schema.CONTEXT`.

    Returns:
        `talks`: `{"timezone": name, "rooms": {room: {"title": text, "talks": [talk in order of start]}}}`, times in
        seconds since 1970, for the rooms of `rooms_of`. `url`: where the instance's data folder is served. `stills`:
        each server of stills of the event with `name` (`station/instance`), `station`, `instance`, `address`,
        `http_port`, `room`, and `streams`: `key`, `id` (None where only a descriptor on the station says it), `name`,
        `room` of each.
    """
    found: dict[str, Any] = {}
    if "talks" in keys:
        found["talks"] = _talks(event, rooms_of(event, station, instance))
    if "url" in keys:
        found["url"] = resolve.base_url(event, station, instance)
    if "stills" in keys:
        found["stills"] = sorted(_stills(event, catalogue), key=lambda one: str(one["name"]))
    return found


def rooms_of(event: Event, station: Station, instance: Instance) -> list[str]:
    """Return the rooms that an instance is about: its option `rooms`, else its station's room, else all."""
    named = instance.options.get("rooms")
    if isinstance(named, list) and named:
        return [room for room in dict.fromkeys(named) if room in event.rooms]
    return [station.room.name] if station.room else list(event.rooms)


def _stills(event: Event, catalogue: Catalogue) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "station": station.name,
            "instance": instance.id,
            "address": station.address,
            "http_port": instance.options.get("http_port"),
            "room": station.room.name if station.room else None,
            "streams": _streams(station, instance.options.get("streams")),
        }
        for name, station, instance in resolve.providers(event, catalogue, ("stills",))
    ]


def _streams(station: Station, streams: Any) -> list[dict[str, Any]]:
    """Return an instance's streams in order of their keys, numbered as `station.stills.stream_settings` does it."""
    rows = sorted(streams.items()) if isinstance(streams, Mapping) else []
    taken = {row["id"] for _, row in rows if row.get("id") is not None}
    by_descriptor = any("flux" in row and row.get("id") is None for _, row in rows)
    home = station.room.name if station.room else None
    found = []
    for place, (key, row) in enumerate(rows, 1):
        number = row.get("id")
        if number is None and not by_descriptor:
            number = place
            while number in taken:
                number += 1
            taken.add(number)
        found.append({"key": key, "id": number, "name": row.get("name") or key, "room": row.get("room") or home})
    return found


def _talks(event: Event, rooms: Collection[str]) -> dict[str, Any]:
    from stationmaster.schedule_plan import plan_of  # costs its import only where it is wanted

    plan = plan_of(event)
    return {
        "timezone": plan.timezone,
        "rooms": {
            room: {
                "title": event.rooms[room].title,
                "talks": [
                    {
                        "id": talk.id,
                        "title": talk.title,
                        "subtitle": talk.subtitle,
                        "presenters": list(talk.presenters),
                        "start": talk.start,
                        "end": talk.end,
                        "language": talk.language,
                        "track": talk.track,
                        "url": talk.url,
                    }
                    for talk in plan.rooms.get(room, ())
                ],
            }
            for room in rooms
        },
    }
