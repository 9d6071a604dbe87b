"""Stations in numbers, from their last hellos and what the inventory wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import func, select

from api.clock import now
from api.database import Database
from api.tables import Wanted

LAST_SEGMENT = "last_segment_seconds"
"""The figure of ingest and record that tells the end of the last segment, in seconds since 1970."""
STATION = ["station", "room"]
INSTANCE = [*STATION, "role", "instance"]


class View(Protocol):
    """What of a station's view is told here."""

    name: str | None
    room: str | None
    enrolment: str
    state: str
    presence: str
    seen_at: float | None
    said: dict[str, Any]


class Stations(Protocol):
    """Whom stations are asked of: the registry."""

    def views(self) -> Sequence[Any]:
        """Return all stations."""


class Wishes(Protocol):
    """Whom the wanted hashes are asked of: the inventory."""

    def wanted_of(self, station: str) -> str | None:
        """Return the hash that a station should have."""


_GAUGES: dict[str, tuple[str, list[str]]] = {
    "state": ("1 for the state that the station's configuration is in.", [*STATION, "state"]),
    "presence": ("1 for how the station's hellos come.", [*STATION, "presence"]),
    "hello_age_seconds": ("Seconds since the last hello.", STATION),
    "config_age_seconds": ("Seconds that the station has not had what is wanted; 0 if it has.", STATION),
    "last_segment_age_seconds": ("Seconds since the end of the last segment.", INSTANCE),
    "figure": ("What an instance says of itself.", [*INSTANCE, "figure"]),
    "units": ("Units of the station.", [*STATION, "healthy"]),
    "held": ("Changes that wait for the end of on air, or for a person.", STATION),
    "on_air": ("1 while live units must not be interrupted.", STATION),
    "disk_free_bytes": ("Free space of the media's disk.", STATION),
    "disk_size_bytes": ("Size of the media's disk.", STATION),
    "disk_hours_left": ("Hours until the media's disk is full at the present rate.", STATION),
    "clock_offset_seconds": ("How far the station's clock is from its source.", STATION),
    "load": ("Load of one minute.", STATION),
    "uptime_seconds": ("Seconds since the station booted.", STATION),
}
"""Name after `stationmaster_station_` to text and labels."""


def families(registry: Stations, inventory: Wishes, database: Database) -> Iterator[Metric]:
    """Yield the metrics about stations; nothing of a station that never said hello but its state."""
    at = now()
    made = {
        name: GaugeMetricFamily(f"stationmaster_station_{name}", text, labels=labels)
        for name, (text, labels) in _GAUGES.items()
    }
    since = _wanted_since(database)
    machines: dict[str, int] = {}
    for view in registry.views():
        machines[view.enrolment] = machines.get(view.enrolment, 0) + 1
        if view.name is None:
            continue
        station = [view.name, view.room or ""]
        made["state"].add_metric([*station, view.state], 1)
        made["presence"].add_metric([*station, view.presence], 1)
        if view.seen_at is not None:
            made["hello_age_seconds"].add_metric(station, max(0.0, at - view.seen_at))
        wanted = inventory.wanted_of(view.name)
        if wanted is not None:
            has = view.said.get("applied") == wanted
            age = 0.0 if has else max(0.0, at - since.get((view.name, wanted), at))
            made["config_age_seconds"].add_metric(station, age)
        for name, labels, value in _said(view.said, at):
            if isinstance(value, int | float):
                made[name].add_metric([*station, *labels], float(value))
    yield from made.values()
    known = GaugeMetricFamily("stationmaster_machines", "Machines and stations, by enrolment.", labels=["enrolment"])
    for enrolment, count in sorted(machines.items()):
        known.add_metric([enrolment], count)
    yield known


def _said(said: dict[str, Any], at: float) -> Iterator[tuple[str, list[str], Any]]:
    """Yield name, further labels and value of what a hello tells; a value that is no number is left out later."""
    if not said:
        return
    state, disk = said.get("state") or {}, said.get("disk") or {}
    units = [bool(unit.get("healthy")) for unit in (said.get("units") or {}).values()]
    yield "units", ["true"], units.count(True)
    yield "units", ["false"], units.count(False)
    yield "held", [], len(state.get("held") or ())
    yield "on_air", [], int((state.get("on_air_until") or 0) > at)
    yield "disk_free_bytes", [], disk.get("free")
    yield "disk_size_bytes", [], disk.get("size")
    yield "disk_hours_left", [], disk.get("hours_left")
    yield "clock_offset_seconds", [], said.get("clock_offset")
    yield "load", [], next(iter(said.get("load") or ()), None)
    yield "uptime_seconds", [], said.get("uptime")
    for place, figures in (said.get("figures") or {}).items():
        role, _, instance = place.partition("/")
        for name, value in figures.items():
            yield "figure", [role, instance, name], value
            if name == LAST_SEGMENT and isinstance(value, int | float) and value > 0:
                yield "last_segment_age_seconds", [role, instance], max(0.0, at - value)


def _wanted_since(database: Database) -> dict[tuple[str, str], float]:
    with database.reading() as session:
        rows = session.execute(
            select(Wanted.station, Wanted.hash, func.min(Wanted.at)).group_by(Wanted.station, Wanted.hash)
        )
        return {(station, wanted): at for station, wanted, at in rows}
