"""Pictures a second, processor time and latency of `stills` against a plain asyncio loop that writes the same bytes.

`python -m bench.stills` holds both to the first processor and the load client to the last one, lets 1 and 1,000 TCP
clients take pictures of 20 kB from each in turns and writes `bench/results/stills.json`. See bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from bench import figures
from bench.programs import PYTHON, Failed, LoadClient, Missing, Server, example_of, free_port
from bench.stills_load import processor

RESULT = Path(__file__).resolve().parent / "results" / "stills.json"
SIZE, PICTURES = 20_000, 10
"""Bytes of a picture, and how many there are: their numbers have one digit, so all frames are of one size."""
FRAME = SIZE + len(f"0\r\n{SIZE}\r\n")
RATE, FLAT, SLOW = 24, 100, 4
"""Pictures a second: what must be carried; the most that a stream may have, which fills a processor with many clients;
and what leaves it idle enough to tell how late a picture is."""
LATE_MS = 100.0
"""A picture is with its client in one period and this."""
GOALS = {
    "pictures_": ("at least", 0.8), "per_processor_second_1000": ("at least", 0.8), "idle": ("at most", 0.01),
    "late_p99_ms": ("at most", LATE_MS), "first_most_ms": ("at most", 1000 / SLOW + LATE_MS),
}  # fmt: skip
"""How the name of a figure begins, to what must hold."""


def make_pictures(folder: Path) -> list[Path]:
    """Write JPEGs of SIZE bytes, each of other noise; what is missing follows the picture's end."""
    dice, found = random.Random(1), list[Path]()  # noqa: S311 - the same pictures each time
    for number in range(PICTURES):
        out = io.BytesIO()
        Image.frombytes("L", (160, 120), dice.randbytes(160 * 120)).save(out, "JPEG", quality=60)
        path = folder / f"{number}.jpg"
        path.write_bytes(out.getvalue().ljust(SIZE, b"\0"))
        if len(out.getvalue()) > SIZE:
            raise Failed(f"a picture has {len(out.getvalue())} bytes, not {SIZE}")
        found.append(path)
    return found


class Contender(Server):
    """A server that is held to the first processor; `ports` has the one of each rate."""

    def __init__(self, name: str, command: list[str], ports: Mapping[float, int], folder: Path) -> None:
        self.ports = ports
        super().__init__(name, command, ports.values(), folder / f"{name}.log", 0)

    def cores(self, seconds: float) -> float:
        """Return how much of a processor it takes for so many seconds."""
        before, began = processor(self.pid), time.monotonic()
        time.sleep(seconds)
        return (processor(self.pid) - before) / (time.monotonic() - began)


def ours(folder: Path, pictures: list[Path]) -> Contender:
    """Start `stills` of Debian's Python, from its own example."""
    ports: dict[float, int] = {rate: free_port() for rate in (RATE, FLAT, SLOW)}
    files = {"images": [str(path) for path in pictures], "method": "tcp_push"}
    options = {
        "http_port": 0, "limits": {"clients": 10000, "per_address": 10000},
        "streams": {f"at{rate}": {**files, "ips": rate, "port": port} for rate, port in ports.items()},
    }  # fmt: skip
    config = folder / "stills.json"
    config.write_text(json.dumps({**example_of("station.stills"), **options}))
    return Contender("ours", [PYTHON, "-m", "station.stills", "--config", str(config)], ports, folder)


def plain(folder: Path, pictures: list[Path], rate: float) -> Contender:
    """Start the plain loop of the same Python at a rate."""
    port = free_port()
    command = [PYTHON, "-m", "bench.stills_plain", str(port), str(rate), *map(str, pictures)]
    return Contender(f"plain{rate:g}", command, {rate: port}, folder)


class Clients(LoadClient):
    """The load client of a server, held to the last processor."""

    def __init__(self, server: Contender, rate: float, count: int) -> None:
        super().__init__("bench.stills_load", -1)
        self.server = server
        opened = {"port": server.ports[rate], "count": count, "frame": FRAME, "plain": server.name != "ours"}
        self.opened = round(count / self.ask(server.name, "open", **opened)["seconds"])


def race(one: Contender, other: Contender, rate: float, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Let both send for a while in turns; returns the medians of each."""
    turns: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": []}
    with contextlib.ExitStack() as stack:
        crowd = []
        for server in (one, other):
            clients = Clients(server, rate, count)
            stack.callback(clients.end)
            crowd.append(clients)
        for turn in range(options.turns):
            for clients in crowd if turn % 2 else crowd[::-1]:
                asked = {"pid": clients.server.pid, "settle": options.settle, "seconds": options.seconds}
                turns["ours" if clients.server is one else "plain"].append(
                    clients.ask(clients.server.name, "count", **asked)
                )
    told = {}
    for name, found in turns.items():
        told[name] = {
            "pictures_a_second": round(median(turn["pictures"] / turn["seconds"] for turn in found), 1),
            "server_us": round(median(1e6 * turn["server"] / max(1, turn["pictures"]) for turn in found), 1),
            "server_cores": round(median(turn["server"] / turn["seconds"] for turn in found), 3),
            "client_cores": round(median(turn["client"] / turn["seconds"] for turn in found), 3),
        }
        print(f"  {count:>5} clients at {rate:>3}: {name:<6}{json.dumps(told[name])}", flush=True)
    return told


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure both at each rate and number of clients, then what ours costs when idle and how late its pictures are."""
    pictures = make_pictures(folder)
    told: dict[str, Any] = {"ratios": {}, "figures": {}}
    ratios, figure = told["ratios"], told["figures"]
    with contextlib.ExitStack() as stack:
        server = ours(folder, pictures)
        stack.callback(server.end)
        ratios["idle_cores"] = round(server.cores(options.idle), 4)
        for rate in (RATE, FLAT):
            rival = plain(folder, pictures, rate)
            stack.callback(rival.end)
            for count in options.clients:
                found = figure[f"{count}_at_{rate}"] = race(server, rival, rate, count, options)
                mine, its = found["ours"], found["plain"]
                ratios[f"pictures_{count}_at_{rate}"] = round(mine["pictures_a_second"] / its["pictures_a_second"], 3)
                ratios[f"per_processor_second_{count}_at_{rate}"] = round(its["server_us"] / mine["server_us"], 3)
        count = max(options.clients)
        clients = Clients(server, SLOW, count)
        stack.callback(clients.end)
        figure["opened_a_second"] = clients.opened
        time.sleep(1)
        ratios[f"idle_cores_{count}_paused"] = round(server.cores(options.idle), 4)
        late = clients.ask(server.name, "late", rate=SLOW, pictures=options.late)
        figure[f"late_{count}_at_{SLOW}"] = {name: round(value, 1) for name, value in late.items()}
        ratios |= {name: round(late[name], 1) for name in ("late_p99_ms", "first_most_ms")}
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.stills", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 1000])
    parser.add_argument("--turns", type=int, default=3, help="timed stretches of each")
    parser.add_argument("--seconds", type=float, default=3.0, help="that one stretch takes")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds before each")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of each idle stretch")
    parser.add_argument("--late", type=int, default=20, help="pictures whose latency is told")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("bench: ended"))  # nothing is left running
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="stationmaster-bench-") as name:
        result = measure(options, Path(name))
    result["setting"] = {"seconds": options.seconds, "turns": options.turns, "picture_bytes": SIZE}
    result["host"] = {**figures.host_facts(), "load_before": before}
    if options.clients == parser.get_default("clients"):
        figures.keep(result, RESULT)
    return figures.judge(result["ratios"], GOALS)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, Missing) as error:
        sys.exit(f"bench: {error}")
