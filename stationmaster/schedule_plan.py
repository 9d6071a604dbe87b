"""The schedule by the inventory's rooms: pure, from a file's bytes to what is on now and next."""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from stationmaster.findings import hint, nearest
from stationmaster.model import Event
from stationmaster.rules.event import schedule_file
from stationmaster.schedule_formats import Read, Remark, ScheduleError, Talk, read


@dataclass(frozen=True)
class Plan:
    """The event's schedule; `rooms` maps each room of the inventory to its talks in order of their start."""

    source: str | None = None
    format: str | None = None
    version: str | None = None
    timezone: str = "UTC"
    on_air: bool = False
    """Whether rooms are set on air by it."""
    rooms: dict[str, list[Talk]] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def now_and_next(self, room: str, at: float) -> tuple[Talk | None, Talk | None]:
        """Return the talk that is on in a room at a time, and the one that starts next."""
        talks = self.rooms.get(room, [])
        place = bisect.bisect_right(talks, at, key=lambda talk: talk.start)
        running = [talk for talk in talks[max(0, place - 8) : place] if talk.end > at]
        return (running[-1] if running else None), (talks[place] if place < len(talks) else None)


def plan_of(event: Event) -> Plan:
    """Read the schedule that an event names; whatever is wrong with it is among the remarks."""
    zone_name = str(event.settings.get("timezone") or "UTC")
    on_air = event.settings.get("schedule_on_air") is True
    path = schedule_file(event)
    if path is None:
        return Plan(timezone=zone_name, on_air=on_air)
    source = str(event.settings["schedule"])
    try:
        found = _read(path.read_bytes(), zone_name)
    except (OSError, ScheduleError) as error:
        why = str(error) if isinstance(error, ScheduleError) else f"it cannot be read: {error.strerror}"
        remark = Remark("UnreadableSchedule", source, f"{source}: {why}")
        return Plan(source=source, timezone=zone_name, on_air=on_air, remarks=[remark])
    rooms, remarks = _by_room(event, found.talks)
    return Plan(source, found.format, found.version, zone_name, on_air, rooms, [*found.remarks, *remarks])


@functools.lru_cache(maxsize=2)
def _read(data: bytes, zone_name: str) -> Read:
    """Read a schedule once for all the stations that are rendered with it; nobody changes the result."""
    return read(data, ZoneInfo(zone_name))


def _by_room(event: Event, talks: list[Talk]) -> tuple[dict[str, list[Talk]], list[Remark]]:
    names: dict[str, str] = {}
    for room in event.rooms.values():
        names.setdefault(_folded(room.title), room.name)
    names |= {_folded(room.name): room.name for room in event.rooms.values()}
    rooms: dict[str, list[Talk]] = {name: [] for name in event.rooms}
    unmatched: dict[str, int] = {}
    for talk in talks:
        # "Hall A, first floor" is still Hall A
        room_name = names.get(_folded(talk.room)) or names.get(_folded(talk.room.partition(",")[0]))
        if room_name is None:
            unmatched[talk.room] = unmatched.get(talk.room, 0) + 1
        else:
            rooms[room_name].append(talk)
    remarks = []
    titles = [room.title for room in event.rooms.values()]
    for name, count in unmatched.items():
        told = f"{count} talk{'s' if count > 1 else ''}"
        if name:
            close = hint(nearest(name, titles))
            text = f"{told} in {name!r}: no room of the inventory has that room_title{close}"
        else:
            text = f"{told} without a room"
        remarks.append(Remark("UnmatchedRoom", name, text))
    for name, planned in rooms.items():
        planned.sort(key=lambda talk: (talk.start, talk.end))
        for first, second in itertools.pairwise(planned):
            if second.start < first.end:
                text = f"{first.id!r} and {second.id!r} are in {name} at the same time"
                remarks.append(Remark("OverlappingTalks", second.id, text))
    return rooms, remarks


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
