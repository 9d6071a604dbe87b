"""Watchdogs in this process, and servers that stand in for a manager."""

import asyncio
import contextlib
import json
import urllib.parse

from aiohttp import web

from station.visuals.defaults import Listed
from station.visuals.directory import Listing, Local
from station.visuals.message_log import MessageLog
from station.visuals.watchdog import Times, Watchdog

ONE = "/topic/fm/ce1/c221/09580/"
TWO = "/topic/dab/ce1/ce15/c221/0/"
BARE = "/topic/id/example.org/bare/"
LISTING = {
    "1": {
        "users": {"studio": "secret"},
        "channels": [
            {
                "topic": ONE,
                "picture": "https://example.org/one.png",
                "text": "This is One",
                "link": "https://one.example",
            },
            {"topic": TWO, "picture": "two.png", "text": "Zwei für alle"},
            {"topic": BARE},
        ],
    }
}
BASE = "https://pictures.example.org/"
TIMES = Times(silence=1.0, check=0.3, refresh=0.2)


def listing(tree=None):
    return Listing.from_json(LISTING if tree is None else tree)


@contextlib.asynccontextmanager
async def watching(bus, folder, *, defaults=None, times=TIMES):
    """Run a watchdog whose log is in a folder."""
    folder.mkdir(exist_ok=True)
    memory = MessageLog(folder)
    dog = Watchdog(bus, defaults or Listed(Local(listing()), BASE), memory, times)
    dog.memory = memory
    task = asyncio.create_task(dog.run())
    try:
        yield dog
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(memory.close)


class Server:
    """An HTTP server on a free port of loopback that keeps what it was asked; `away` makes it fail."""

    def __init__(self, port=0):
        self.port = port
        self.asked = []
        self.away = False

    async def answer(self, request):
        raise NotImplementedError

    async def _handle(self, request):
        if self.away:
            return web.json_response({"detail": "away"}, status=503)
        return await self.answer(request)

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


class Original(Server):
    """The original manager's API below a secret: form-encoded bodies of GETs, JSON answers."""

    PREFIX = "/s3cr3t/action/radiovis/api/s3cr3t/"

    def __init__(self, port=0):
        super().__init__(port)
        self.users = {"1.studio": "right"}
        self.channels = [[ONE, 11], [TWO, 12]]
        one = {"id": 11, "filename": "one.png", "radiotext": "This is One", "radiolink": "https://one.example"}
        self.defaults = {"11": one | {"public_url": "https://original.example/one.png"}, "12": None}

    @property
    def api(self):
        return self.url + self.PREFIX

    async def answer(self, request):
        assert request.method == "GET"
        if not request.path.startswith(self.PREFIX):
            return web.json_response({}, status=404)
        assert request.content_type == "application/x-www-form-urlencoded" or not request.can_read_body
        assert not request.query_string
        name = request.path.removeprefix(self.PREFIX)
        form = dict(urllib.parse.parse_qsl(await request.text(), keep_blank_values=True))
        self.asked.append((name, form))
        return web.json_response(getattr(self, f"do_{name}")(**form))

    def do_check_auth(self, username, password, ip):
        right = self.users.get(username) == password
        return {"result": True} if right else {"result": False, "error": "Wrong password"}

    def do_get_channels(self, station_id):
        return {"list": [topic for topic, _ in self.channels] if station_id == "1" else []}

    def do_get_gcc(self, cc):
        return {"gcc": {"ch": "4E1"}.get(cc)}

    def do_get_all_channels(self):
        return {"list": self.channels}

    def do_get_all_vis_channels(self):
        return {"list": self.channels}

    def do_get_channel_default(self, id):
        return {"info": self.defaults[id]}

    def do_add_log(self, topic, message, headers, timestamp):
        json.loads(headers), float(timestamp)
        return {}

    def do_cleanup_logs(self, max_age):
        assert float(max_age) > 0
        return {}

    def calls(self, name):
        return [form for asked, form in self.asked if asked == name]


class Manager(Server):
    """What our manager answers to programs: the directory as a long poll, and the log."""

    TOKEN = "smt_canary_token"

    def __init__(self, port=0):
        super().__init__(port)
        self.revision = 1
        self.broadcasters = LISTING
        self.messages = {}
        self.batches = []
        self.refuses = set()
        self.changed = asyncio.Event()

    def change(self, broadcasters):
        self.broadcasters, self.revision = broadcasters, self.revision + 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def answer(self, request):
        self.asked.append(request.path_qs)
        if request.headers.get("Authorization") != f"Bearer {self.TOKEN}":
            return web.json_response({"title": "No", "status": 401, "detail": "no such token"}, status=401)
        if request.path == "/v1/visuals/directory":
            if request.headers.get("If-None-Match") == f'"{self.revision}"':
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), float(request.query.get("wait", 0)))
                if request.headers.get("If-None-Match") == f'"{self.revision}"':
                    return web.Response(status=304, headers={"ETag": f'"{self.revision}"'})
            body = {"revision": str(self.revision), "broadcasters": self.broadcasters, "overrides": []}
            return web.json_response(body, headers={"ETag": f'"{self.revision}"'})
        rows = (await request.json())["messages"]
        if not 0 < len(rows) <= 500 or any(row["body"] in self.refuses for row in rows):
            return web.json_response({"detail": "not that one"}, status=422)
        self.batches.append(len(rows))
        for row in rows:
            assert set(row) == {"topic", "body", "headers", "when", "source"}
            self.messages[row["topic"], row["headers"]["message-id"]] = row
        return web.json_response({"stored": len(rows)})
