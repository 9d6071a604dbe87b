"""What stations said of themselves over the last hours: a row a minute of each, for small plots."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from api.clock import now
from api.database import Database
from api.station_figures import LAST_SEGMENT
from api.tables import Sample

if TYPE_CHECKING:
    from api.registry import Registry
    from api.station_view import StationView

log = logging.getLogger("stationmaster.history")

MINUTE = 60
"""Seconds from one row of a station to its next."""
LAG = 1.0
"""Seconds after a minute's end in which its last hellos are still being stored."""
KEPT = 12
"""Hours that rows are kept: a day of talks."""
CLEANED = 600.0
"""Seconds between two removals of old rows."""
FIGURES = 64
"""Figures in a row; a station of a room has less than half as many."""
PLOTTED = (
    LAST_SEGMENT,
    "loudness_lufs",
    "silent_seconds",
    "speed",
    "behind_seconds",
    "segments_waiting",
    "backlog",
    "backlog_bytes",
    "age_seconds",
    "stuck",
    "jobs_waiting",
    "jobs_running",
    "jobs_failed",
    "free_bytes",
    "bytes",
    "sent_bytes_total",
    "received_bytes_total",
    "segments_lost_total",
    "restarts_total",
    "progress_ratio",
)
"""Figures of instances of which the course tells something, whatever their labels; the first ones matter most and stay
where a station has too many. Counters are in it where their slope is a rate or a step is an event. Not in it: what is
only yes or no, what repeats the station's own disk, and what never falls without saying anything, as `segments`.
`last_segment_seconds` is kept as `last_segment_age`, in seconds."""


def sampled(said: dict[str, Any], at: float) -> dict[str, float]:
    """Return the figures of a hello that are worth a plot.

    Those of the station have names of their own, in the units that the names tell; those of an instance are called
    `ROLE/INSTANCE FIGURE`.

    Args:
        said: the hello as plain data (`api.hello.Hello`).
        at: when it came, in seconds since 1970.
    """
    disk, units = said.get("disk") or {}, said.get("units")
    found: dict[str, Any] = {
        "load": next(iter(said.get("load") or ()), None),
        "disk_free_bytes": disk.get("free"),
        "disk_hours_left": disk.get("hours_left"),
        "clock_offset_seconds": said.get("clock_offset"),
        "units_unhealthy": None if units is None else sum(not unit.get("healthy") for unit in units.values()),
    }
    of_instances = [
        (PLOTTED.index(family), place, name, value)
        for place, figures in (said.get("figures") or {}).items()
        for name, value in figures.items()
        if (family := name.partition(":")[0]) in PLOTTED and _is_number(value)
    ]
    for _, place, name, value in sorted(of_instances):
        if name != LAST_SEGMENT:
            found[f"{place} {name}"] = value
        elif value > 0:
            found[f"{place} last_segment_age"] = round(max(0.0, at - value), 3)
    numbers = [(name, float(value)) for name, value in found.items() if _is_number(value)]
    return dict(numbers[:FIGURES])


def _is_number(value: object) -> bool:
    # false for NaN, too; and an integer of a hello may be larger than any float
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


class History:
    """Part of the manager that keeps a row of each station and minute.

    A row is what the last hello of the minute said. The minute under way at the manager's end is left to the next
    start: its stations say hello to that one. What the database does not take is lost.

    Args:
        registry: who tells hellos.
        database: where the rows go; with several managers on one, the first row of a station and minute stays.
    """

    def __init__(self, registry: Registry, database: Database) -> None:
        self._database = database
        self._heard: dict[tuple[int, str], StationView] = {}
        self._lock = threading.Lock()
        self._clean_at = 0.0
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        registry.subscribe(self.heard)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End after the write under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(4)

    def heard(self, view: StationView) -> None:
        """Take a hello; called by the registry, so it only remembers."""
        if view.name is not None and view.seen_at is not None:
            with self._lock:
                self._heard[_minute(view.seen_at), view.name] = view

    def write(self, at: float) -> None:
        """Write the minutes that are over, and remove what is too old; a failure is logged once, until it is over."""
        with self._lock:
            over = sorted(key for key in self._heard if key[0] < _minute(at))
            views = [(key, self._heard.pop(key)) for key in over]
        try:
            self._write(views, at)
            self._failed = False
        except Exception:  # a database that is away now is there in a later minute
            if not self._failed:
                log.exception("figures of %d stations are lost, and those that follow until this is mended", len(views))
            self._failed = True

    def _write(self, views: list[tuple[tuple[int, str], StationView]], at: float) -> None:
        # in the order of keys, so that two managers never wait for each other's rows
        rows = [
            {"station": name, "at": minute, "figures": sampled(view.said, view.seen_at or at)}
            for (minute, name), view in views
        ]
        clean = at >= self._clean_at
        if not rows and not clean:
            return
        with self._database.writing() as session:
            if rows:
                session.execute(self._database.insert(Sample).on_conflict_do_nothing(), rows)
            if clean:
                session.execute(delete(Sample).where(Sample.at < int(at) - KEPT * 3600))
        if clean:
            self._clean_at = at + CLEANED

    def _work(self) -> None:
        while not self._stop.wait(MINUTE - now() % MINUTE + LAG):
            self.write(now())


def _minute(at: float) -> int:
    return int(at // MINUTE) * MINUTE


def read(database: Database, station: str, hours: float) -> dict[str, list[tuple[int, float]]]:
    """Return the course of a station's figures up to now.

    Args:
        database: where the rows are.
        station: its name in the inventory.
        hours: how far back, at most `KEPT`.

    Returns:
        Start of the minute (seconds since 1970) and value, oldest first, by the figure's name.
    """
    at = int(now())
    since = at - int(hours * 3600)
    query = select(Sample.at, Sample.figures).where(Sample.station == station, Sample.at.between(since, at))
    found: dict[str, list[tuple[int, float]]] = {}
    with database.reading() as session:
        for minute, figures in session.execute(query.order_by(Sample.at)):
            for name, value in figures.items():
                found.setdefault(name, []).append((minute, value))
    return found
