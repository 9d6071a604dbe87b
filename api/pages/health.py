"""How each instance of a station is, in a word and a line, from the station's last hello."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.rooms import WORST_FIRST
from station.times import STALL_LIMIT
from stationmaster.model import Station

ORDER = (*WORST_FIRST[: WORST_FIRST.index("held")], "warn", *WORST_FIRST[WORST_FIRST.index("held") :])
"""States of a room, the worst first; `warn` is one that is as wanted and where all the same something is wrong."""
BEHIND = 30.0
"""Seconds that a copy may lag behind its source; longer is worth a look."""
HOURS = 4.0
"""Hours of disk below which it is worth a look; the default of `warn_hours` of an ingest."""
CLOCK = 0.04
"""Seconds by which a clock may be off: one frame, which is what the UTC of a recording may be wrong by."""


@dataclass(frozen=True)
class Instance:
    """One instance: `word` is ready, warn, failed, stopped, absent or unknown, `text` what it says itself.

    `meters` are loudness in LUFS by track, `progress` the share of the step that an encode is at (0 to 1).
    """

    role: str
    id: str
    word: str
    text: str
    meters: tuple[tuple[str, float], ...] = ()
    progress: float | None = None


@dataclass(frozen=True)
class Health:
    """All instances of a station that the crew named, the others in one line, and the machine itself."""

    instances: list[Instance]
    others: str
    others_word: str
    machine: str
    machine_word: str


def health(station: Station, said: dict[str, Any], heard: bool = True) -> Health:
    """Return how a station is; its lines depend on the inventory alone, so that no news moves a card.

    Args:
        station: as the inventory wants it.
        said: its last hello, `{}` before the first.
        heard: whether that was just now; what a lost station said last is no news of it.
    """
    units, named = said.get("units") or {}, []
    hidden = dict(units)
    for one in station.instances():
        name = f"stationmaster-{one.role}@{one.id}.service"
        if not one.implied:
            told = _instance(one.role, one.id, name, hidden.pop(name, None), said)
            named.append(told if heard else Instance(one.role, one.id, "unknown", f"said last: {told.text}"))
    if not heard:
        return Health(named, "nothing is known of the others", "quiet", "nothing is heard of it", "quiet")
    broken = sorted(name for name, unit in hidden.items() if not unit["healthy"])
    if broken:
        others = ", ".join(short(name) for name in broken) + (" is" if len(broken) == 1 else " are") + " not well"
    else:
        others = f"{len(hidden)} more unit{'s' if len(hidden) != 1 else ''}, all well" if hidden else "no other units"
    machine, machine_word = _machine(said)
    return Health(named, others, "failed" if broken else "quiet", machine, machine_word)


def short(unit: str) -> str:
    """Return the short name of a unit, such as ingest@main."""
    return unit.removeprefix("stationmaster-").removesuffix(".service")


def _instance(role: str, identity: str, name: str, unit: dict[str, Any] | None, said: dict[str, Any]) -> Instance:
    if unit is None:
        return Instance(role, identity, "absent", "not there yet" if said else "nothing heard yet")
    figures = (said.get("figures") or {}).get(f"{role}/{identity}") or {}
    stop = (said["state"].get("stopped") or {}).get(name)
    meters = tuple((key.partition(":")[2], value) for key, value in figures.items() if key.startswith("loudness_lufs:"))
    steps = [value for key, value in figures.items() if key.startswith("progress_ratio:") and 0 < value < 1]
    word, text = "ready", unit["status"] or f"{unit['active']} {unit['sub']}"
    if stop is not None:
        word, text = "stopped", f"stopped by {stop['who']}"
    elif unit["masked"]:
        word, text = "stopped", "masked on the station"
    elif not unit["healthy"]:
        word, text = "failed", f"{unit['active']} {unit['sub']}: {unit['status'] or unit['result']}"
    elif (told := _fault(figures, said)) is not None:
        word, text = told[0], f"{told[1]}; {text}" if told[1] else text
    return Instance(role, identity, word, text, meters, max(steps, default=None))


def _fault(figures: dict[str, float], said: dict[str, Any]) -> tuple[str, str] | None:
    """Return the word for what figures of a healthy unit tell against it, and the text that the unit lacks."""
    last = figures.get("last_segment_seconds") or 0
    silent = said["time"] - last
    if last and figures.get("running") and "behind_seconds" not in figures and silent > STALL_LIMIT:
        return "failed", f"no segment for {silent:.0f} s"
    if (figures.get("behind_seconds") or 0) > BEHIND or any(key.startswith("warning:") for key in figures):
        return "warn", ""
    return None


def _machine(said: dict[str, Any]) -> tuple[str, str]:
    if not said:
        return "no hello yet", "quiet"
    disk, offset, parts, word = said.get("disk") or {}, said.get("clock_offset"), [], "quiet"
    hours = disk.get("hours_left")
    if hours is not None:
        parts.append(f"disk for {hours:.0f} h" if hours >= 1 else f"disk for {hours * 60:.0f} min")
    elif disk:
        parts.append(f"{disk['free'] / max(1, disk['size']):.0%} of the disk free")
    if offset is not None:
        parts.append(f"clock {offset * 1000:+.0f} ms" if abs(offset) < 1 else f"clock {offset:+.1f} s")
    if (hours is not None and hours < HOURS) or (offset is not None and abs(offset) > CLOCK):
        word = "warn"
    return ", ".join(parts) or "nothing said of disk and clock", word
