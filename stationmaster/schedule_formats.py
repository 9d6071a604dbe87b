"""Readers of an event's schedule: pretalx and frab JSON, frab XML, iCalendar.

What speakers typed into a submission form comes along, so nothing of it is trusted for its shape
or length, and XML with a document type, which could name entities, is refused before it is parsed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from station.job import ID, LONGEST

BYTES = 16 << 20
"""Largest file; the schedule of a congress with 1,000 talks and their abstracts is 5 MB."""
TALKS = 20_000
EARLIEST, LATEST = 946_684_800, 4_102_444_800
"""Seconds since 1970 of the years 2000 and 2100: any other start is a mistake."""
TEXT = 500
"""Characters of a title or name that are kept."""
PEOPLE = 50


class ScheduleError(ValueError):
    """A file that is no schedule; the text says why."""


@dataclass(frozen=True)
class Talk:
    """One talk, with what an encode job needs. `room` is the schedule's own name; times are seconds since 1970."""

    id: str
    title: str
    presenters: tuple[str, ...]
    room: str
    start: float
    end: float
    subtitle: str = ""
    language: str = ""
    track: str = ""
    url: str = ""
    do_not_record: bool = False


@dataclass(frozen=True)
class Remark:
    """Something of a schedule that cannot be used: what kind, which value, and why."""

    error: str
    value: str
    message: str


@dataclass
class Read:
    """A schedule as read; talks are in the file's order."""

    format: str
    version: str | None = None
    talks: list[Talk] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@dataclass(frozen=True)
class _Raw:
    """A talk before its times are understood."""

    id: Any
    title: Any
    presenters: Iterable[Any]
    room: Any
    start: Any
    duration: Any
    more: Mapping[str, Any]


def read(data: bytes, zone: ZoneInfo) -> Read:
    """Read a schedule; the format follows from the content.

    Args:
        data: the file.
        zone: what times without a zone mean, unless the file names its own.

    Raises:
        ScheduleError: it is none of the formats, broken, or too large.
    """
    if len(data) > BYTES:
        raise ScheduleError(f"the file has {len(data)} bytes; allowed are {BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScheduleError("the file is not UTF-8") from error
    head = text.lstrip()[:15]
    if head.startswith("{"):
        found, rows = _json(text, zone)
    elif head.startswith("<"):
        found, rows = _xml(text, zone)
    elif head.upper().startswith("BEGIN:VCALENDAR"):
        found, rows = _calendar(text, zone)
    else:
        raise ScheduleError("the file is neither JSON nor XML nor iCalendar")
    seen: dict[str, int] = {}
    for row in rows:
        if len(found.talks) + len(found.remarks) >= TALKS:
            raise ScheduleError(f"the schedule has more than {TALKS} talks")
        _add(found, row, seen)
    return found


def _add(found: Read, row: _Raw, seen: dict[str, int]) -> None:
    name = _identity(row.id if row.id not in (None, "") else row.title)
    try:
        if not isinstance(row.start, datetime):
            raise ScheduleError("it has no start")
        length = _duration(row.duration)
        if not 0 < length <= LONGEST:
            raise ScheduleError(f"it lasts {length:.0f} s; allowed is more than 0 and at most {LONGEST}")
        start = row.start.timestamp()
        if not EARLIEST <= start <= LATEST:
            raise ScheduleError(f"it starts in the year {row.start.year}")
    except (ScheduleError, OverflowError, OSError) as error:
        found.remarks.append(Remark("InvalidTalk", name, f"the talk {name!r} cannot be used: {error}"))
        return
    seen[name] = seen.get(name, 0) + 1
    if seen[name] > 1:  # a talk in several parts keeps its number in all of them
        name = f"{name[:58]}-{seen[name]}"
    names = dict.fromkeys(_text(one) for one in list(row.presenters)[:PEOPLE])
    texts = {key: _text(row.more.get(key)) for key in ("subtitle", "language", "track", "url")}
    found.talks.append(
        Talk(
            id=name,
            title=_text(row.title) or name,
            presenters=tuple(one for one in names if one),
            room=_text(row.room),
            start=start,
            end=start + length,
            do_not_record=row.more.get("do_not_record") in (True, "true", "1"),
            **texts,
        )
    )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # pretalx tells some names by language
        value = value.get("en") or next(iter(value.values()), "")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)[: 4 * TEXT]).split())[:TEXT]


def _identity(value: Any) -> str:
    """Return an id as encode jobs want it; one with other characters gets a hash, to stay different from others."""
    text = _text(value)
    if ID.fullmatch(text):
        return text
    digest = hashlib.sha256(str(value).encode(errors="replace")).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]+', '-', text)[:50].strip('-')}-{digest}".strip("-")


def _duration(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    parts = str(value).split(":")
    if 2 <= len(parts) <= 3 and all(re.fullmatch("[0-9]{1,4}", part) for part in parts):
        days, hours, minutes = [0, *map(int, parts)][-3:]  # pretalx writes days before a duration of more than one
        return ((days * 24 + hours) * 60 + minutes) * 60.0
    raise ScheduleError(f"its duration {_text(value)!r} is not HH:MM")


def _zone(name: Any, zone: ZoneInfo) -> ZoneInfo:
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else zone
    except (KeyError, ValueError, OSError):
        return zone


def _start(when: Any, day: Any, clock: Any, day_start: Any, zone: ZoneInfo) -> datetime | None:
    """Return a start from a whole date, or from the day and the time of day; nights belong to the day before."""
    moment = _moment(when, zone)
    if moment is not None:
        return moment
    try:
        begin = datetime.combine(date.fromisoformat(str(day)), time.fromisoformat(str(clock)), zone)
    except ValueError:
        return None
    first = _moment(day_start, zone)
    return begin + timedelta(days=1) if first is not None and begin < first else begin


def _moment(value: Any, zone: ZoneInfo) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value else None
    except ValueError:
        return None
    return found.replace(tzinfo=zone) if found is not None and found.tzinfo is None else found


def _json(text: str, zone: ZoneInfo) -> tuple[Read, Iterator[_Raw]]:
    try:
        schedule = json.loads(text)["schedule"]
        conference = schedule["conference"]
        days = list(conference["days"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ScheduleError("it is not the JSON of pretalx or frab: schedule.conference.days is missing") from error
    zone = _zone(conference.get("time_zone_name"), zone)

    def rows() -> Iterator[_Raw]:
        for day in days:
            rooms = day.get("rooms") if isinstance(day, dict) else None
            for room, events in rooms.items() if isinstance(rooms, dict) else ():
                for event in events if isinstance(events, list) else ():
                    if isinstance(event, dict):
                        start = _start(
                            event.get("date"), day.get("date"), event.get("start"), day.get("day_start"), zone
                        )
                        people = event.get("persons")
                        yield _Raw(
                            event.get("id") or event.get("code") or event.get("guid"),
                            event.get("title"),
                            [_person(one) for one in people] if isinstance(people, list) else [],
                            event.get("room") or room,
                            start,
                            event.get("duration"),
                            event,
                        )

    return Read("json", _text(schedule.get("version")) or None), rows()


def _person(person: Any) -> Any:
    if isinstance(person, dict):
        return person.get("public_name") or person.get("name") or person.get("full_public_name")
    return person


def _xml(text: str, zone: ZoneInfo) -> tuple[Read, Iterator[_Raw]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ScheduleError("XML with a document type or entities is refused")
    try:
        # without a document type there are no entities to expand or to fetch
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise ScheduleError(f"it is not well-formed XML: {error}") from error
    if root.tag != "schedule":
        raise ScheduleError(f"it is not the XML of frab: its root is {_text(root.tag)!r}, not 'schedule'")
    zone = _zone(root.findtext("conference/time_zone_name"), zone)

    def rows() -> Iterator[_Raw]:
        for day in root.iterfind("day"):
            for room in day.iterfind("room"):
                for event in room.iterfind("event"):
                    more: dict[str, Any] = {key: event.findtext(key) for key in ("subtitle", "language", "track")}
                    more["url"] = event.findtext("url")
                    more["do_not_record"] = (event.findtext("recording/optout") or "").strip().lower()
                    start = _start(
                        (event.findtext("date") or "").strip(),
                        day.get("date"),
                        (event.findtext("start") or "").strip(),
                        day.get("start"),
                        zone,
                    )
                    yield _Raw(
                        event.get("id") or event.get("guid"),
                        event.findtext("title"),
                        [person.text for person in event.iterfind("persons/person")],
                        (event.findtext("room") or "").strip() or room.get("name"),
                        start,
                        (event.findtext("duration") or "").strip(),
                        more,
                    )

    return Read("xml", _text(root.findtext("version")) or None), rows()


def _calendar(text: str, zone: ZoneInfo) -> tuple[Read, Iterator[_Raw]]:
    import icalendar

    found = Read("ical")
    try:
        calendar = icalendar.Calendar.from_ical(text)
        events = list(calendar.walk("VEVENT"))
        zone = _zone(str(calendar.get("X-WR-TIMEZONE") or ""), zone)
    except Exception as error:  # the library raises whatever its parts do
        raise ScheduleError(f"it is not valid iCalendar: {type(error).__name__}") from error

    def rows() -> Iterator[_Raw]:
        for event in events:
            if str(event.get("STATUS") or "").upper() == "CANCELLED":
                continue
            if event.get("RRULE") or event.get("RDATE"):
                name = _text(str(event.get("SUMMARY") or ""))
                text = f"{name!r} repeats; only its first time is used"
                found.remarks.append(Remark("RepeatedTalk", name, text))
            start, length = _times(event, zone)
            people = event.get("ATTENDEE") or []
            yield _Raw(
                str(event.get("UID") or ""),
                str(event.get("SUMMARY") or ""),
                [one.params.get("CN") for one in (people if isinstance(people, list) else [people])],
                str(event.get("LOCATION") or ""),
                start,
                length,
                {"url": str(event.get("URL") or "")},
            )

    return found, rows()


def _times(event: Any, zone: ZoneInfo) -> tuple[datetime | None, timedelta | str]:
    """Return start and length of a VEVENT; one of whole days has no start."""
    try:
        start, end, length = (getattr(event.get(key), "dt", None) for key in ("DTSTART", "DTEND", "DURATION"))
    except Exception:  # as above
        return None, ""
    if not isinstance(start, datetime):
        return None, ""
    start = start.replace(tzinfo=zone) if start.tzinfo is None else start
    if isinstance(end, datetime):
        end = end.replace(tzinfo=zone) if end.tzinfo is None else end
        return start, timedelta(seconds=end.timestamp() - start.timestamp())
    return start, length if isinstance(length, timedelta) else ""
