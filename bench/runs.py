"""What a run through the manager costs over bare ansible-playbook.

`python -m bench.runs` times both on local stations, in turns: a playbook with nothing to change,
and one of 4,000 events. It needs no root and no lab, and writes `bench/results/runs.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from api.manager import Manager
from api.run_ansible import passed_on
from api.run_request import RunRequest
from api.settings import Settings
from api.tables import Run
from bench import figures

RESULT = Path(__file__).resolve().parent / "results" / "runs.json"
ACTIONS = {"noop": "apply", "events": "check"}
SECONDS, SHARE = 1.0, 0.02
"""What a run may cost more, by the project's promise: seconds, and a share of the bare time."""
CONFIG = "[defaults]\nforks = 20\ninterpreter_python = /usr/bin/python3\n"


def write_project(folder: Path, stations: int, events: int) -> list[str]:
    """Write playbooks, ansible.cfg and an inventory of local stations; return their names."""
    names = [f"station-{number:02}" for number in range(stations)]
    variables = {"ansible_connection": "local"}
    inventory = {"rooms": {"hosts": {name: {} for name in names}, "vars": variables}}
    rounds = list(range(events // stations))
    plays = {
        "site.yml": {"name": "Look", "ansible.builtin.raw": "true", "changed_when": False},
        "playbooks/check.yml": {
            "name": "Talk", "ansible.builtin.raw": "true", "changed_when": False, "loop": rounds,
        },
    }  # fmt: skip
    (folder / "playbooks").mkdir(parents=True)
    (folder / "ansible.cfg").write_text(CONFIG, "utf-8")
    (folder / "inventory.yml").write_text(json.dumps(inventory), "utf-8")
    for name, task in plays.items():
        (folder / name).write_text(json.dumps([{"hosts": "rooms", "gather_facts": False, "tasks": [task]}]), "utf-8")
    return names


class Bench:
    """A manager with stand-ins for what it knows of inventory and stations, and the same playbooks without it."""

    def __init__(self, folder: Path, stations: int, events: int) -> None:
        self.project = folder / "project"
        names = write_project(self.project, stations, events)
        inventory = self.project / "inventory.yml"
        settings = Settings(data=folder / "data", project=self.project, inventory=inventory)
        manager: Any = Manager(settings)
        snapshot = SimpleNamespace(revision="bench", dirty=False, path=inventory)
        manager.inventory = SimpleNamespace(
            current=lambda: snapshot, wanted=dict, is_settled=lambda: True, resolve=lambda _target, _action: names
        )
        manager.registry = SimpleNamespace(ids=dict, all_in_order=lambda _wanted: set(), known_hosts=None)
        manager.parts = [manager.runs]
        self.manager = manager
        self.ended = threading.Event()
        self.last: Run | None = None
        self.manager.runs.subscribe(self._end)
        self.manager.start()

    def _end(self, run: Run) -> None:
        self.last = run
        self.ended.set()

    def run(self, name: str) -> float:
        """Time a run from its request to its end."""
        self.ended.clear()
        request = RunRequest.model_validate({"action": ACTIONS[name], "target": {"everything": True}})
        began = time.monotonic()
        self.manager.runs.submit(request, "bench")
        self.ended.wait()
        seconds = time.monotonic() - began
        if self.last is None or self.last.state != "succeeded":
            raise SystemExit(f"bench: a run ended badly: {self.last and self.last.reason}")
        return seconds

    def bare(self, name: str) -> float:
        """Time ansible-playbook alone."""
        playbook = {"noop": "site.yml", "events": "playbooks/check.yml"}[name]
        began = time.monotonic()
        command = ["ansible-playbook", "-i", "inventory.yml", playbook]
        subprocess.run(command, cwd=self.project, env=passed_on(), stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began


def compare(runs: dict[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return for each case the ratio of medians and what was left of the time that a run may cost more."""
    told = {}
    for name in ACTIONS:
        run, bare = median(runs[f"{name}_run"]), median(runs[f"{name}_bare"])
        allowed = SECONDS + SHARE * bare
        told[name] = {
            "run_to_bare": round(run / bare, 3),
            "overhead_s": round(run - bare, 3),
            "overhead_to_allowed": round((run - bare) / allowed, 3),
        }
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a run costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.runs", description=__doc__)
    parser.add_argument("--stations", type=int, default=20)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=7, help="of each, in turns")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    runs: dict[str, Any] = {f"{name}_{way}": [] for name in ACTIONS for way in ("bare", "run")}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.stations, options.events)
        for turn in range(options.runs + 1):
            for name in ACTIONS:
                ways = [("bare", bench.bare), ("run", bench.run)]
                for way, measure in ways if turn % 2 else ways[::-1]:
                    seconds = measure(name)
                    if turn:  # the first turn warms the disk's cache
                        runs[f"{name}_{way}"].append(seconds)
                        print(f"  {name} {way:<5}{seconds:7.2f} s", flush=True)
        bench.manager.stop()
    ratios = compare(runs)
    setting = {"stations": options.stations, "events": options.events, "runs": options.runs}
    told = {"ratios": ratios, "seconds": figures.medians(runs), "setting": setting, "host": figures.host_facts()}
    figures.keep(told, RESULT)
    print(json.dumps({"ratios": ratios, "seconds": told["seconds"]}, indent=2))
    missed = [name for name, one in ratios.items() if one["overhead_to_allowed"] > 1]
    for name in missed:
        print(f"{name}: a run costs more than {SECONDS:g} s and {SHARE:.0%} over bare", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
