"""From measured seconds to the figures that are printed and kept."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

RATIOS = {
    "noop_to_raw": ("noop", "raw"),
    "site_to_raw": ("site", "raw"),
    "stock_to_noop": ("stock", "noop"),
    "mitogen_to_noop": ("mitogen", "noop"),
    "pyinfra_to_noop": ("pyinfra", "noop"),
}
"""Name of a ratio to what is divided by what."""

Goal = tuple[str, float]
"""`at least` or `at most`, and what."""
GOALS: Mapping[str, Goal] = {
    "noop_to_raw": ("at most", 1.5),
    "site_to_raw": ("at most", 2.0),
    "stock_to_noop": ("at least", 25.0),
    "pyinfra_to_noop": ("at least", 2.5),
}
"""What must hold, from the project's promises; Mitogen has no goal of its own."""


def medians(runs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median seconds of each contender that has runs."""
    return {name: round(median(seconds), 3) for name, seconds in runs.items() if seconds}


def ratios(middle: Mapping[str, float]) -> dict[str, float | None]:
    """Return the named ratios of medians; None where one of the two was not measured."""
    return {
        name: round(middle[above] / middle[below], 2) if above in middle and below in middle else None
        for name, (above, below) in RATIOS.items()
    }


def goal(name: str, goals: Mapping[str, Goal] = GOALS) -> Goal | None:
    """Return what must hold for a figure: the goal that its name begins with; None where nothing must."""
    return next((wanted for kind, wanted in goals.items() if name.startswith(kind)), None)


def missed(values: Mapping[str, float | None], goals: Mapping[str, Goal] = GOALS) -> list[str]:
    """Return a sentence for each figure that misses its goal; what was not measured misses nothing."""
    found = []
    for name, value in values.items():
        word, wanted = goal(name, goals) or ("", 0.0)
        if value is not None and ((word == "at most" and value > wanted) or (word == "at least" and value < wanted)):
            found.append(f"{name} is {value}, it should be {word} {wanted:g}")
    return found


def beside_goals(values: Mapping[str, float | None], goals: Mapping[str, Goal] = GOALS) -> list[str]:
    """Return a line for each figure, and what must hold for it."""
    lines = []
    for name, value in values.items():
        word, wanted = goal(name, goals) or ("", None)
        told = f"{name:<36}{'-' if value is None else value:>10}   {word}"
        lines.append(told.rstrip() if wanted is None else f"{told} {wanted:g}")
    return lines


def judge(values: Mapping[str, float | None], goals: Mapping[str, Goal]) -> int:
    """Print figures beside what must hold, and a sentence for each that misses it; returns the exit status."""
    print(*beside_goals(values, goals), sep="\n")
    wrong = missed(values, goals)
    for sentence in wrong:
        print(f"bench: {sentence}")
    return int(bool(wrong))


def keep(result: Mapping[str, Any], path: Path) -> None:
    """Write a result to its file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def host_facts() -> dict[str, Any]:
    """Return what the figures depend on of this machine, without anything that names it."""
    release = platform.freedesktop_os_release()
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": release.get("PRETTY_NAME", "unknown"),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def table(runs: Mapping[str, Sequence[float]], values: Mapping[str, float | None]) -> str:
    """Return the figures as lines for a terminal."""
    middle = medians(runs)
    lines = [f"{'':<10}{'median s':>10}{'least':>10}{'most':>10}{'runs':>6}"]
    for name, seconds in runs.items():
        if seconds:
            lines.append(f"{name:<10}{middle[name]:>10.2f}{min(seconds):>10.2f}{max(seconds):>10.2f}{len(seconds):>6}")
    lines.append("")
    return "\n".join([*lines, *beside_goals(values)])
