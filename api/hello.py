"""What a station says in a hello; nothing of it is trusted for its length, or for more than data.

The agent cuts what is longer, so that only a broken or foreign sender is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

BOOT_ID = r"^[0-9a-f-]{8,36}$"
MAC = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"

Word = Annotated[str, Field(max_length=64)]
Name = Annotated[str, Field(max_length=255)]
Text = Annotated[str, Field(max_length=1000)]
Mac = Annotated[str, Field(pattern=MAC)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
Figure = float | Annotated[str, Field(max_length=500)] | None


class Said(BaseModel):
    """Base of all parts of a hello. Unknown members are dropped: a newer agent can speak to an older manager."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


class Held(Said):
    """A change that waits, and why."""

    unit: Name
    reason: Text


class Stop(Said):
    """Who stopped a unit, and until when (seconds since 1970; None: until it is started)."""

    who: Name
    since: Word
    until: float | None = None


class Pin(Said):
    """The generation that the station was rolled back to and keeps."""

    generation: int
    reason: Text = ""
    who: Name = ""
    since: Word = ""


class Failed(Said):
    """The bundle that did not become ready on the station, and the unit that was the reason."""

    hash: Hash | None = None
    at: Word = ""
    unit: Name = ""
    why: Text = ""


class State(Said):
    """What `state.json` and the on-air file of the station say."""

    held: Annotated[list[Held], Field(max_length=200)] = []
    stopped: Annotated[dict[Name, Stop], Field(max_length=200)] = {}
    pinned: Pin | None = None
    failed: Failed | None = None
    on_air_until: float | None = None
    """Seconds since 1970, null off air."""


class Unit(Said):
    """A unit as systemd sees it. `healthy`: it runs, or ran to its end, with the configuration that it should have."""

    active: Word
    sub: Word = ""
    since: float | None = None
    result: Word = ""
    restarts: int = 0
    status: Text = ""
    healthy: bool = False
    live: bool = False
    masked: bool = False


class Failure(Said):
    """The end of a unit's process that was no success."""

    unit: Name
    time: float
    result: Word = ""
    code: Word = ""
    status: Word = ""


class Disk(Said):
    """The disk of the media, in bytes; hours until it is full at the present rate, if anything records."""

    free: int
    size: int
    hours_left: float | None = None


class Generation(Said):
    """A bundle as it was applied, which the station keeps to go back to."""

    number: int
    applied: Hash | None = None
    """Of the bundle; null, as are the others, if its manifest cannot be read."""
    revision: Name | None = None
    """Of the inventory."""
    at: float | None = None
    """When it was put there, in seconds since 1970 by the station's clock."""
    good: bool = False
    """Whether its units ever became ready."""


class Hello(Said):
    """A station's registration and heartbeat in one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "station": "hall-a-cam",
                    "hostname": "hall-a-cam",
                    "addresses": ["10.83.0.17"],
                    "macs": ["02:00:00:00:01:0a"],
                    "boot_id": "6f0e3d5a-4c0b-4a0e-9a1f-7f6f2b110b6f",
                    "uptime": 312.5,
                    "time": 1763690000.5,
                    "applied": "9f2c",
                    "generation": 3,
                    "generations": [
                        {"number": 3, "applied": "9f2c", "revision": "5d41e0c", "at": 1763689000.0, "good": True}
                    ],
                    "integrity": True,
                    "roles": {"ingest": {"main": None}},
                    "units": {"stationmaster-ingest@main.service": {"active": "active", "healthy": True}},
                    "disk": {"free": 41000000000, "size": 64000000000, "hours_left": 11.5},
                    "agent_version": "1",
                    "interval": 5,
                }
            ]
        }
    )

    station: Name
    """Its name in the inventory, as it was told; which station it is follows from the signature."""
    hostname: Name
    addresses: Annotated[list[Word], Field(max_length=64)] = []
    macs: Annotated[list[Mac], Field(max_length=64)]
    boot_id: Annotated[str, Field(pattern=BOOT_ID)]
    uptime: float
    time: float
    applied: Hash | None = None
    generation: int = 0
    generations: Annotated[list[Generation], Field(max_length=50)] = []
    """Those that it can go back to, and the current one; newest first."""
    wanted: Hash | None = None
    revision: Name | None = None
    integrity: bool | None = None
    state: State = State()
    roles: Annotated[dict[Word, Annotated[dict[Word, float | None], Field(max_length=100)]], Field(max_length=100)] = {}
    blocked_roles: Annotated[list[Word], Field(max_length=100)] = []
    units: Annotated[dict[Name, Unit], Field(max_length=200)] | None = None
    """None if systemd could not be asked, and before the first apply."""
    failures: Annotated[list[Failure], Field(max_length=50)] = []
    disk: Disk | None = None
    load: Annotated[list[float], Field(max_length=3)] = []
    clock_offset: float | None = None
    figures: Annotated[
        dict[Annotated[str, Field(max_length=129)], Annotated[dict[Word, Figure], Field(max_length=40)]],
        Field(max_length=200),
    ] = {}
    agent_version: Word = ""
    shutdown: bool = False
    interval: float | None = None


class HelloAnswer(BaseModel):
    """When to come again, and what was seen; never configuration, never an order."""

    next_hello_after: float
    """Seconds; spread, so that stations which boot together do not stay together."""
    server_time: float
    """Seconds since 1970."""
    seen_address: str
    state: Literal["unassigned", "waiting", "new", "ready", "held", "drifted", "failed"]
