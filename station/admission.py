"""Whether a job may start now: live work on the same station comes first."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from station.config import ConfigError

MIXER_HOURS = (time(7), time(19))
"""The first system's `is_mixer`: no encoding on a mixing desk's machine in these local hours."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits.

    Loads are per core, 0 turns one off; for a lower one a job waits no longer
    than `patience` seconds (None: as long as it takes), for its weight keeps it
    behind live units anyway. `quiet` is when nothing starts, from and to local time.
    """

    parallel_jobs: int = 1
    load_1: float = 0.0
    load_5: float = 0.0
    patience: float | None = None
    quiet: tuple[time, time] | None = None
    zone: tzinfo | None = None
    loads: Callable[[], tuple[float, float, float]] = os.getloadavg
    cores: int = 0

    def refusal(self, running: int, now: float, waited: float = 0.0) -> str | None:
        """Why a job may not start: None if it may.

        `running` jobs run, `now` is UTC in seconds, `waited` is for how many seconds the job could have started.
        """
        if running >= self.parallel_jobs:
            return f"{running} of {self.parallel_jobs} jobs run already"
        local = datetime.fromtimestamp(now, self.zone)
        if self.quiet and _within(local.time(), *self.quiet):
            return f"it is {local:%H:%M}; jobs start from {self.quiet[1]:%H:%M} to {self.quiet[0]:%H:%M}"
        if self.patience is not None and waited >= self.patience:
            return None
        cores = self.cores or os.cpu_count() or 1
        one, five, _ = (load / cores for load in self.loads())
        for minutes, load, limit in ((1, one, self.load_1), (5, five, self.load_5)):
            if limit and load > limit:
                return f"the {minutes}-minute load is {load:.2f} per core; jobs start up to {limit:g}"
        return None


def _within(moment: time, start: time, end: time) -> bool:
    return start <= moment < end if start <= end else moment >= start or moment < end


def from_options(options: dict[str, Any], zone: str | None) -> Gate:
    """The gate of an instance: its options, and the event's time zone (None: the station's).

    Raises ConfigError for hours or a zone that are none.
    """
    admission = options.get("admission", {})
    quiet = MIXER_HOURS if options.get("is_mixer") else None
    if hours := admission.get("quiet_hours"):
        quiet = (_clock("from", hours.get("from")), _clock("to", hours.get("to")))
    try:
        local = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError):
        # A station without the zone's data goes by its own clock's zone.
        local = None
    return Gate(
        parallel_jobs=int(options.get("parallel_jobs", 1)),
        load_1=float(admission.get("load_1", 0)),
        load_5=float(admission.get("load_5", 0)),
        patience=admission.get("patience"),
        quiet=quiet,
        zone=local,
    )


def _clock(key: str, text: Any) -> time:
    try:
        return time.fromisoformat(text)
    except (TypeError, ValueError) as error:
        message = f"is {text!r}; needed is a time of day such as 07:00"
        raise ConfigError(f"options.admission.quiet_hours.{key}", message) from error
