"""The registry: which machines there are, who they are, and what they last said.

The database is the truth, so that several managers agree; kept in memory is only what checks a signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api import station_state
from api.clock import now
from api.hello import Hello
from api.hello_writer import Entry, HelloWriter, Outcome
from api.problems import Problem
from api.station_view import StationView, view_of
from api.tables import Registration, Station
from station import hello_signature

if TYPE_CHECKING:
    from api.manager import Manager

log = logging.getLogger("stationmaster.registry")

REGISTRATIONS_KEPT = 200
"""Entries of a station's history that are kept."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs: id, name, the number of the secret, the secret, and the machine's addresses."""

    id: str
    name: str | None
    secret_number: int
    secret: bytes
    macs: frozenset[str]
    rotating: bool


class Registry:
    """What is known of the stations. `key` is the manager's own secret, from which theirs derive."""

    def __init__(self, manager: Manager, key: str) -> None:
        self._manager = manager
        self._key = key.encode()
        self.database = manager.database
        self._identities: dict[str, Identity] = {}
        self._callbacks: list[Callable[[StationView], None]] = []
        self._writer = HelloWriter(manager.database)
        self.settings = manager.settings
        self.started_at = manager.started_at
        self.ssh_key = manager.settings.data / "ssh" / "id_ed25519"
        """The manager's private SSH key; an accepted station gets the public one."""

    def start(self) -> None:
        """Begin to take hellos."""
        if not self.ssh_key.exists():
            _make_ssh_key(self.ssh_key)
        self._writer.start()

    def stop(self) -> None:
        """Write what came, and end."""
        self._writer.stop()

    # --- secrets

    def secret(self, station: str, number: int) -> str:
        """Return a station's secret of a number, in hexadecimal; it derives from the manager's key."""
        return hmac.new(self._key, f"{station}\n{number}".encode(), hashlib.sha256).hexdigest()

    def identity(self, station: str) -> Identity | None:
        """Return who signs under an id, from memory."""
        return self._identities.get(station)

    def load_identity(self, station: str) -> Identity | None:
        """Return who signs under an id, from the database; None for a machine that is not enrolled."""
        with self.database.reading() as session:
            row = session.get(Station, station)
        if row is None or row.enrolment != "enrolled":
            self._identities.pop(station, None)
            return None
        secret = bytes.fromhex(self.secret(row.id, row.secret_number))
        found = Identity(row.id, row.name, row.secret_number, secret, frozenset(row.macs), row.rotating)
        self._identities[station] = found
        return found

    def forget_identity(self, station: str) -> None:
        """Have the next hello of a station look into the database."""
        self._identities.pop(station, None)

    @property
    def public_key(self) -> str:
        """The line for a station's `authorized_keys`."""
        return self.ssh_key.with_suffix(".pub").read_text().strip()

    # --- hellos

    async def take(
        self, identity: Identity, signed: hello_signature.Signed, hello: Hello, address: str
    ) -> tuple[Outcome, StationView]:
        """Store a hello durably; return what became of it, and the station.

        Raises:
            Problem: 503 if the database did not take it.
        """
        loop = asyncio.get_running_loop()
        entry = Entry(
            id=identity.id, secret_number=identity.secret_number, boot=signed.boot, counter=signed.counter, at=now(),
            address=address, said=hello.model_dump_json(), plain=hello.model_dump(), shutdown=hello.shutdown,
            view=self._tell, loop=loop, answered=loop.create_future(),
        )  # fmt: skip
        self._writer.submit(entry)
        outcome = await entry.answered
        if outcome in ("unknown", "rotated"):
            self.forget_identity(identity.id)
        return outcome, self._view_after(entry, identity)

    def _view_after(self, entry: Entry, identity: Identity) -> StationView:
        return StationView(
            registry=self, id=entry.id, name=identity.name, enrolment="enrolled", macs=tuple(sorted(identity.macs)),
            seen_at=entry.at, address=entry.address, boot_id=entry.boot, told=entry.plain,
            rebooted_at=entry.at if entry.rebooted else None, shutdown_at=entry.at if entry.shutdown else None,
        )  # fmt: skip

    def _tell(self, entry: Entry) -> None:
        identity = self._identities.get(entry.id)
        if identity is None:
            return
        view = self._view_after(entry, identity)
        for callback in self._callbacks:
            try:
                callback(view)
            except Exception:
                log.exception("a subscriber of hellos failed")

    def subscribe(self, callback: Callable[[StationView], None]) -> None:
        """Have `callback` called after each stored hello, in the writer's thread: it must not block."""
        self._callbacks.append(callback)

    # --- what the inventory says, as far as it can be asked

    def _event(self) -> Any | None:
        inventory = getattr(self._manager, "inventory", None)
        if inventory is None:
            return None
        try:
            return inventory.current()
        except Problem:
            return None

    def assigned(self, name: str | None) -> bool | None:
        """Return whether the inventory has a station; None if it cannot be asked."""
        snapshot = self._event()
        if snapshot is None:
            return None
        return name is not None and name in snapshot.event.stations

    def room_of(self, name: str | None) -> str | None:
        """Return the room of a station; None for a service, an unknown one, or an inventory that cannot be asked."""
        snapshot = self._event()
        if snapshot is None or name not in snapshot.event.stations:
            return None
        room: str | None = snapshot.room_of(name)
        return room

    def wanted_of(self, name: str | None) -> str | None:
        """Return the hash that is wanted of a station, as far as it is known."""
        inventory = getattr(self._manager, "inventory", None)
        if inventory is None or name is None:
            return None
        try:
            wanted: str | None = inventory.wanted_of(name)
        except Problem:
            return None
        return wanted

    def claimed_by(self, hostname: str, macs: list[str]) -> str | None:
        """Return the station of the inventory that a machine is: by a MAC address, else by its host name."""
        snapshot = self._event()
        if snapshot is None:
            return None
        stations = snapshot.event.stations
        for name, station in stations.items():
            if station.mac and station.mac in macs:
                return str(name)
        return hostname if hostname in stations else None

    def moved(self, identity: Identity, macs: list[str]) -> bool:
        """Return whether the inventory gives one of the MAC addresses to the station: its network card was changed."""
        snapshot = self._event()
        station = snapshot.event.stations.get(identity.name) if snapshot is not None else None
        return bool(station and station.mac and station.mac in macs)

    # --- views

    def _view(self, row: Station) -> StationView:
        return view_of(self, row, lambda row: self.claimed_by(row.hostname, row.macs))

    def view(self, name: str) -> StationView | None:
        """Return the machine that is enrolled as a station of the inventory, or None."""
        with self.database.reading() as session:
            row = session.scalar(select(Station).where(Station.name == name, Station.enrolment == "enrolled"))
        return self._view(row) if row is not None else None

    def machine(self, identity: str) -> StationView | None:
        """Return a machine by its id, whatever its enrolment."""
        with self.database.reading() as session:
            row = session.get(Station, identity)
        return self._view(row) if row is not None else None

    def views(self) -> list[StationView]:
        """Return all stations of the inventory and all machines, waiting ones too; those with a name first, by it."""
        with self.database.reading() as session:
            rows = session.scalars(select(Station).where(Station.enrolment != "replaced")).all()
        views = [self._view(row) for row in rows]
        snapshot = self._event()
        there = {view.name for view in views}
        if snapshot is not None:
            absent = (name for name in snapshot.event.stations if name not in there)
            views += [StationView(self, None, name, "waiting") for name in absent]
        return sorted(views, key=lambda view: (view.name is None, view.name or view.claims or "", view.id or ""))

    def ids(self) -> dict[str, str]:
        """Return the id of each enrolled station by its name, in one look at the database."""
        query = select(Station.name, Station.id).where(Station.enrolment == "enrolled")
        with self.database.reading() as session:
            return {name: identity for name, identity in session.execute(query) if name is not None}

    def all_in_order(self, wanted: Mapping[str, str]) -> set[str]:
        """Return the stations where an apply has nothing to do, by their hellos, in one look at the database.

        Args:
            wanted: the hash that an apply would bring, by station.
        """
        if not wanted:
            return set()
        query = select(Station.name, Station.seen_at, Station.said).where(Station.enrolment == "enrolled")
        with self.database.reading() as session:
            rows = session.execute(query).all()
        at, interval = now(), self.settings.hello_interval
        return {
            name
            for name, seen_at, said in rows
            if name in wanted and seen_at and station_state.in_order(said, wanted[name], at - seen_at, interval)
        }

    # --- the record

    def note(self, name: str, kind: str, result: dict[str, Any]) -> None:
        """Write onto the record of the machine that is enrolled as a station; without one there is none."""
        with self.database.writing() as session:
            station = session.scalar(select(Station.id).where(Station.name == name))
            if station is not None:
                record(session, station, kind, result)

    @property
    def known_hosts(self) -> Path:
        """The file with the host keys that were pinned at enrolment, as they are now.

        A station is in it under its name and its address of the inventory.
        """
        path = self.settings.data / "known_hosts"
        with self.database.reading() as session:
            rows = session.execute(
                select(Station.name, Station.host_keys).where(Station.enrolment == "enrolled").order_by(Station.name)
            ).all()
        snapshot = self._event()
        stations = snapshot.event.stations if snapshot is not None else {}
        lines = []
        for name, keys in rows:
            address = stations[name].address if name in stations else None
            names = ",".join(dict.fromkeys(one for one in (name, address) if one))
            lines += [f"{names} {key}\n" for key in keys]
        text = "".join(lines)
        if not path.exists() or path.read_text() != text:
            staged = path.with_name(f"known_hosts.{os.getpid()}.new")
            staged.write_text(text)
            staged.replace(path)
        return path


def record(session: Session, station: str, kind: str, result: dict[str, Any]) -> None:
    """Write onto a machine's record, in the transaction of what happened; the oldest entries go."""
    session.add(Registration(station=station, at=now(), kind=kind, result=result))
    session.flush()
    newest = (
        select(Registration.id)
        .where(Registration.station == station)
        .order_by(Registration.id.desc())
        .offset(REGISTRATIONS_KEPT)
        .limit(1)
    )
    last = session.scalar(newest)
    if last is not None:
        session.execute(delete(Registration).where(Registration.station == station, Registration.id <= last))


def _make_ssh_key(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.parent.mkdir(mode=0o700, exist_ok=True)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b" stationmaster-manager\n")
    staged = path.with_suffix(".new")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    staged.write_bytes(private)
    staged.replace(path)
