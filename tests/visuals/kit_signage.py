"""A stand-in for the bus and for the manager, and a station's signage around both."""

import asyncio
import contextlib
import json
import time
from http.server import BaseHTTPRequestHandler

from station.config import Config, Paths, Source
from station.signage_service import Signage
from station.visuals.bus import Entry

DOMAIN = "demo"


class Log:
    """What all stand-ins of one bus share: the messages, and who holds which lock."""

    def __init__(self):
        self.messages = []
        self.changed = asyncio.Event()
        self.waiting = {}

    def add(self, message):
        self.messages.append(message)
        self.changed.set()

    def of(self, end):
        """Bodies of all messages to topics with an ending."""
        return [message.body.decode() for message in self.messages if message.topic.endswith(end)]

    def last(self, end):
        """The last message to a topic with an ending."""
        found = [message for message in self.messages if message.topic.endswith(end)]
        return found[-1] if found else None


class Bus:
    """One process's way to the log. `up` is its connection, `confirms` whether the log answers."""

    def __init__(self, log):
        self.log = log
        self.up = True
        self.confirms = True
        self.open = []
        self._locks = []

    async def run(self, after, deliver):
        assert after is None
        done = 0
        while True:
            while done < len(self.log.messages):
                await deliver(Entry(done, self.log.messages[done]))
                done += 1
            self.log.changed.clear()
            await self.log.changed.wait()

    def publish(self, message, *, refresh=False):
        assert self.up, "published while the bus is away"
        future = asyncio.get_running_loop().create_future()
        self.open.append((message, future))
        if self.confirms:
            self.confirm()
        return future

    def confirm(self):
        for message, future in self.open:
            self.log.add(message)
            future.set_result(None)
        self.open.clear()

    async def lock(self, name):
        queue, mine = self.log.waiting.setdefault(name, []), asyncio.Event()
        queue.append(mine)
        queue[0].set()
        try:
            while True:
                await mine.wait()
                yield True
                mine.clear()
                await mine.wait()
                yield False
                mine.clear()
        finally:
            queue.remove(mine)
            if queue:
                queue[0].set()

    def connected(self):
        return self.up

    def caught_up(self):
        return True


class Refused(Exception):
    """As that of the manager's link."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Manager:
    """Yields what `say` was given; keeps what is posted, or fails with `error`."""

    def __init__(self):
        self.posted = []
        self.error = None
        self._queue = asyncio.Queue()

    def say(self, *overrides):
        self._queue.put_nowait({"revision": "r", "broadcasters": {}, "overrides": list(overrides)})

    async def directory(self):
        while True:
            yield await self._queue.get()

    async def post(self, path, value):
        if self.error is not None:
            raise self.error
        self.posted.append((path, value))


def context(*talks, room="hall_a", zone="UTC", title="Hall A"):
    rows = [
        {"id": f"t{n}", "title": name, "presenters": [], "start": start, "end": end, **more}
        for n, (name, start, end, more) in enumerate(talks)
    ]
    return {
        "event": {"name": "demo", "title": "Demo event"},
        "url": "http://10.0.0.9:8080/signage/door/",
        "talks": {"timezone": zone, "rooms": {room: {"title": title, "talks": rows}}},
    }


class Stage:
    """A station's instances of signage, in one folder each."""

    def __init__(self, folder):
        self.folder = folder
        self.log = Log()
        self.clock = time.time
        self.running = []

    def config(self, name, options=None, sources=None, told=None):
        folder = self.folder / name
        (folder / "run").mkdir(parents=True, exist_ok=True)
        if told is not None:
            self.write(name, told)
        paths = Paths(folder, folder / "run", folder, folder / "run/metrics.prom", folder / "context.json")
        return Config(
            "demo",
            "hall_a",
            name,
            "10.0.0.9",
            "signage",
            "door",
            {"to": ["s/v"], **(options or {})},
            sources or {},
            {},
            paths,
        )

    def write(self, name, told):
        path = self.folder / name / "context.json"
        path.with_suffix(".new").write_text(json.dumps(told))
        path.with_suffix(".new").rename(path)

    def start(self, name="one", told=None, manager=None, bus=None, **more):
        """Start an instance; return its bus and its task."""
        bus = bus or Bus(self.log)
        signage = Signage(self.config(name, told=told, **more), bus, manager, lambda: self.clock())
        task = asyncio.create_task(signage.run())
        self.running.append(task)
        return bus, task

    async def stop(self, task):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.running.remove(task)

    async def until(self, true, seconds=20.0):
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not true():
            for task in self.running:
                if task.done():
                    task.result()
            assert time.monotonic() < end, [(one.topic, one.body) for one in self.log.messages]
            await asyncio.sleep(0.01)

    async def text(self, text, seconds=20.0):
        """Wait until the room's text is this."""
        await self.until(lambda: self.now("hall_a/text") == f"TEXT {text}", seconds)

    def now(self, end):
        found = self.log.last(end)
        return found.body.decode() if found else None


def play(folder, run):
    """Run a test's coroutine with a stage, and end what it left running."""

    async def whole():
        stage = Stage(folder)
        try:
            async with asyncio.timeout(30):
                await run(stage)
        finally:
            for task in list(stage.running):
                with contextlib.suppress(BaseException):
                    await stage.stop(task)

    asyncio.run(whole())


class Preview(BaseHTTPRequestHandler):
    """Serves `content` of the server as /preview.jpg, `age` seconds old."""

    def do_GET(self):
        server = self.server
        if server.content is None or self.path != "/ingest/main/preview.jpg":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Last-Modified", self.date_time_string(time.time() - server.age))
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(server.content)

    def log_message(self, *_):
        pass


def source(url):
    return Source("cam/main", "ingest", "cam", "main", "media", url, None)
