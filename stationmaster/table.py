"""The table at the end of an apply: one station a line, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNIT_HEADER = ("station", "unit", "state", "says", "is", "restarts")
HEADER = ("station", "result", "changed", "restarted", "held", "failed")
NAMES_SHOWN = 4
"""Names in one cell before the rest is only counted."""


def short(unit: str) -> str:
    """Return a unit's name as people say it: `encode@talks`."""
    return unit.removeprefix("stationmaster-").removesuffix(".service")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def _changed(result: Mapping[str, Any]) -> str:
    files = len(result.get("changed") or [])
    parts = [f"{files} file{'s' if files != 1 else ''}"] if files else []
    for key, word in (("started", "started"), ("stopped", "stopped"), ("removed", "removed")):
        names = [short(unit) for unit in result.get(key) or []]
        if names:
            parts.append(f"{word} {_some(names)}")
    drift = result.get("drift") or []
    if drift:
        parts.append(f"drift: {_some([short(entry.get('unit') or entry['file']) for entry in drift])}")
    return "; ".join(parts)


def _failed(result: Mapping[str, Any]) -> str:
    error, failed = result.get("error"), result.get("failed")
    if error:
        return f"{error['error']}: {error['message']}"
    if failed:
        back = f", went back to generation {failed['went_back_to']}" if "went_back_to" in failed else ""
        return f"{short(failed['unit'] or '-')}: {failed['why']}{back}"
    return ""


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, each column as wide as it needs; columns after the second vanish if empty."""
    used = [column for column in range(len(cells[0])) if column < 2 or any(row[column] for row in cells[1:])]
    widths = {column: max(len(row[column]) for row in cells) for column in used}
    return ["", *("  ".join(row[column].ljust(widths[column]) for column in used).rstrip() for row in cells)]


def status_rows(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the verb `status` found: one unit a line, then what else there is to know of a station.

    Args:
        results: what each station's applier answered, by station.
    """
    cells: list[Sequence[str]] = [UNIT_HEADER]
    told = []
    for station, result in sorted(results.items()):
        for unit, found in result.get("units", {}).items():
            state = found["state"] if found["state"] == found["sub"] else f"{found['state']} ({found['sub']})"
            marks = [word for word in ("live", "masked") if found[word]] + (
                [] if found["as_wanted"] else ["not as wanted"]
            )
            restarts = str(found["restarts"] or "")
            state = "active" if state == "active (running)" else state
            cells.append((station, short(unit), state, found["text"], ", ".join(marks), restarts))
        if not result.get("units"):
            cells.append((station, "-", str(result["result"]), "", "", ""))
        told += [f"{station}: {text}" for text in _station_facts(result)]
    return [*_lines(cells), *told]


def _station_facts(result: Mapping[str, Any]) -> list[str]:
    state = result.get("state") or {}
    facts = [f"{short(entry['unit'])} is held: {entry['reason']}" for entry in state.get("held") or []]
    if result.get("on_air"):
        facts.append("on air")
    if state.get("pinned"):
        facts.append(f"pinned to generation {state['pinned']['generation']}: {state['pinned']['reason']}")
    if state.get("failed"):
        facts.append(
            f"failed on {state['failed']['at']}: {short(state['failed']['unit'] or '-')}: {state['failed']['why']}"
        )
    if result.get("files_intact") is False:
        facts.append(f"{len(result['drift'])} files were changed by hand")
    if result.get("pending"):
        facts.append("an apply is under way or was cut off")
    if result.get("lock"):
        facts.append(f"locked by {result['lock']}")
    return [*facts, *(result.get("notes") or [])]


def rows(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table's lines.

    Args:
        results: what each station's applier answered, by station.
    """
    if any("units" in result for result in results.values()):
        return status_rows(results)
    cells: list[Sequence[str]] = [HEADER]
    for station, result in sorted(results.items()):
        held = "; ".join(f"{short(entry['unit'])}: {entry['reason']}" for entry in result.get("held") or [])
        restarted = _some([short(unit) for unit in result.get("restarted") or []])
        kind = "needs provision" if result["result"] == "needs_provision" else str(result["result"])
        cells.append((station, kind, _changed(result), restarted, held, _failed(result)))
    lines = _lines(cells)
    for station, result in sorted(results.items()):
        lines += [f"{station}: {note}" for note in result.get("notes") or []]
        journal = (result.get("failed") or {}).get("journal")
        if journal:
            lines += [f"{station}: the journal of {result['failed']['unit']}:", *(f"    {line}" for line in journal)]
    return lines
