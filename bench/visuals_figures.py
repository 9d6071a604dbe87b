"""From bursts of messages to the ratios of `bench.visuals` and what must hold for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

RIVALS = ("rival", "rival_plain")
GOALS = {
    "fan_out": ("at least", 1.0), "processor": ("at most", 1.0), "memory": ("at most", 1.0),
    "slow_rate": ("at least", 0.7),
}  # fmt: skip
"""How the name of a ratio begins, to what must hold."""


@dataclass(slots=True)
class Turn:
    """One burst of messages: deliveries a second, and processor microseconds a delivery of server and load client."""

    rate: float
    server_us: float
    client_us: float


def middle(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the medians of bursts."""
    return {
        "deliveries_a_second": round(median(turn.rate for turn in turns)),
        "server_us": round(median(turn.server_us for turn in turns), 1),
        "client_us": round(median(turn.client_us for turn in turns), 1),
    }


def ratios(count: int, found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return ours divided by the rival's, by name and number of subscribers; of the rival's two ways the better one."""
    rivals = [found[name] for name in RIVALS if name in found]
    own = {name: value for name, value in found.items() if name not in RIVALS}
    if not rivals or not own:
        return {}
    told: dict[str, float] = {}
    for name, value in own.items():
        for way, mine, theirs in (
            ("", value, rivals),
            ("_single", value["single"], [one["single"] for one in rivals]),
        ):
            kind = f"{name.removeprefix('ours')}{way}_{count}"
            most = max(one["deliveries_a_second"] for one in theirs)
            told["fan_out" + kind] = round(mine["deliveries_a_second"] / most, 2)
            told["processor" + kind] = round(mine["server_us"] / min(one["server_us"] for one in theirs), 3)
        told[f"memory{name.removeprefix('ours')}_{count}"] = round(value["memory_bytes"] / rivals[0]["memory_bytes"], 3)
        if "slow" in value:
            told[f"slow_rate_{count}"] = round(value["slow"]["rate_with"] / value["slow"]["rate_without"], 2)
    return told
