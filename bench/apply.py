"""How long an apply takes, against the floor and against rivals doing the same work.

`python -m bench.apply` boots a lab of its own, measures, takes the lab away
and writes `bench/results/apply.json`. See bench/README.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import contenders, event, figures
from bench.contenders import BUILD, FORKS, INVENTORY, RIVALS, ROOT, Failed

RESULT = Path(__file__).resolve().parent / "results" / "apply.json"
BEFORE, AFTER = "as before", "changed"
ENGINE_UNITS, RIVAL_UNITS = "stationmaster-idle@*", "bench-idle@*"
CLEAN = (
    "systemctl disable --now --quiet $(ls /etc/systemd/system | grep ^bench-); rm -rf /etc/systemd/system/bench-* "
    "/var/lib/bench /run/bench /srv/bench; systemctl daemon-reload"
)


class Bench:
    """One measurement: its size, and the seconds of every run by contender."""

    def __init__(self, stations: int, units: int, network: str = event.NETWORK) -> None:
        self.stations = stations
        self.network = network
        self.units = units
        self.env = contenders.environment()
        self.commands = contenders.commands()
        self.runs: dict[str, list[float]] = {name: [] for name in self.commands}

    def say(self, text: str) -> None:
        print(text, flush=True)

    def play(self, *arguments: str) -> float:
        """Run a playbook of this project on the bench's inventory and return its seconds."""
        command = [*self.commands["noop"][:-1], *arguments]
        return contenders.run(command, self.env, "set-up")[0]

    def on_stations(self, text: str) -> None:
        """Run a shell line on all stations; it must exit with 0 everywhere."""
        contenders.run([*self.commands["raw"][:-1], text], self.env, "set-up")

    def time(self, name: str) -> tuple[float, int]:
        """Run a contender once; return its seconds and how much it changed."""
        env = {**self.env, **contenders.extra_environment(name)}
        seconds, output = contenders.run(self.commands[name], env, name)
        if name == "raw":
            return seconds, 0
        reached, changes = contenders.changed(name, output)
        if name != "pyinfra" and reached != self.stations:
            raise Failed(f"{name} reached {reached} stations of {self.stations}")
        self.say(f"  {name:<8} {seconds:7.2f} s, {changes} changed")
        return seconds, changes

    def expect_running(self, pattern: str) -> None:
        """Hold that each station runs all units of a name: who does less work is no comparison."""
        count = f'systemctl list-units --state=running --plain --no-legend "{pattern}" | wc -l'
        self.on_stations(f'test "$({count})" = {self.units}')

    def changing(self, name: str) -> float:
        """Time a run that has something to change; return its seconds."""
        seconds, changes = self.time(name)
        if not changes:
            raise Failed(f"{name}: nothing was changed, though there was something to change")
        return seconds

    def settled(self, name: str) -> float:
        """Time a run that has nothing to change; return its seconds."""
        seconds, changes = self.time(name)
        if changes:
            raise Failed(f"{name}: {changes} changed, though there was nothing to change")
        return seconds


def write_wants(bench: Bench, note: str) -> None:
    """Write the inventory, and from it the rivals' files."""
    event.write(INVENTORY, bench.stations, bench.units, note, bench.network)
    connection = {
        "ssh_user": "root",
        "ssh_key": str(ROOT / ".state/ssh/id_ed25519"),
        "ssh_known_hosts_file": str(ROOT / ".state/ssh/known_hosts"),
        "ssh_strict_host_key_checking": "yes",
    }
    event.write_rivals(INVENTORY, RIVALS, connection)


def first_runs(bench: Bench, rivals: list[str]) -> dict[str, float]:
    """Let everyone set the stations up once, each from nothing, and prove that its second run is at rest."""
    seconds = {"provision": round(bench.play("site.yml", "--tags", "provision"), 2)}
    for name in ["noop", *rivals]:
        if name != "noop":
            bench.on_stations(CLEAN)
        seconds["engine" if name == "noop" else name] = round(bench.changing(name), 2)
        bench.expect_running(ENGINE_UNITS if name == "noop" else RIVAL_UNITS)
        bench.settled(name)
    return seconds


def at_rest(bench: Bench, runs: int, few: dict[str, int], rivals: list[str]) -> None:
    """Time everyone with nothing to change, in turns, so that a busy minute of the machine hits all alike."""
    names = ["raw", "noop", "site", *rivals]
    for turn in range(runs):
        bench.say(f"turn {turn + 1} of {runs}")
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wanted = min(few.get(name, runs), runs)
            if (turn + 1) * wanted // runs > turn * wanted // runs:
                bench.runs[name].append(bench.settled(name))


def one_change(bench: Bench, rivals: list[str]) -> dict[str, float]:
    """Time a change of one unit on every station: to the new state and, for the next one, back."""
    seconds: dict[str, float] = {}
    note = AFTER
    write_wants(bench, note)
    seconds["engine"] = round(bench.changing("noop"), 2)
    for name in rivals:
        seconds[name] = round(bench.changing(name), 2)
        note = BEFORE if note == AFTER else AFTER
        write_wants(bench, note)
    return seconds


def report(bench: Bench, first: dict[str, float], change: dict[str, float]) -> dict[str, Any]:
    """Return all that was measured, as it is written."""
    middle = figures.medians(bench.runs)
    return {
        "ratios": figures.ratios(middle),
        "seconds": {
            "medians": middle,
            "runs": {name: [round(value, 3) for value in values] for name, values in bench.runs.items()},
            "first": first,
            "one_change": change,
        },
        "setting": {
            "stations": bench.stations,
            "units": bench.units,
            "forks": FORKS,
            "ansible_core": version("ansible-core"),
            "rivals": _rival_versions(),
        },
        "host": figures.host_facts(),
    }


def _rival_versions() -> dict[str, str]:
    lines = (contenders.BENCH / "requirements.lock").read_text("utf-8").splitlines()
    pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
    return {name: pins[name] for name in ("ansible-core", "mitogen", "pyinfra")}


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything on stations that are up."""
    rivals = [name for name in ("pyinfra", "mitogen", "stock") if name not in options.without]
    bench.say("first runs")
    first = first_runs(bench, rivals)
    at_rest(bench, options.runs, {"stock": options.stock_runs}, rivals)
    bench.say("one unit changed on every station")
    return report(bench, first, one_change(bench, rivals))


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.apply", description=__doc__)
    parser.add_argument("--stations", type=int, default=20)
    parser.add_argument("--units", type=int, default=6, help="per station")
    parser.add_argument("--network", default=event.NETWORK, help="of the lab, a /24 that nothing else uses")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each contender, interleaved")
    parser.add_argument("--stock-runs", type=int, default=3, help="of stock tasks, which take over a minute each")
    parser.add_argument("--without", action="append", default=[], choices=["pyinfra", "mitogen", "stock"])
    parser.add_argument("--keep", action="store_true", help="leave the lab running, for a look around")
    options = parser.parse_args(arguments)
    contenders.ready_rivals()
    bench = Bench(options.stations, options.units, options.network)
    write_wants(bench, BEFORE)
    result = _in_lab(bench, options.keep, lambda: measure(bench, options))
    figures.keep(result, RESULT)
    print(figures.table(bench.runs, result["ratios"]))
    for sentence in figures.missed(result["ratios"]):
        print(sentence, file=sys.stderr)
    return 1 if figures.missed(result["ratios"]) else 0


def _in_lab(bench: Bench, keep: bool, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    bench.say(f"booting {bench.stations} stations")
    bench.play("playbooks/lab.yml", "-e", "lab_state=absent")  # what an earlier run left has been applied already
    try:
        bench.play("playbooks/lab.yml", "-e", "lab_state=present")
        bench.on_stations("true")  # warms every connection
        return work()
    finally:
        contenders.disconnect()
        if not keep:
            bench.play("playbooks/lab.yml", "-e", "lab_state=absent")


if __name__ == "__main__":
    # ended from outside, the bench still has to take its lab away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"bench: {error}\nlogs: {BUILD / 'log'}")
