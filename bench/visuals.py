"""Fan-out, processor time, latency and memory of `visuals` against RabbitMQ's STOMP plugin.

`python -m bench.visuals` starts both, lets 1,000 and 10,000 subscribers of one topic listen to each in turns and writes
`bench/results/visuals.json`. See bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench import figures
from bench.programs import PYTHON, Failed, LoadClient, Missing, Server, example_of, free_port
from bench.rabbit import Rabbit
from bench.visuals_figures import GOALS, RIVALS, Turn, middle, ratios

RESULT = Path(__file__).resolve().parent / "results" / "visuals.json"
CHANNEL = "/topic/fm/ce1/c221/09580/"
TOPIC, RIVAL_TOPIC = f"{CHANNEL}image", "/topic/fm.ce1.c221.09580.image"
"""A slash separates nothing in RabbitMQ's topics; the names are as long as each other."""
PASSCODE = "bench-password"
SIZE = 60
"""Bytes of a body: a picture's address."""
LEAST = 4
"""Messages of a burst, however slow."""


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """Return processes and all that they started."""
    roots = [psutil.Process(pid) for pid in pids]
    return [one for root in roots for one in (root, *root.children(recursive=True))]


def spent(pids: Iterable[int]) -> float:
    """Return the processor seconds (user and system) of processes and all that they started."""
    return float(sum(sum(one.cpu_times()[:4]) for one in tree(pids)))


def resident(pids: Iterable[int]) -> int:
    """Return the resident bytes of processes and all that they started."""
    return sum(one.memory_info().rss for one in tree(pids))


class Ours(Server):
    """A server `visuals` of Debian's Python, from its own example; alone, or with a broker as bus."""

    def __init__(self, folder: Path, bus: Rabbit | None = None) -> None:
        folder.mkdir()
        example = example_of("station.visuals")
        self.stomp_port = free_port()
        example |= {"stomp_port": self.stomp_port, "http_port": free_port()}
        example["broadcasters"] = {"1": {"users": {"studio": PASSCODE}, "channels": [{"topic": CHANNEL}]}}
        if bus is not None:
            broker = {"role": "broker", "kind": "broker", "address": "127.0.0.1"}
            options = {"port": bus.port, "user": "guest", "password": "guest"}
            example |= {"brokers": ["broker/main"], "sources": {"broker/main": {**broker, "options": options}}}
        config = folder / "visuals.json"
        config.write_text(json.dumps(example))
        command = [PYTHON, "-m", "station.visuals", "--config", str(config)]
        super().__init__("visuals", command, [self.stomp_port], folder / "log")
        self.pids = [self.pid, *([bus.pid] if bus else [])]


@dataclass(slots=True)
class Contender:
    """Subscribers of a server, in a process of their own, and what was measured with them."""

    name: str
    pids: list[int]
    port: int
    version: str = "1.2"
    receipts: bool = True
    turns: list[Turn] = field(default_factory=list)
    single: list[Turn] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    load: LoadClient | None = None

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        """Have the load client do something. Raises Failed with what it failed of."""
        if self.load is None:
            self.load = LoadClient("bench.stomp_load")
        return self.load.ask(self.name, command, **values)

    def open(self, count: int) -> None:
        """Connect so many subscribers; note the memory that each costs the server."""
        before = resident(self.pids)
        rival = self.name in RIVALS
        login = {"login": "guest", "passcode": "guest"} if rival else {"login": "1.studio", "passcode": PASSCODE}
        topic = RIVAL_TOPIC if rival else TOPIC
        took = self.ask("open", port=self.port, count=count, topic=topic, version=self.version, **login)
        time.sleep(1)
        self.told["memory_bytes"] = round((resident(self.pids) - before) / count)
        self.told["opened_a_second"] = round(count / took["seconds"])

    def fan(self, messages: int, window: int, size: int = SIZE, *, receipts: bool | None = None) -> Turn:
        """Send a burst."""
        before = spent(self.pids)
        wanted = self.receipts if receipts is None else receipts
        found = self.ask("fan", messages=messages, window=window, size=size, receipts=wanted)
        used, count = spent(self.pids) - before, found["deliveries"]
        return Turn(count / found["seconds"], 1e6 * used / count, 1e6 * found["processor"] / count)

    def end(self) -> None:
        """Disconnect everybody, at once."""
        if self.load is not None:
            self.load.end()
            self.load = None


def race(contenders: Sequence[Contender], count: int, turns: int, seconds: float, window: int) -> None:
    """Let each send its bursts in turns, whose order rotates; the first turn warms up and tells how many fill the time.

    In half of the bursts a message is sent only when the one before has reached all: nobody can write two at once.
    """
    fit: dict[str, int] = {}
    for turn in range(turns + 1):
        first = turn % len(contenders)
        for one in [*contenders[first:], *contenders[:first]]:
            if not turn:
                fit[one.name] = filling(one.fan(LEAST, window), count, seconds)
                continue
            for width, kept, messages in ((window, one.turns, fit[one.name]), (1, one.single, fit[one.name] // 3)):
                found = one.fan(max(LEAST, messages), width)
                kept.append(found)
                print(
                    f"  {one.name:<12}{width:>3} at once {found.rate:9.0f} deliveries a second, processor microseconds "
                    f"of each: server {found.server_us:5.1f}, load client {found.client_us:5.1f}",
                    flush=True,
                )


def filling(burst: Turn, count: int, seconds: float) -> int:
    """Return the messages to so many subscribers that take about so long, if they are as fast as in a burst before."""
    return max(LEAST, int(burst.rate * seconds / count))


def slow_client(one: Contender, count: int, seconds: float) -> dict[str, float]:
    """Return what a client that reads nothing changes for all others: rates, latencies, and bytes that it costs."""
    messages = filling(one.turns[-1], count, seconds)

    def bursts() -> float:
        return median(one.fan(messages, 8).rate for _ in range(3))

    without, quick = bursts(), one.ask("pace", messages=8, rate=4, size=SIZE)
    before = resident(one.pids)
    one.ask("slow")
    one.fan(8, 8, 32 << 10)  # more than the kernel keeps for it
    stuck, late = bursts(), one.ask("pace", messages=8, rate=4, size=SIZE)
    return {
        "rate_without": round(without), "rate_with": round(stuck),
        "p99_ms_without": round(quick["p99_ms"], 1), "p99_ms_with": round(late["p99_ms"], 1),
        "cost_bytes": max(0, resident(one.pids) - before),
    }  # fmt: skip


def summary(one: Contender) -> dict[str, Any]:
    """Return the medians of a contender, and what else was told of it."""
    return {**middle(one.turns), "single": middle(one.single), **one.told}


def start(name: str, folder: Path, stack: contextlib.ExitStack) -> Contender:
    """Start a contender's server, and for ours on a broker that broker; both end with the stack."""
    server: Rabbit | Ours
    if name == "rival":
        server = Rabbit(folder)
        pids = [server.pid]
    else:
        bus = None
        if name == "ours_bus":
            bus = Rabbit(folder.with_suffix(".bus"))
            stack.callback(bus.end)
        server = Ours(folder, bus)
        pids = server.pids
    stack.callback(server.end)
    one = Contender(name, pids, server.stomp_port, "" if name == "ours_old" else "1.2")
    stack.callback(one.end)
    return one


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all contenders at each number of subscribers."""
    told: dict[str, Any] = {"ratios": {}, "figures": {}}
    for count in options.subscribers:
        print(f"{count} subscribers", flush=True)
        with contextlib.ExitStack() as stack:
            contenders = []
            for name in options.only:
                if name != "rival_plain":
                    contenders.append(start(name, folder / f"{name}-{count}", stack))
                    contenders[-1].open(count)
            everybody = list(contenders)
            for one in contenders:
                if one.name == "rival" and "rival_plain" in options.only:
                    # The very subscribers of the other, but the publisher waits for no receipt.
                    everybody.append(Contender("rival_plain", one.pids, one.port, receipts=False, load=one.load))
            race(everybody, count, options.turns, options.seconds, options.window)
            for one in contenders:
                paced = one.ask("pace", messages=options.paced, rate=min(4, 10000 / count), size=SIZE)
                one.told |= {key: round(value, 2) for key, value in paced.items()}
                if count <= 2000 and one.name in ("ours", "rival"):
                    one.told["slow"] = slow_client(one, count, options.seconds)
            found = {one.name: summary(one) for one in everybody}
        told["figures"][str(count)] = found
        told["ratios"] |= ratios(count, found)
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.visuals", description=__doc__)
    names = ["ours", "rival", "ours_old", "ours_bus", "rival_plain"]
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="contenders")
    parser.add_argument("--turns", type=int, default=3, help="timed bursts of each")
    parser.add_argument("--seconds", type=float, default=1.0, help="that one burst takes")
    parser.add_argument("--window", type=int, default=8, help="messages that are on their way at once")
    parser.add_argument("--paced", type=int, default=5, help="messages at a fixed rate, for the latency")
    parser.add_argument(
        "--slow", type=int, default=40, help="messages of 4 kB in a burst beside a client that does not read"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("bench: ended"))  # nothing is left running
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="stationmaster-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        result = measure(options, folder)
    result["setting"] = {
        "seconds": options.seconds, "window": options.window, "turns": options.turns, "body_bytes": SIZE,
    }  # fmt: skip
    result["host"] = {**figures.host_facts(), "load_before": before}
    if options.only == names:
        figures.keep(result, RESULT)
    else:
        print(json.dumps(result["figures"], indent=1))
    return figures.judge(result["ratios"], GOALS)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, Missing) as error:
        sys.exit(f"bench: {error}")
