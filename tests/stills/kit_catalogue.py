"""A stand-in for a server of stills as its own process, a catalogue as its own process, and clients of both forms."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from io import BytesIO
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if Path("/usr/lib/python3/dist-packages/aiohttp").exists() else "python3"
STREAM = {
    "id": 1, "name": "cam", "type": "JPG", "address": "127.0.0.1", "port": 9001, "protocol": "TCP_PUSH", "ips": 2.0,
    "count": 3, "room": "hall_a", "from": None, "state": "ready", "state_text": "", "viewers": 0,
    "width": 320, "height": 180,
}  # fmt: skip


def stream(key="cam", **more):
    return {"key": key, "urls": {"latest": f"/streams/{key}/latest"}, **STREAM, "name": key, **more}


async def _serve(port: int, told: str) -> None:
    """Answer as a server of stills does; a line of stdin is the next answer, an empty one ends `/events`."""
    from aiohttp import web
    from PIL import Image

    picture = BytesIO()
    Image.new("RGB", (320, 180), "#2a7f3f").save(picture, "JPEG")
    changed = asyncio.Event()

    async def latest(request):
        return web.Response(body=picture.getvalue(), content_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def events(request):
        response = web.StreamResponse()
        await response.prepare(request)
        said = None
        while told:
            await response.write(b"\n" if said == told else told.encode() + b"\n")
            said = told
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.5)
        return response

    app = web.Application()
    app.add_routes([web.get("/events", events), web.get("/streams/{key}/latest", latest)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        told = line.decode().strip()
        changed.set()
        changed.clear()


class Program:
    """A process of ours that is ended at the end."""

    def __init__(self, *arguments, folder=None, python=PYTHON, **more):
        self.process = subprocess.Popen(
            [python, *arguments],
            cwd=folder or ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            text=True,
            **more,
        )

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def end(self, number=signal.SIGTERM):
        """Ask it to stop; return its exit status and the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(10), time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Stand(Program):
    """The stand-in, with streams."""

    def __init__(self, port, *streams, address="127.0.0.1"):
        self.port, self.address = port, address
        super().__init__(
            "-m", "tests.stills.kit_catalogue", str(port), self._told(streams),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def _told(self, streams):
        return json.dumps({"address": self.address, "streams": list(streams)})

    def tell(self, *streams):
        self.raw(self._told(streams))

    def raw(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()


class Catalogue(Program):
    """`python3 -m station.catalogue` with options and the context word `stills`."""

    def __init__(self, folder, *servers, **options):
        self.folder, self.port, self.http = folder, free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        self.context(*servers)
        paths = {"data": "data", "run": "run", "context": "context.json"}
        options = {"port": self.port, "http_port": self.http, "listen_address": "127.0.0.1", **options}
        told = {"role": "catalogue", "instance": "main", "event": "demo", "options": options, "paths": paths}
        (folder / "catalogue.json").write_text(json.dumps(told))
        self.log = folder / "log"
        with self.log.open("ab") as log:
            super().__init__("-m", "station.catalogue", "--config", folder / "catalogue.json", stdout=log, stderr=log)
        within(lambda: reachable(self.http) or self.process.poll() is not None, 15)

    def context(self, *servers):
        """Write context.json: (name, port, address, streams with their ids) of each server."""
        rows = [
            {"name": name, "station": name.partition("/")[0], "instance": "main", "address": address,
             "http_port": port, "room": "hall_a", "streams": [{"key": key, "id": id} for key, id in ids.items()]}
            for name, port, address, ids in servers
        ]  # fmt: skip
        partial = self.folder / ".context"
        partial.write_text(json.dumps({"stills": rows}))
        partial.replace(self.folder / "context.json")

    def names(self):
        """The streams that the old text has now."""
        return [
            line.split(" name=")[1].split()[0] for line in text(self.port).decode().splitlines() if " name=" in line
        ]

    def json(self, path="/streams"):
        with ask(self.url + path) as answer:
            return json.load(answer)


def ask(url):
    return urllib.request.urlopen(url, timeout=5)  # noqa: S310 - an address of the test


def reachable(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def within(condition, seconds):
    """Wait until a condition holds; return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def text(port, host="127.0.0.1"):
    """Return what an old client of the catalogue gets, which says nothing, and goes when it has all."""
    with socket.create_connection((host, port), 5) as client:
        return whole(client)


def whole(client):
    client.settimeout(5)
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        assert part, data
        data += part
    size = int(data.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(data.split(b"\r\n\r\n", 1)[1]) < size:
        part = client.recv(65536)
        assert part, data
        data += part
    return data


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
