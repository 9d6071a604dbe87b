"""What a room's screen shows at a time: now, next, a break, a good night. Pure, from talks to views.

A view holds only what is seen, so that equal views are one picture; it changes at the start and the end
of talks and where a new day begins, and never in between.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from station.signage_view import View
from station.signage_words import WEEKDAYS, clean, date_text

FOREVER = 4_102_444_800
"""Seconds since 1970 of the year 2100: the end of what nothing follows."""
DAY_BEGINS = 4
"""Local hour at which a conference's day begins: talks after midnight belong to the evening before."""
NIGHT = 3 * 3600
"""Seconds without a talk, over the beginning of a day, that are no break any more."""
HORIZON = 24 * 3600
"""Seconds that a programme reaches ahead."""
SLIDES = 100
"""Most slides of a programme; a room has some twenty talks a day."""


@dataclass(frozen=True, slots=True)
class Talk:
    """One talk; times are seconds since 1970."""

    title: str
    presenters: tuple[str, ...]
    start: float
    end: float
    subtitle: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Slide:
    """A view and when it is shown, from `start` until just before `end`, seconds since 1970."""

    start: float
    end: float
    view: View


class Room:
    """A room's talks, and what they mean at any time."""

    def __init__(self, title: str, event: str, zone: ZoneInfo, talks: Collection[Talk]) -> None:
        """Take the talks in any order; `zone` is what times are told in."""
        self.title = clean(title)
        self.timezone = str(zone)
        self._event = clean(event)
        self._zone = zone
        self._talks = sorted(talks, key=lambda talk: (talk.start, talk.end))
        self._ended = list(itertools.accumulate((talk.end for talk in self._talks), max))
        changes = {moment for talk in self._talks for moment in (talk.start, talk.end, self._morning(talk))}
        self._changes = sorted(changes)

    def at(self, when: float) -> View:
        """Return what is shown at a time."""
        place = bisect.bisect_right(self._talks, when, key=lambda talk: talk.start)
        coming = self._talks[place] if place < len(self._talks) else None
        # as the manager sees it: of several talks at once the one that began last
        running = [talk for talk in self._talks[max(0, place - 8) : place] if talk.end > when]
        if running:
            return self._now(running[-1], coming)
        if coming is None:
            return View("after" if self._talks else "none", self.title, self._event)
        ended = self._ended[place - 1] if place else None
        if ended is not None and not self._is_night(ended, coming):
            return self._coming("break", coming, self._clock(coming.start))
        if when >= self._morning(coming):
            return self._coming("before", coming, self._clock(coming.start))
        return self._coming("before" if ended is None else "after", coming, self._far(ended, coming))

    def slides(self, when: float, horizon: float = HORIZON, limit: int = SLIDES) -> list[Slide]:
        """Return what is shown from a time on, the slide of that time first, without gaps.

        Args:
            when: seconds since 1970.
            horizon: seconds ahead at which a slide is the last to begin.
            limit: how many slides at most.
        """
        found: list[Slide] = []
        place = bisect.bisect_right(self._changes, when)
        view = self.at(when)
        first = place
        while first > 0 and self.at(self._begin(first - 1)) == view:
            first -= 1
        begin = self._begin(first)
        while len(found) < limit:
            while place < len(self._changes) and self.at(self._changes[place]) == view:
                place += 1
            end = self._changes[place] if place < len(self._changes) else FOREVER
            found.append(Slide(begin, end, view))
            if end >= min(when + horizon, FOREVER):
                break
            begin, view, place = end, self.at(end), place + 1
        return found

    def told(self, when: float, now: float) -> str:
        """Say a time as somebody in the room says it now: `10:45`, or with a weekday where it is not today."""
        there = self._local(when)
        day = "" if there.date() == self._local(now).date() else f"{WEEKDAYS[there.weekday()]} "
        return f"{day}{there:%H:%M}"

    def _begin(self, place: int) -> float:
        """Return when the part before a change begins."""
        return self._changes[place - 1] if place else 0

    def _now(self, talk: Talk, coming: Talk | None) -> View:
        at = ""
        if coming is not None:
            far = self._is_night(talk.end, coming)
            at = self._far(talk.end, coming) if far else self._clock(coming.start)
        return View(
            "now",
            self.title,
            self._event,
            title=clean(talk.title),
            subtitle=clean(talk.subtitle),
            people=_people(talk),
            until=self._clock(talk.end),
            next_at=at,
            next_title=clean(coming.title) if coming else "",
            next_people=_people(coming) if coming else "",
            link=_link(talk),
        )

    def _coming(self, state: str, coming: Talk, at: str) -> View:
        title, people = clean(coming.title), _people(coming)
        link = _link(coming)
        return View(state, self.title, self._event, next_at=at, next_title=title, next_people=people, link=link)

    def _is_night(self, ended: float, coming: Talk) -> bool:
        return ended < self._morning(coming) and coming.start - ended >= NIGHT

    def _morning(self, talk: Talk) -> float:
        """Return when the day of a talk begins."""
        day = (self._local(talk.start) - timedelta(hours=DAY_BEGINS)).date()
        return datetime.combine(day, time(DAY_BEGINS), self._zone).timestamp()

    def _local(self, when: float) -> datetime:
        return datetime.fromtimestamp(when, self._zone)

    def _clock(self, when: float) -> str:
        return f"{self._local(when):%H:%M}"

    def _far(self, ended: float | None, coming: Talk) -> str:
        local = self._local(coming.start)
        near = ended is not None and coming.start - ended < 6 * 86400
        return f"{WEEKDAYS[local.weekday()] if near else date_text(local)} {local:%H:%M}"


def _people(talk: Talk) -> str:
    return ", ".join(filter(None, map(clean, talk.presenters)))


def _link(talk: Talk) -> str:
    return web_link(talk.url)


def web_link(url: Any) -> str:
    """Return an address if it is one of the web and fits a header, else nothing."""
    good = isinstance(url, str) and url.startswith(("http://", "https://")) and len(url) <= 2000
    return url if good and url.isprintable() and " " not in url else ""


def rooms_of(context: Mapping[str, Any], names: Collection[str], event: str) -> dict[str, Room]:
    """Return the rooms to show from a context.json.

    Args:
        context: with `talks` as `stationmaster.role_context` writes them; whatever is not as it is there is left out.
        names: the rooms that the instance names; none: all that the context has.
        event: the event's name, for a context that tells no title.
    """
    told = context.get("event")
    title = str(told.get("title") or event) if isinstance(told, dict) else event
    plan = context.get("talks")
    plan = plan if isinstance(plan, dict) else {}
    zone = _zone(plan.get("timezone"))
    rows = plan.get("rooms")
    rows = rows if isinstance(rows, dict) else {}
    found = {}
    for name in names or rows:
        row = rows.get(name)
        row = row if isinstance(row, dict) else {}
        talks = row.get("talks")
        read = [_talk(one) for one in talks] if isinstance(talks, list) else []
        found[name] = Room(str(row.get("title") or name), title, zone, [one for one in read if one is not None])
    return found


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name if isinstance(name, str) and name else "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def _talk(row: Any) -> Talk | None:
    try:
        start, end = float(row["start"]), float(row["end"])
        people = row.get("presenters")
        people = people if isinstance(people, list) else []
        if not 0 <= start < end <= FOREVER:
            return None
        texts = {key: str(row.get(key) or "") for key in ("title", "subtitle", "url")}
        return Talk(presenters=tuple(str(one) for one in people), start=start, end=end, **texts)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
