"""The event's schedule: what is on now and next in each room, and rooms set on air while a talk is on."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from api.access import Reader
from api.clock import now, told
from api.problems import RESPONSES, Problem, ProblemDocument, not_found
from stationmaster.schedule_formats import Talk
from stationmaster.schedule_plan import Plan, plan_of

if TYPE_CHECKING:
    from api.manager import Manager

log = logging.getLogger("stationmaster.schedule")

AUTHOR = "schedule"
TICK = 5.0
"""Seconds between two looks at the clock."""
LEAD = 60.0
"""Seconds before a talk at which its room is set on air: a run takes some, and talks begin early."""
MARGIN = 600.0
"""Seconds after a talk's end for which its room stays on air: talks overrun."""
LONGEST = 1440
"""Minutes on air that a run may ask for."""
UNSURE = 30.0
"""Seconds by which two times on air may differ and still count as the same."""

router = APIRouter(prefix="/v1/schedule", tags=["rooms"], responses=RESPONSES)


class TalkEntry(BaseModel):
    """A talk of the schedule."""

    id: str
    title: str
    subtitle: str
    presenters: list[str]
    start: str | None
    end: str | None
    language: str
    track: str
    url: str
    do_not_record: bool


class RoomTalks(BaseModel):
    """The talks of one room of the inventory."""

    room: str
    title: str
    now: TalkEntry | None
    next: TalkEntry | None
    talks: list[TalkEntry]


class ScheduleFinding(BaseModel):
    """What of the schedule cannot be used: UnreadableSchedule, UnmatchedRoom, InvalidTalk, OverlappingTalks, …"""

    error: str
    value: str
    message: str


class ScheduleEntry(BaseModel):
    """The event's schedule."""

    source: str | None
    """The file, as `event_schedule` names it; null without one."""
    format: str | None
    version: str | None
    timezone: str
    on_air: bool
    """Whether it sets rooms on air (`event_schedule_on_air`)."""
    rooms: list[RoomTalks]
    findings: list[ScheduleFinding]


def entry(talk: Talk | None) -> TalkEntry | None:
    """Return a talk as the API tells it."""
    if talk is None:
        return None
    return TalkEntry(
        id=talk.id,
        title=talk.title,
        subtitle=talk.subtitle,
        presenters=list(talk.presenters),
        start=told(talk.start),
        end=told(talk.end),
        language=talk.language,
        track=talk.track,
        url=talk.url,
        do_not_record=talk.do_not_record,
    )


@router.get("", responses={404: {"model": ProblemDocument, "description": "No such room"}})
def read_schedule(
    request: Request,
    _principal: Reader,
    room: Annotated[str | None, Query(max_length=64, description="Only this room of the inventory.")] = None,
) -> ScheduleEntry:
    """Tell the talks of each room, with what is on now and next, and what of the schedule cannot be used."""
    manager = request.app.state.manager
    plan: Plan = manager.schedule.plan()
    rooms = manager.inventory.current().event.rooms
    if room is not None and room not in rooms:
        raise not_found("room", room)
    at = now()
    entries = []
    for name in rooms if room is None else [room]:
        current, following = plan.now_and_next(name, at)
        talks = [one for one in map(entry, plan.rooms.get(name, [])) if one is not None]
        entries.append(
            RoomTalks(room=name, title=rooms[name].title, now=entry(current), next=entry(following), talks=talks)
        )
    findings = [ScheduleFinding(error=one.error, value=one.value, message=one.message) for one in plan.remarks]
    return ScheduleEntry(
        source=plan.source,
        format=plan.format,
        version=plan.version,
        timezone=plan.timezone,
        on_air=plan.on_air,
        rooms=entries,
        findings=findings,
    )


class Schedule:
    """Part of the manager that knows the schedule.

    Args:
        manager: with inventory and registry, and with runs when a talk begins.
        clock: what time it is, in seconds since 1970.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = now) -> None:
        self._manager = manager
        self._inventory = manager.inventory
        self._registry = manager.registry
        self._clock = clock
        self._plan: tuple[str, Plan] | None = None
        self._done: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="schedule", daemon=True)

    def start(self) -> None:
        """Begin to look at the clock."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(4)

    def plan(self) -> Plan:
        """Return the schedule of the inventory in force, read once for each state of it.

        Raises:
            Problem: 503 InventoryUnusable while there is none.
        """
        snapshot = self._inventory.current()
        with self._lock:
            if self._plan is None or self._plan[0] != snapshot.state:
                self._plan = (snapshot.state, plan_of(snapshot.event))
            return self._plan[1]

    def step(self, at: float) -> None:
        """Set rooms on air whose talk begins or is on; each talk is looked at once."""
        plan = self.plan()
        if not plan.on_air:
            return
        for room, talks in plan.rooms.items():
            for talk in talks:
                if talk.start - LEAD <= at < talk.end:
                    self._set_on_air(room, talk, at)

    def _set_on_air(self, room: str, talk: Talk, at: float) -> None:
        # a talk that is moved is another one
        key = f"on-air {room} {talk.id} {talk.start:.0f} {talk.end:.0f}"
        if key in self._done:
            return
        from api.run_request import RunRequest

        until, lasting = talk.end + MARGIN, self._lasting(room)
        if lasting and min(lasting) >= until - UNSURE:
            self._done.add(key)
            return
        # a person may have set it for longer, and a run sets the time anew
        minutes = min(math.ceil((max([until, *lasting]) - at) / 60), LONGEST)
        told: dict[str, Any] = {"action": "on-air", "target": {"room": room}, "minutes": minutes}
        try:
            run = self._manager.runs.submit(RunRequest.model_validate(told), AUTHOR, key=key)
        except Problem as problem:
            if problem.retryable:
                return
            # 409: before a restart this was asked for with more minutes left; 422: an empty room
            log.info("%s is not set on air for %s: %s", room, talk.id, problem)
        else:
            log.info("run %s sets %s on air for %s", run.id, room, talk.id)
        self._done.add(key)

    def _lasting(self, room: str) -> list[float]:
        """Return until when each station of a room is on air by its last hello, 0 for one that is not."""
        found = []
        for name in self._inventory.current().stations_of(room):
            view = self._registry.view(name)
            until = (view.said.get("state") or {}).get("on_air_until") if view is not None else None
            found.append(float(until) if isinstance(until, int | float) else 0.0)
        return found

    def _loop(self) -> None:
        while not self._stop.wait(TICK):
            try:
                self.step(self._clock())
            except Problem:
                continue  # there is no inventory yet
            except Exception:
                log.exception("the schedule could not be looked at")
