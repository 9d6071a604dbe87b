"""How long it takes from an edit of the inventory until the station runs it: by hand, and through the API.

`python -m bench.edit` boots a lab of one station, serves a manager beside it, takes turns and writes
`bench/results/edit.json`. It needs root, like the lab.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import yaml

from api.run_ansible import passed_on
from api.settings import CHECKOUT
from bench import figures
from tests.api.conftest import Served
from tests.labkit import Lab, until

RESULT = Path(__file__).resolve().parent / "results" / "edit.json"
NETWORK = "10.95.41"
STATION = "one"
PROGRAM = '#!/bin/sh\nexec sleep "1000$(echo "$1" | tr -dc 0-9)"\n'
LONGEST = 60.0
"""Seconds after which an edit counts as lost."""
GOAL = 3.0
"""Seconds from edit to running through the API at the median, by the project's promise."""


class Bench:
    """A lab and a manager beside it."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.lab = lab
        self.edition = 1
        self.served = Served(folder / "data", "-i", str(lab.inventory))
        headers = self.served.token("operate")
        self.client = httpx2.Client(base_url=self.served.url, headers=headers, timeout=30)

    def edit(self) -> None:
        """Give the station's unit its next edition."""
        self.edition += 1
        path = self.lab.inventory / "rooms/hall-x.yml"
        told = yaml.safe_load(path.read_text("utf-8"))
        station = told["stations"]["children"]["rooms"]["children"]["hall_x"]["hosts"][STATION]
        station["station_roles"]["script"]["idle"]["options"]["edition"] = self.edition
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps(told), "utf-8")
        staged.replace(path)

    def running(self) -> bool:
        """Return whether the station runs the latest edition."""
        return f"sleep 1000{self.edition}\n" in self.lab.run(STATION, "ps -eo args").stdout

    def turn(self, apply: Callable[[], Any]) -> float:
        """Time one edit."""
        began = time.monotonic()
        self.edit()
        apply()
        if not until(self.running, LONGEST, 0.02):
            raise SystemExit("bench: an edit did not reach its station")
        return time.monotonic() - began

    def by_hand(self) -> None:
        """Apply as an operator does from the checkout."""
        command = ["ansible-playbook", "-i", str(self.lab.inventory), "--limit", STATION, "site.yml"]
        subprocess.run(command, cwd=CHECKOUT, env=passed_on(), stdout=subprocess.DEVNULL, check=True)

    def by_api(self) -> None:
        """Ask the manager for an apply."""
        self.client.post("/v1/runs", json={"action": "apply", "target": {"station": STATION}}).raise_for_status()

    def is_idle(self) -> bool:
        """Return whether no run is under way."""
        return not self.client.get("/v1/runs?state=open").json()["runs"]


def measure(lab: Lab, turns: int) -> dict[str, list[float]]:
    """Take turns; return the seconds of each way."""
    runs: dict[str, list[float]] = {"by_hand": [], "api": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), lab)
        try:
            if not until(lambda: bench.client.get("/v1/inventory").json()["in_force"], LONGEST):
                raise SystemExit("bench: the manager does not take the inventory")
            for _ in range(turns):
                for name, apply in (("by_hand", bench.by_hand), ("api", bench.by_api)):
                    runs[name].append(bench.turn(apply))
                    print(f"  {name:<8}{runs[name][-1]:7.2f} s", flush=True)
                    until(bench.is_idle, LONGEST)
        finally:
            bench.served.stop()
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when an edit through the API takes longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.edit", description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="edits of each way")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    idle = {"script": {"idle": {"program": "idle.sh", "options": {"edition": 1}}}}
    lab = Lab.of(NETWORK, {STATION: {"station_roles": idle}})
    (lab.inventory / "files").mkdir(exist_ok=True)
    (lab.inventory / "files/idle.sh").write_text(PROGRAM, "utf-8")
    with lab:
        lab.playbook("site.yml")
        runs = measure(lab, options.runs)
    middle = figures.medians(runs)
    ratios = {"api_to_by_hand": round(middle["api"] / middle["by_hand"], 2)}
    host = {**figures.host_facts(), "load_before": round(load, 2)}
    told = {"ratios": ratios, "seconds": middle, "setting": {"runs": options.runs}, "host": host}
    figures.keep(told, RESULT)
    print(json.dumps({"ratios": ratios, "seconds": middle}, indent=2))
    if median(runs["api"]) > GOAL:
        print(f"an edit through the API takes more than {GOAL:g} s", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
