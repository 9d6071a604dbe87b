"""A service with an HTTP door in a process of its own, with a bus that hands everything straight back.

Run as a program it listens on the port that it is given and takes commands, one JSON object a line, on its input.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from station.metrics import Metrics
from station.visuals import message
from station.visuals.bus import Entry
from station.visuals.directory import Listing, Local
from station.visuals.events import Events
from station.visuals.exposition import Exposition
from station.visuals.http import HttpDoor
from station.visuals.outbox import Limits
from station.visuals.server import make_context
from station.visuals.service import Service
from station.visuals.settings import Settings, Tls

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ONE = "/topic/fm/ce1/c221/09580/"
BROADCASTERS = {
    "1": {
        "users": {"studio": "secret"},
        "channels": [{"topic": ONE, "name": "One", "picture": "http://example.org/one.png"}],
    }
}


class StraightBus:
    """What is published is delivered at once, and confirmed."""

    def __init__(self):
        self.offset = 0
        self.waiting = asyncio.Queue()

    def publish(self, one, *, refresh=False):
        future = asyncio.get_running_loop().create_future()
        self.offset += 1
        self.waiting.put_nowait((Entry(self.offset, one, refresh), future))
        return future

    async def run(self, after, deliver):
        while True:
            entry, future = await self.waiting.get()
            await deliver(entry)
            if not future.done():
                future.set_result(None)

    def connected(self):
        return True

    def caught_up(self):
        return True


async def serve(folder: Path, port: int, options: dict) -> None:
    limits = Limits(**options.pop("limits", {}))
    pictures = {name: Path(path) for name, path in options.pop("pictures", {}).items()}
    told = options.pop("tls", None)
    tls = Tls(**{**told, "certificate": Path(told["certificate"])}) if told else None
    times = {name: options.pop(name) for name in ("heartbeat", "poll", "head_timeout") if name in options}
    settings = Settings(
        data=folder, http_address="127.0.0.1", http_port=port, listing=Listing.from_json(BROADCASTERS), token="t",
        limits=limits, tls=tls, **options,
    )  # fmt: skip
    bus = StraightBus()
    service = Service(settings, bus, Local(settings.listing))
    exposition = Exposition(service, Metrics(folder / "metrics.prom", {"role": "visuals"}), Events(None))
    door = HttpDoor(service, exposition, domain="conference", pictures=pictures, **times)
    await door.start(make_context(tls) if tls else None)
    tasks = [asyncio.create_task(bus.run(None, service.deliver)), asyncio.create_task(exposition.run())]
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        told = json.loads(line)
        for topic, body, headers in told.get("send", []):
            await bus.publish(message.new(topic, body.encode(), headers))
        if told.get("stop"):
            break
        topics = sorted(service.hub.watched())
        state = {"connections": len(service.connections), "subscriptions": service.hub.subscriptions, "topics": topics}
        print(json.dumps(state), flush=True)
    await door.stop()
    pipe.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class House:
    """The process. `python` is the interpreter that runs it."""

    def __init__(self, folder, port, python=sys.executable, **options):
        self.folder, self.port, self.python, self.options = folder, port, python, options
        self.url = f"http://127.0.0.1:{port}"
        self.kept = deque(maxlen=50)
        self.process = None

    def start(self):
        (self.folder / "options.json").write_text(json.dumps(self.options))
        command = [self.python, "-W", "error::ResourceWarning", "-m", "tests.visuals.kit_http"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, str(self.folder), str(self.port)],
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout.readline() == "ready\n", self.log()
        return self

    def log(self):
        return (self.folder / "log").read_text()

    def send(self, *messages):
        """Send messages: (topic, body, headers); return what the process tells of itself."""
        self.process.stdin.write(json.dumps({"send": [(*one, {})[:3] for one in messages]}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def memory(self):
        """Bytes of memory that the process takes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def told(self):
        return self.send()

    def kill(self):
        """End the process at once, as a power cut does."""
        self.process.kill()
        self._gone()

    def stop(self):
        """End it in order; returns how long that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.stdin.write('{"stop": true}\n')
            self.process.stdin.flush()
        self.process.wait(10)
        self._gone()
        return time.monotonic() - began

    def _gone(self):
        self.process.wait(10)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()


if __name__ == "__main__":
    base = Path(sys.argv[1])
    asyncio.run(serve(base, int(sys.argv[2]), json.loads((base / "options.json").read_text())))
