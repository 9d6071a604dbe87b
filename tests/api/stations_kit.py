"""Stations for tests of the manager: machines that enrol and say hello, and an inventory of two rooms."""

import base64
import itertools
import json
import secrets
import time
import uuid
from types import SimpleNamespace

from api.clock import now
from api.database import Database
from api.problems import Problem
from api.tables import Station
from station import hello_signature

ROOMS = {"hall-a-cam": "hall_a", "hall-a-enc": "hall_a", "hall-b-cam": "hall_b", "storage": None}
NUMBERS = itertools.count(1)


def mac_of(name):
    return f"02:00:00:00:01:{list(ROOMS).index(name) + 10:02x}"


def fresh_mac():
    """A MAC address that no other machine of this process has, however many there are."""
    number = next(NUMBERS)
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def host_key(seed="x"):
    blob = len(b"ssh-ed25519").to_bytes(4) + b"ssh-ed25519" + (32).to_bytes(4) + seed.encode().ljust(32, b".")[:32]
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


class Inventory:
    """What the manager's inventory answers, for the stations of ROOMS."""

    def __init__(self):
        self.usable = True
        self.stations = {
            name: SimpleNamespace(name=name, mac=mac_of(name), address=f"10.0.0.{number}")
            for number, name in enumerate(ROOMS, 1)
        }
        self.hashes = {}

    def current(self):
        if not self.usable:
            raise Problem(503, "InventoryUnusable", "It has findings.", "Correct it.")
        return SimpleNamespace(event=SimpleNamespace(stations=self.stations), room_of=ROOMS.get)

    def wanted_of(self, name):
        return self.hashes.get(name)


def unit(**more):
    return {"active": "active", "sub": "running", "healthy": True, "live": True, **more}


def applied(**more):
    """What a hello says of a station that has "aa" and is well."""
    state = {"held": [], "stopped": {}, "pinned": None, "failed": None, "on_air_until": None}
    units = {"stationmaster-ingest@main.service": unit()}
    return {"applied": "aa", "wanted": "aa", "generation": 3, "integrity": True, "units": units, "state": state, **more}


class Machine:
    """A box with an agent of its own; `id` and `secret` are there once it is enrolled."""

    def __init__(self, name="hall-a-cam", macs=None, seed=None):
        self.name = name
        self.macs = macs or [mac_of(name) if name in ROOMS else fresh_mac()]
        self.seed = seed or name
        self.claim = secrets.token_urlsafe(32)
        self.boot = str(uuid.uuid4())
        self.counter = 0
        self.id = self.secret = None

    def enrol(self, client, token=None, **more):
        body = {"hostname": self.name, "macs": self.macs, "host_keys": [host_key(self.seed)], "claim": self.claim}
        if token:
            body["token"] = token["Authorization"].removeprefix("Bearer ")
        answer = client.post("/v1/enrolments", json={**body, **more})
        if answer.status_code in (201, 202):
            self.id, self.secret = answer.json()["id"], answer.json()["secret"] or self.secret
        return answer

    def body(self, **more):
        return {
            "station": self.name, "hostname": self.name, "addresses": ["10.0.0.9"], "macs": self.macs,
            "boot_id": self.boot, "uptime": 5.0, "time": time.time(), "agent_version": "1", "interval": 5, **more,
        }  # fmt: skip

    def headers(self, content, at=None, path="/v1/hello", **more):
        values = {"time": time.time() if at is None else at, "boot": self.boot, "counter": self.counter, **more}
        return hello_signature.sign(bytes.fromhex(self.secret), self.id, "POST", path, content, **values)

    def hello(self, client, at=None, **more):
        self.counter += 1
        content = json.dumps(self.body(**more)).encode()
        return client.post("/v1/hello", content=content, headers=self.headers(content, at))

    def reboot(self):
        self.boot, self.counter = str(uuid.uuid4()), 0


def put(database, registry_secret, name="hall-a-cam", **more):
    """A machine that is enrolled already, put into a database; `registry_secret` derives its secret."""
    machine = Machine(name, **more)
    machine.id = str(uuid.uuid4())
    machine.secret = registry_secret(machine.id, 1)
    with database.writing() as session:
        session.add(
            Station(
                id=machine.id, name=name, enrolment="enrolled", macs=machine.macs, hostname=name,
                host_keys=[host_key(name)], claim_hash=None, claimed_at=now(), asked_at=now(), secret_number=1,
                rotating=False, created_at=now(), left_boots=[], counter=0, said={},
            )
        )  # fmt: skip
    return machine


def put_served(served, name="hall-a-cam", **more):
    """A machine put into the database of a manager that is a process of its own."""
    from api.registry import Registry

    database = Database(f"sqlite:///{served.data}/manager.db")
    settings = SimpleNamespace(data=served.data)
    registry = Registry(
        SimpleNamespace(database=database, settings=settings, started_at=0), (served.data / "station-key").read_text()
    )
    try:
        return put(database, registry.secret, name, **more)
    finally:
        database.close()
