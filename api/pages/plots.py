"""Small plots of figures over the last hours, as SVG that the template draws."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH, HEIGHT = 240, 48
"""Size of a plot's picture, in units of its own; the page stretches it."""
GAP = 180
"""Seconds between two points beyond which the line is broken: nothing was heard in between."""


@dataclass(frozen=True)
class Plot:
    """One figure: `lines` are the points of each unbroken line."""

    name: str
    lines: list[str]
    last: float
    least: float
    most: float


def plots_of(figures: dict[str, list[tuple[int, float]]]) -> list[Plot]:
    """Return a plot for each figure that has points, ordered by name.

    Args:
        figures: time in seconds since 1970 and value, oldest first, by name.
    """
    begin = min((points[0][0] for points in figures.values() if points), default=0)
    end = max((points[-1][0] for points in figures.values() if points), default=0)
    return [_plot(name, points, begin, end) for name, points in sorted(figures.items()) if points]


def _plot(name: str, points: list[tuple[int, float]], begin: int, end: int) -> Plot:
    values = [value for _, value in points]
    least, most = min(values), max(values)
    lines: list[list[str]] = []
    before = None
    for at, value in points:
        if before is None or at - before > GAP:
            lines.append([])
        x = (at - begin) / max(1, end - begin) * WIDTH
        y = HEIGHT / 2 if most == least else (most - value) / (most - least) * HEIGHT
        lines[-1].append(f"{x:.1f},{y:.1f}")
        before = at
    # a lone point is a line of no length, which round ends make visible
    return Plot(name, [" ".join(line * 2 if len(line) == 1 else line) for line in lines], values[-1], least, most)
