"""Two hundred stations as a manager sees them: their inventory, and a process that says their hellos.

`python -m bench.crowd DATA PORT` says them until its input ends. A line `NAME active` or `NAME failed` there sets one
of the station's units so; once the hello that says it is answered, a line tells when it was sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from bench import hello
from station.times import HELLO_INTERVAL

NETWORK = "127.83.0.0/16"
"""Addresses of this machine, so that the manager finds the stations' pictures."""
ROOMS, PAIRS = 20, 5
"""A pair is a station that captures and one that copies, encodes and uploads."""
KINDS = {
    "cam": ("ingest@main", "ingest@slides"),
    "enc": ("record@copy", "encode@talks", "upload@archive"),
}
"""What the inventory names."""
HIDDEN = ("agent@main", "journal@main", "supervisor@main", "web@main")
"""Further units of each station."""
PICTURE = b"\xff\xd8" + bytes(20_000)
HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PICTURE)}\r\n\r\n".encode()
TIMES = {"segments": 20_000, "age": 1.2, "disk_free_bytes": 10**11}


def room_name(number: int) -> str:
    """Return the name of a room."""
    return f"hall_{number}"


def names() -> list[str]:
    """Return the names of all stations, room by room."""
    return [f"r{room:02}-{kind}{pair}" for room in range(1, ROOMS + 1) for pair in range(PAIRS) for kind in KINDS]


def room_of(station: str) -> str:
    """Return the room of a station."""
    return room_name(int(station[1:3]))


def write(folder: Path, pictures: int) -> None:
    """Write the inventory; `pictures` is the port on which the stations serve theirs."""
    event = {
        "event_name": "bench", "event_title": "Bench", "event_network": NETWORK,
        "event_role_defaults": {"web": {"port": pictures}},
        "event_targets": {"archive": {"type": "local", "path": "/srv/archive"}},
    }  # fmt: skip
    rooms: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names()):
        host = {"station_mac": hello.mac(number), "station_roles": _roles(name)}
        rooms.setdefault(room_of(name), {})[name] = host
    (folder / "rooms").mkdir(parents=True)
    (folder / "group_vars/all").mkdir(parents=True)
    (folder / "group_vars/all/event.yml").write_text(json.dumps(event), "utf-8")
    for number, (room, hosts) in enumerate(rooms.items(), 1):
        group = {"vars": {"room_title": f"Hall {number}", "room_number": number}, "hosts": hosts}
        told = {"rooms": {"children": {room: group}}}
        (folder / "rooms" / f"{room.replace('_', '-')}.yml").write_text(json.dumps(told), "utf-8")


def _roles(station: str) -> dict[str, Any]:
    if "-cam" in station:
        return {"ingest": {name: {"source": {"type": "testcard"}} for name in ("main", "slides")}}
    source = {"from": f"{station.replace('-enc', '-cam')}/main"}
    archive = {"from": f"{station}/talks", "target": "archive"}
    return {"record": {"copy": source}, "encode": {"talks": source}, "upload": {"archive": archive}}


class Station(hello.Simulated):
    """A station whose figures move as those of a real one do."""

    name = ""
    wanted = ""
    active = "active"
    number = 0

    def said(self) -> bytes:
        """Return its next hello as bytes on the wire."""
        named = KINDS["cam" if "-cam" in self.name else "enc"]
        loud, units, figures = {}, {}, {}
        for one in (*named, *HIDDEN):
            role, _, instance = one.partition("@")
            loud[one] = round(random.gauss(-23, 3), 1)
            active = self.active if one == named[0] else "active"
            units[f"stationmaster-{one}.service"] = {
                "active": active, "sub": "running" if active == "active" else "failed", "since": 1767225600,
                "result": "success", "restarts": 0, "healthy": active == "active", "live": True, "masked": False,
                "status": self._status(role, loud[one]),
            }  # fmt: skip
            figures[f"{role}/{instance}"] = self._figures(role, loud[one])
        disk = {"free": 10**11, "size": 10**12, "hours_left": 41.5 - time.monotonic() % 3600 / 3600}
        body = {
            **hello.body(self.number, self.boot), "station": self.name, "hostname": self.name, "time": time.time(),
            "uptime": time.monotonic(), "applied": self.wanted, "wanted": self.wanted, "units": units,
            "figures": figures, "disk": disk, "clock_offset": random.gauss(0, 0.001),
        }  # fmt: skip
        self.content = json.dumps(body).encode()
        return self.request(keep=False)

    def _status(self, role: str, loudness: float) -> str:
        return {
            "ingest": f"running 25.0 fps, {loudness:.0f} LUFS, disk for 41 h",
            "record": "copying, up to date",
            "encode": f"talk-{self.counter // 60}: encoding {self.counter % 60 / 60:.0%}; 3 waiting, 0 in fail/",
            "upload": f"all uploaded: {self.counter // 60} with a receipt",
        }.get(role, "")

    def _figures(self, role: str, loudness: float) -> dict[str, float]:
        found = {**TIMES, "last_segment_seconds": round(time.time() - 1.5, 3), "running": 1.0}
        if role == "ingest":
            tracks = {"loudness_lufs:Room": loudness, "loudness_lufs:Stage": loudness - 4}
            return {**found, "speed": 1.0, **tracks, "silent_seconds:Room": 0.0, "silent_seconds:Stage": 0.0}
        if role == "encode":
            return {"age": 1.2, "jobs_waiting": 3.0, "progress_ratio:talk:encode": self.counter % 60 / 60}
        return {**found, "behind_seconds": 1.0}


class Crowd:
    """All stations, on one event loop."""

    def __init__(self, data: Path, port: int) -> None:
        rows = json.loads((data / "simulated.json").read_text())
        wanted = json.loads((data / "wanted.json").read_text())
        self._port = port
        self._turns = {name: asyncio.Lock() for name in names()}
        self.stations: dict[str, Station] = {}
        for number, (name, (identity, secret, boot)) in enumerate(zip(names(), rows, strict=True)):
            station = self.stations[name] = Station(identity, bytes.fromhex(secret), boot, b"")
            station.name, station.number, station.wanted = name, number, wanted[name]

    async def say(self, station: Station) -> float:
        """Say a hello on a connection of its own, as the agent does; return when."""
        async with self._turns[station.name]:  # a hello that overtakes another one is refused
            at = time.time()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(station.said())
            await hello.answered(reader)
            writer.close()
            return at

    async def live(self, station: Station) -> None:
        """Say hellos as often as the manager asks for."""
        await asyncio.sleep(random.random() * HELLO_INTERVAL)  # noqa: S311
        while True:
            await self.say(station)
            await asyncio.sleep(HELLO_INTERVAL * random.uniform(0.8, 1))  # noqa: S311

    async def obey(self) -> None:
        """Change what stations say as the lines of the input tell."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            name, active = line.decode().split()
            self.stations[name].active = active
            print(await self.say(self.stations[name]), flush=True)

    async def run(self) -> None:
        """Say hellos and serve pictures until the input ends."""
        pictures = json.loads(Path(sys.argv[1], "pictures.json").read_text())
        await asyncio.start_server(_picture, port=pictures)
        lives = [asyncio.create_task(self.live(one)) for one in self.stations.values()]
        end = asyncio.create_task(self.obey())
        done, _ = await asyncio.wait([*lives, end], return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()


async def _picture(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(HEAD + PICTURE)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


if __name__ == "__main__":
    asyncio.run(Crowd(Path(sys.argv[1]), int(sys.argv[2])).run())
