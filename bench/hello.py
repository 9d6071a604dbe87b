"""How many hellos a second the manager takes, against a bare endpoint; and how long each waits at an event's pace.

`python -m bench.hello` serves both from processes of their own, on SQLite, and writes `bench/results/hello.json`.
See bench/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

from api.hello import Hello, HelloAnswer
from bench import figures
from station import hello_signature

RESULT = Path(__file__).resolve().parent / "results" / "hello.json"
PATH = "/v1/hello"
GOALS = {"ratio": ("at least", 0.6), "p99_ms": ("at most", 100.0)}
INTERVAL = 5.0
"""Seconds between two hellos of a simulated station."""


class Failed(Exception):
    """A hello was not answered as it should be."""


@dataclass(slots=True)
class Simulated:
    """A station that is enrolled already."""

    id: str
    secret: bytes
    boot: str
    content: bytes
    counter: int = 0

    def request(self, keep: bool) -> bytes:
        """Return its next hello as bytes on the wire."""
        self.counter += 1
        headers = hello_signature.sign(
            self.secret, self.id, "POST", PATH, self.content, time=time.time(), boot=self.boot, counter=self.counter
        )
        lines = [
            f"POST {PATH} HTTP/1.1", "Host: manager", "Content-Type: application/json",
            f"Content-Length: {len(self.content)}", f"Connection: {'keep-alive' if keep else 'close'}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]  # fmt: skip
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.content


def body(number: int, boot: str) -> dict[str, Any]:
    """Return what a station with six units says, 4 kB."""
    units = {
        f"stationmaster-{role}@main.service": {
            "active": "active", "sub": "running", "since": 1767225600, "result": "success", "restarts": 0,
            "status": "running 25.0 fps, -23 LUFS, disk for 41 h", "healthy": True, "live": True, "masked": False,
        }
        for role in ("ingest", "record", "encode", "upload", "sync", "web")
    }  # fmt: skip
    figure = {
        "age": 1.2,
        "last_segment_seconds": 1767225600.5,
        "loudness_lufs:Room": -23.1,
        "segments": 20000,
        "speed": 1,
    }
    return {
        "station": f"station-{number}", "hostname": f"station-{number}", "addresses": ["10.83.0.17", "fd00::17"],
        "macs": [mac(number)], "boot_id": boot, "uptime": 86400.5, "time": time.time(), "applied": "ab" * 32,
        "wanted": "ab" * 32, "revision": "cd" * 20, "generation": 7, "integrity": True,
        "state": {"held": [], "stopped": {}, "pinned": None, "failed": None, "on_air_until": None},
        "roles": {name.split("-")[1].split("@")[0]: {"main": 1767225600000} for name in units}, "blocked_roles": [],
        "units": units, "failures": [], "disk": {"free": 10**11, "size": 10**12, "hours_left": 41.5},
        "load": [0.5, 0.6, 0.7], "clock_offset": 0.0001, "figures": {f"{name}/main": figure for name in units},
        "agent_version": "0123456789abcdef", "shutdown": False, "interval": INTERVAL,
    }  # fmt: skip


def mac(number: int) -> str:
    """Return a station's MAC address."""
    return f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"


# --- the two that are measured


def serve_bare(port: int) -> None:
    """Serve the bare endpoint until ended."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.post(PATH)
    async def hello(said: Hello) -> HelloAnswer:
        return HelloAnswer(next_hello_after=5.0, server_time=time.time(), seen_address="", state="ready")

    uvicorn.run(app, port=port, log_level="error", access_log=False)


def enrol(data: Path, names: Sequence[str]) -> None:
    """Put stations into the database of a manager that has started, and their secrets into a file."""
    from api.database import Database
    from api.registry import Registry
    from api.tables import Station

    database = Database(f"sqlite:///{data}/manager.db")
    manager: Any = SimpleNamespace(database=database, settings=SimpleNamespace(data=data), started_at=0)
    registry = Registry(manager, (data / "station-key").read_text())
    rows = []
    with database.writing() as session:
        for number, name in enumerate(names):
            identity, boot = str(uuid.uuid4()), str(uuid.uuid4())
            session.add(
                Station(
                    id=identity, name=name, enrolment="enrolled", macs=[mac(number)],
                    hostname=name, host_keys=[], claim_hash=None, claimed_at=0.0, asked_at=0.0,
                    secret_number=1, rotating=False, created_at=0.0, left_boots=[], counter=0, said={},
                )
            )  # fmt: skip
            rows.append([identity, registry.secret(identity, 1), boot])
    database.close()
    (data / "simulated.json").write_text(json.dumps(rows))


class Server:
    """One of the two, as a process of its own on one processor."""

    def __init__(self, kind: str, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        module = ["bench.hello", "--bare"] if kind == "bare" else ["stationmaster", "serve", "--data", str(data)]
        command = [sys.executable, "-m", *module, "--port", str(self.port)]
        self.process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {_processors()[0]}))
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"bench: {kind} does not start") from None
                time.sleep(0.1)

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0))


# --- load


async def answered(reader: asyncio.StreamReader) -> None:
    """Read an answer to a hello; Failed for one that is not 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Failed(f"{head!r} {await reader.read(1000)!r}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))


async def rate(port: int, requests: list[list[bytes]]) -> float:
    """Return answers a second with one connection for each list of requests."""

    async def speak(mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in mine:
            writer.write(request)
            await answered(reader)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(speak(mine) for mine in requests))
    return sum(map(len, requests)) / (time.perf_counter() - began)


async def pace(port: int, stations: list[Simulated], seconds: float) -> list[float]:
    """Let all stations say hello each INTERVAL, each on a connection of its own; return the seconds that each took."""
    took: list[float] = []

    async def one(station: Simulated, offset: float, began: float) -> None:
        while (at := began + offset) < began + seconds:
            await asyncio.sleep(at - time.perf_counter())
            request = station.request(keep=False)
            start = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await answered(reader)
            took.append(time.perf_counter() - start)
            writer.close()
            offset += INTERVAL

    began = time.perf_counter() + 0.2
    await asyncio.gather(
        *(one(station, number * INTERVAL / len(stations), began) for number, station in enumerate(stations))
    )
    return took


def _simulated(data: Path) -> list[Simulated]:
    rows = json.loads((data / "simulated.json").read_text())
    return [
        Simulated(identity, bytes.fromhex(secret), boot, json.dumps(body(number, boot)).encode())
        for number, (identity, secret, boot) in enumerate(rows)
    ]


def _shares(stations: list[Simulated], connections: int, count: int) -> Iterator[list[bytes]]:
    """Yield the requests of each connection, signed in advance: what the client costs is not the question."""
    for number in range(connections):
        mine = stations[number::connections]
        yield [mine[turn % len(mine)].request(keep=True) for turn in range(count // connections)]


def measure(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Measure rates in turns, then the pace of an event."""
    servers = {kind: Server(kind, data) for kind in ("bare", "manager")}
    enrol(data, [f"station-{number}" for number in range(options.stations)])
    rates: dict[str, list[float]] = {kind: [] for kind in servers}
    try:
        os.sched_setaffinity(0, {_processors()[-1]})
        stations = _simulated(data)
        for turn in range(options.turns + 1):
            for kind in list(servers)[:: 1 if turn % 2 else -1]:
                shares = list(_shares(stations, options.connections, options.hellos))
                found = asyncio.run(rate(servers[kind].port, shares))
                if turn:  # the first one warms up
                    rates[kind].append(found)
                    print(f"  {kind:<8} {found:8.0f} hellos a second", flush=True)
        took = asyncio.run(pace(servers["manager"].port, stations, options.seconds))
    finally:
        for server in servers.values():
            server.end()
    middle = {kind: round(median(values)) for kind, values in rates.items()}
    cuts = quantiles(took, n=100)
    return {
        "ratio": round(middle["manager"] / middle["bare"], 2),
        "p99_ms": round(cuts[98] * 1000, 1),
        "median_ms": round(median(took) * 1000, 1),
        "rates": {kind: [round(value) for value in values] for kind, values in rates.items()},
        "setting": {
            "stations": options.stations, "connections": options.connections, "hellos": options.hellos,
            "paced": len(took), "body_bytes": len(stations[0].content),
        },
        "host": figures.host_facts(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.hello", description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--hellos", type=int, default=3000, help="in one turn")
    parser.add_argument("--turns", type=int, default=5, help="timed turns of each, in alternation")
    parser.add_argument("--seconds", type=float, default=15, help="of an event's pace")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.bare:
        serve_bare(options.port)
        return 0
    with tempfile.TemporaryDirectory(prefix="stationmaster-bench-") as folder:
        result = measure(options, Path(folder))
    figures.keep(result, RESULT)
    missed = 0
    for name, (word, goal) in GOALS.items():
        print(f"{name:<10}{result[name]:>8}   {word} {goal}")
        missed |= result[name] > goal if word == "at most" else result[name] < goal
    return int(missed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"bench: {error}")
