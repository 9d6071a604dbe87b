"""Each instance's figures, from the metrics that every program of a station writes, whatever its role."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

_SAMPLE = re.compile(r"([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)", re.I)
_LABEL = re.compile(r'([a-z_][a-z0-9_]*)="((?:[^"\\]|\\.)*)"', re.I)
_ESCAPE = re.compile(r"\\(.)")
FIGURES = 40
"""Figures of one instance."""
INSTANCES = 200
LONGEST_FILE = 1 << 16
OWN_LABELS = ("role", "instance", "target")
"""Labels that tell nothing within an instance."""


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """Return `role/instance` to figures, from the metrics files of a folder.

    A figure is a family without its prefix, with the values of further labels behind a colon:
    `last_segment_seconds`, `loudness_lufs:Room`. `age` is the seconds since the file was written. Raises OSError.
    """
    found: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.prom"))[:INSTANCES]:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_FILE)
        role, _, instance = path.name.removesuffix(".prom").partition("-")
        values = {"age": round(max(0.0, time.time() - path.stat().st_mtime), 1)}
        for line in text.splitlines():
            if not line.startswith("#") and (sample := _SAMPLE.fullmatch(line)) and len(values) < FIGURES:
                _take(sample, role, values)
        found[f"{role[:64]}/{instance[:64]}"] = values
    return found


def _take(sample: re.Match[str], role: str, values: dict[str, float]) -> None:
    try:
        value = float(sample[3])
    except ValueError:
        return
    if math.isfinite(value):
        labels = [_ESCAPE.sub(r"\1", text) for name, text in _LABEL.findall(sample[2] or "") if name not in OWN_LABELS]
        name = sample[1].removeprefix(f"stationmaster_{role}_")
        values[":".join([name, *labels])[:64]] = value


def hours_left(data: Path) -> float | None:
    """Return the hours until the disk is full, by the instance that has the fewest; None if none says.

    `data` is the folder with each role's instances.
    """
    found = []
    for path in sorted(data.glob("*/*/status.json"))[:INSTANCES]:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                value: Any = json.loads(file.read(LONGEST_FILE))
            found.append(float(value["disk"]["hours_left"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue  # the role has no such figure, or records nothing just now
    return min((hours for hours in found if math.isfinite(hours)), default=None)
