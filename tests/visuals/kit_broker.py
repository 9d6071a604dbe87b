"""Brokers by hand: `python3 -m station.broker` of Debian's Python with a configuration in a folder."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import aiormq

from station.broker_probe import AmqpProbe
from station.visuals.amqp_link import Node
from tests.ports import free_port

PASSWORD = "correct horse battery"
ROOT = Path(__file__).parents[2]


class Broker:
    """One broker in a folder; its beam can be killed apart from its supervisor."""

    def __init__(self, folder, address="127.0.0.1", arguments=(), **options):
        self.folder = folder
        self.address = address
        self.options = {
            "listen": address,
            "port": free_port(),
            "cluster_port": free_port(),
            "names_port": free_port(),
            "user": "tester",
            "password": PASSWORD,
            **options,
        }
        self.arguments = arguments
        self.process = None

    @property
    def port(self):
        return self.options["port"]

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def node(self, **changes):
        return Node(self.address, self.port, "tester", self.options["password"], **changes)

    def url(self):
        return f"amqp://tester:{self.options['password'].replace(' ', '%20')}@{self.address}:{self.port}/"

    def start(self):
        """Start it; returns at once."""
        self.folder.mkdir(exist_ok=True)
        named = {"station": self.options.pop("station", "here"), "address": self.address}
        (self.folder / "broker.json").write_text(json.dumps({**named, **self.options}))
        self.options["station"] = named["station"]
        command = ["/usr/bin/python3", "-m", "station.broker", "--config", str(self.folder / "broker.json")]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen([*command, *self.arguments], cwd=ROOT, stdout=log, stderr=log)
        return self

    def wait(self, seconds=60):
        """Wait until a client can log in."""
        probe = AmqpProbe(self.address, self.port, "tester", self.options["password"], 2)
        ends = time.monotonic() + seconds
        while (failure := probe.failure()) is not None:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < ends, f"{failure}\n{self.log}"
            time.sleep(0.1)
        return self

    def beam(self):
        """Return the process id of the server itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "beam.smp")

    def kill(self):
        """Kill the server with -9 and wait for the supervisor's end."""
        os.kill(self.beam(), signal.SIGKILL)
        self.process.wait(20)

    def stop(self):
        """End it as systemd does; returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    async def channel(self, stack: contextlib.AsyncExitStack):
        """Return a channel of a foreign client."""
        connection = await aiormq.connect(self.url())
        stack.push_async_callback(connection.close)
        return await connection.channel()

    async def delete(self, stream):
        """Delete a stream, as an operator might."""
        async with contextlib.AsyncExitStack() as stack:
            await (await self.channel(stack)).queue_delete(stream)


async def off(function, *arguments):
    """Run what blocks beside the loop."""
    return await asyncio.to_thread(function, *arguments)
