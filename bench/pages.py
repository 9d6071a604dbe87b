"""What 20 open pages cost a manager with 200 stations, how soon a change shows on each, and how large a page is.

`python -m bench.pages` serves a manager, has `bench.crowd` say the stations' hellos, opens the pages and writes
`bench/results/pages.json`. See bench/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import psutil

from bench import crowd, figures
from bench.hello import Failed, enrol
from tests.api.conftest import Served

RESULT = Path(__file__).resolve().parent / "results" / "pages.json"
BROWSER = Path("/usr/bin/chromium")
GOALS = {"cores": 1.0, "slowest_s": 2.0, "transferred_bytes": 200_000.0}
"""At most."""
PICTURES, RENEWED = 6, 3.0
"""Pictures that a page has in sight, and the seconds after which it asks for each again (static/page.js)."""
EVERY = 2.3
"""Seconds between two changes."""
CARD = re.compile(rb'<article class="card (\w+)" id="room-(\w+)"')
WATCH = """() => {
  window.seen = [];
  const last = {}, look = () => {
    for (const card of document.querySelectorAll(".card")) {
      if (last[card.id] === card.className) continue;
      last[card.id] = card.className;
      window.seen.push([card.id.slice(5), card.className.split(" ")[1], Date.now() / 1000]);
    }
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""
"""Has a real page note when each card got another state."""
Seen = list[tuple[str, str, float]]
"""Room, state and time of each change that a page was told."""


def spent(manager: psutil.Process) -> float:
    """Return the processor seconds of a manager and all that it started."""
    times = [one.cpu_times() for one in [manager, *manager.children(recursive=True)]]
    return float(sum(one.user + one.system + one.children_user + one.children_system for one in times))


async def share(manager: psutil.Process, seconds: float) -> float:
    """Return the processor seconds that a manager takes in a second."""
    before, began = spent(manager), time.monotonic()
    await asyncio.sleep(seconds)
    return (spent(manager) - before) / (time.monotonic() - began)


class Light:
    """A page without a browser: it loads, listens to its stream and asks for the pictures in sight."""

    def __init__(self, url: str, cookie: str) -> None:
        host = url.removeprefix("http://")
        self._host, self._port = host.split(":")[0], int(host.split(":")[1])
        self._head = f"Host: {host}\r\nCookie: stationmaster={cookie}\r\n\r\n"
        self.seen: Seen = []
        self.received = 0
        self.tasks = [asyncio.create_task(one) for one in (self._listen(), self._look())]

    async def _ask(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if head[9:12] != b"200":
            raise Failed(f"{path}: {head!r}")
        return reader, writer

    async def _listen(self) -> None:
        (await self._ask("/"))[1].close()
        reader, _writer = await self._ask("/rooms/changes")
        known: dict[bytes, bytes] = {}
        while True:
            event = await reader.readuntil(b"\n\n")
            at = time.time()
            self.received += len(event)
            if b"event: renew" in event:
                raise Failed("a page was told to load again")
            for state, room in CARD.findall(event):
                if known.get(room) != state:
                    known[room] = state
                    self.seen.append((room.decode(), state.decode(), at))

    async def _look(self) -> None:
        await asyncio.sleep(random.random() * RENEWED)  # noqa: S311 - nothing secret
        while True:
            for number in range(1, PICTURES + 1):
                reader, writer = await self._ask(f"/rooms/{crowd.room_name(number)}/picture")
                await reader.readexactly(len(crowd.PICTURE))
                writer.close()
            await asyncio.sleep(RENEWED)

    async def end(self) -> Seen:
        """Close the page; return what it was told. Raises what it failed of."""
        for task in self.tasks:
            if not task.done():
                task.cancel()
        for found in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(found, Exception):
                raise found
        return self.seen


class Bench:
    """A manager with 200 stations that say hello."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("", 0))
            pictures = int(probe.getsockname()[1])
        crowd.write(folder / "inventory", pictures)
        self.data = folder / "data"
        self.served = Served(self.data, "-i", str(folder / "inventory"))
        assert self.served.process is not None  # noqa: S101 - of the type
        self.manager = psutil.Process(self.served.process.pid)
        (self.data / "pictures.json").write_text(str(pictures))
        enrol(self.data, crowd.names())
        secret = self.served.token("read")
        self._token = secret["Authorization"].removeprefix("Bearer ")
        self.client = httpx2.Client(base_url=self.served.url, headers=secret, timeout=30)

    def ready(self) -> None:
        """Wait until the inventory is in force, and note what is wanted of each station."""
        deadline = time.monotonic() + 60
        while True:
            rooms = self.client.get("/v1/rooms")
            wanted = {one["name"]: one["wanted"] for room in rooms.json() for one in room["stations"]} if rooms else {}
            if wanted and all(wanted.values()):
                break
            if time.monotonic() > deadline:
                raise Failed(f"the inventory is not in force: {rooms.text[:500]}")
            time.sleep(0.2)
        (self.data / "wanted.json").write_text(json.dumps(wanted))

    def cookie(self) -> str:
        """Sign in; return the session's cookie."""
        answer = httpx2.post(f"{self.served.url}/sign-in", data={"token": self._token})
        return str(answer.cookies["stationmaster"])

    def load(self) -> tuple[dict[str, int], int]:
        """Return the bytes of each file that the first page loads, and of all as they are transferred."""
        headers = {"Cookie": f"stationmaster={self.cookie()}", "Accept-Encoding": "gzip"}
        found, transferred = dict[str, int](), 0
        with httpx2.Client(base_url=self.served.url, headers=headers) as browser:
            paths = ["/", *re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get("/").text)]
            for path in paths:
                with browser.stream("GET", path) as answer:
                    raw = b"".join(answer.iter_raw())
                    whole = gzip.decompress(raw) if answer.headers.get("content-encoding") == "gzip" else raw
                found[path.rpartition("/")[2] or "html"] = len(whole)
                transferred += len(raw)
        return found, transferred

    async def change(self, stations: asyncio.subprocess.Process, seconds: float) -> list[tuple[str, float]]:
        """Have a unit of one room after the other fail; return the rooms, and when the hello was sent."""
        assert stations.stdin is not None and stations.stdout is not None  # noqa: S101 - of the types
        made, end = [], time.monotonic() + seconds
        for number in range(1, crowd.ROOMS + 1):
            await asyncio.sleep(EVERY * random.uniform(0.7, 1.3))  # noqa: S311
            if time.monotonic() > end:
                break
            stations.stdin.write(f"r{number:02}-enc{number % crowd.PAIRS} failed\n".encode())
            made.append((crowd.room_name(number), float(await stations.stdout.readline())))
        return made


@asynccontextmanager
async def browser_pages(bench: Bench, count: int) -> AsyncIterator[list[Any]]:
    """Give so many pages of a real browser."""
    if not count:
        yield []
        return
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=str(BROWSER), args=["--no-sandbox"])
        pages = []
        for _ in range(count):
            context = await chromium.new_context(base_url=bench.served.url)
            await context.add_cookies([{"name": "stationmaster", "value": bench.cookie(), "url": bench.served.url}])
            page = await context.new_page()
            await page.goto("/")
            await page.evaluate(WATCH)
            pages.append(page)
        yield pages
        await chromium.close()


def delays(made: list[tuple[str, float]], pages: list[Seen]) -> list[list[float]]:
    """Return the seconds from each change to each page's being told; Failed for one that never was."""
    found = []
    for room, at in made:
        times = [next((when for name, to, when in seen if (name, to) == (room, "failed")), None) for seen in pages]
        if None in times:
            raise Failed(f"{times.count(None)} pages were not told that {room} failed")
        found.append([when - at for when in times if when is not None])
    return found


async def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Measure hellos alone, then with pages."""
    command = [sys.executable, "-m", "bench.crowd", str(bench.data), str(bench.served.port)]
    async with AsyncExitStack() as stack:
        pipe = asyncio.subprocess.PIPE
        stations = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        stack.push_async_callback(stations.wait)
        stack.callback(stations.terminate)
        await asyncio.sleep(6)  # each has said hello
        alone = await share(bench.manager, options.seconds)
        print(f"  hellos alone      {alone:6.2f} cores", flush=True)
        load, transferred = bench.load()
        light = [Light(bench.served.url, bench.cookie()) for _ in range(options.pages - options.browsers)]
        real = await stack.enter_async_context(browser_pages(bench, options.browsers))
        await asyncio.sleep(3)
        received = sum(one.received for one in light)
        made, together = await asyncio.gather(
            bench.change(stations, options.seconds - 3), share(bench.manager, options.seconds)
        )
        received = sum(one.received for one in light) - received
        print(f"  with {options.pages} pages     {together:6.2f} cores", flush=True)
        seen = [await one.end() for one in light]
        drawn = [await page.evaluate("window.seen") for page in real]
        if None in drawn:
            raise Failed("a real page has loaded itself again")
    waits = delays(made, seen)
    every = [one for change in waits for one in change]
    told: dict[str, Any] = {
        "cores": round(together, 3),
        "cores_hellos_alone": round(alone, 3),
        "ratio": round(together / alone, 2),
        "slowest_s": round(max(every), 2),
        "median_s": round(median(every), 2),
        "transferred_bytes": transferred,
        "load_bytes": {**load, "all": sum(load.values())},
        "stream_bytes_per_s": round(received / options.seconds / len(light)),
    }
    if real:
        drawn_waits = [one for change in delays(made, drawn) for one in change]
        told["browser"] = {"slowest_s": round(max(drawn_waits), 2), "median_s": round(median(drawn_waits), 2)}
    told["setting"] = {
        "stations": len(crowd.names()), "rooms": crowd.ROOMS, "pages": options.pages, "browsers": options.browsers,
        "seconds": options.seconds, "changes": len(made), "pictures_in_sight": PICTURES,
    }  # fmt: skip
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--browsers", type=int, default=2 if BROWSER.exists() else 0, help="how many are real ones")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement")
    options = parser.parse_args(arguments)
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="stationmaster-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.ready()
            result = asyncio.run(measure(bench, options))
        finally:
            bench.served.stop()
    result["host"] = {**figures.host_facts(), "load_before": before}
    figures.keep(result, RESULT)
    missed = 0
    for name, goal in GOALS.items():
        print(f"{name:<18}{result[name]:>10}   at most {goal:g}")
        missed |= result[name] > goal
    return int(missed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"bench: {error}")
