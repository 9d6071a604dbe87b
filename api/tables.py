"""The tables of the manager's database. Times are seconds since 1970 in UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables; constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[dict[str, Any]]: JSON}  # noqa: RUF012


class Token(Base):
    """A bearer token, as its hash."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    room: Mapped[str | None] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class Audit(Base):
    """One change that somebody asked for."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(String(128))
    address: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    asked: Mapped[dict[str, Any]]
    resolved: Mapped[dict[str, Any]]
    result: Mapped[str] = mapped_column(Text)


class Station(Base):
    """A machine that said hello or was enrolled; which station of the inventory it is, is in `name`."""

    __tablename__ = "stations"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(64), unique=True)
    enrolment: Mapped[str] = mapped_column(String(16))
    """`waiting`, `enrolled`, `refused` or `replaced`; `unassigned` is one that is waiting and not in the inventory."""
    macs: Mapped[list[str]]
    hostname: Mapped[str] = mapped_column(String(255))
    host_keys: Mapped[list[str]]
    """Public SSH host keys that it brought at its enrolment; pinned once it is enrolled."""
    claim_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    """Hash of what a waiting station shows to fetch its secret."""
    claimed_at: Mapped[float | None]
    """When the secret was given for that claim, which then brings nothing more."""
    asked_at: Mapped[float]
    """When it last asked to be enrolled."""
    secret_number: Mapped[int] = mapped_column(default=1)
    """Which of the station's secrets is valid; they derive from the manager's key and are not stored."""
    rotating: Mapped[bool] = mapped_column(default=False)
    """Whether it may fetch its new secret with a signature by the one before."""
    accepted_by: Mapped[str | None] = mapped_column(String(128))
    created_at: Mapped[float]
    seen_at: Mapped[float | None]
    address: Mapped[str | None] = mapped_column(String(64))
    boot_id: Mapped[str | None] = mapped_column(String(36))
    left_boots: Mapped[list[str]] = mapped_column(default=list)
    """The boot ids before, oldest first: none of them may come again."""
    counter: Mapped[int] = mapped_column(BigInteger, default=0)
    rebooted_at: Mapped[float | None]
    shutdown_at: Mapped[float | None]
    said: Mapped[dict[str, Any]]
    """Its last hello."""


class Registration(Base):
    """What happened to a station's registration: enrolled, pushed, refused with the typed error, …"""

    __tablename__ = "registrations"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    station: Mapped[str] = mapped_column(ForeignKey("stations.id", ondelete="CASCADE"), index=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    result: Mapped[dict[str, Any]]


class Wanted(Base):
    """What a revision of the inventory wants a station to have."""

    __tablename__ = "wanted"

    station: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[str] = mapped_column(String(80), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64))
    at: Mapped[float]


class Sample(Base):
    """What a station said of itself in a minute, kept for hours (`api/history.py`)."""

    __tablename__ = "samples"

    station: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Its name in the inventory."""
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, index=True)
    """Start of the minute."""
    figures: Mapped[dict[str, Any]]
    """Names to numbers."""


class Run(Base):
    """One execution of a playbook."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    target: Mapped[dict[str, Any]]
    parameters: Mapped[dict[str, Any]]
    stations: Mapped[list[str]]
    """Names in the inventory; never empty."""
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    author: Mapped[str] = mapped_column(String(128))
    body_hash: Mapped[str] = mapped_column(String(64))
    """Of action, parameters and stations: runs with the same one do the same."""
    retry_of: Mapped[str | None] = mapped_column(String(26))
    folded_into: Mapped[str | None] = mapped_column(String(26))
    revision: Mapped[str | None] = mapped_column(String(80))
    dirty: Mapped[bool | None]
    created_at: Mapped[float] = mapped_column(index=True)
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    cancel_by: Mapped[str | None] = mapped_column(String(128))
    owner: Mapped[str | None] = mapped_column(String(64))
    """Id of the data folder, on whatever host, that has the run's files."""
    lease_until: Mapped[float | None]
    events: Mapped[int] = mapped_column(default=0)
    """Number of the last event; at the end, of all."""
    result: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_runs_queue", "state", "created_at"),)


class RunKey(Base):
    """What a caller named a request, so that a repeated one is answered with the same run."""

    __tablename__ = "run_keys"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Hash of author and idempotency key."""
    body_hash: Mapped[str] = mapped_column(String(64))
    """Of the request as it was sent."""
    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)


class RunLock(Base):
    """A station that a run has for itself, by its name and, if it is enrolled, also by its id."""

    __tablename__ = "run_locks"

    station: Mapped[str] = mapped_column(String(64), primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)


class RunEvent(Base):
    """One event of a run, numbered from 1 without gap."""

    __tablename__ = "run_events"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    station: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]


class Lock(Base):
    """A row that a process holds while it does what only one may do at a time, such as dispatching runs."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)


class Total(Base):
    """A number about runs that retention removed, so that what is counted only grows."""

    __tablename__ = "totals"

    metric: Mapped[str] = mapped_column(String(16), primary_key=True)
    action: Mapped[str] = mapped_column(String(16), primary_key=True)
    detail: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[float]


class Message(Base):
    """A slide or a text that was sent to a topic, as the fallback that watches the topics logged it."""

    __tablename__ = "messages"

    number: Mapped[int] = mapped_column(
        # SQLite counts up an INTEGER alone; PostgreSQL also counts up for what it had already and drops
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )  # fmt: skip
    topic: Mapped[str] = mapped_column(String(512))
    message_id: Mapped[str] = mapped_column(String(128))
    """Its header of that name; a longer one as its hash."""
    body: Mapped[str] = mapped_column(Text)
    headers: Mapped[dict[str, Any]]
    at: Mapped[float]
    """When it was sent."""
    source: Mapped[str] = mapped_column(String(160))
    """Instance that logged it, `station/instance`."""
    stored_at: Mapped[float]

    __table_args__ = (
        UniqueConstraint("topic", "message_id", name="uq_messages_topic"),
        Index("ix_messages_newest", "at", "number"),
        Index("ix_messages_of_topic", "topic", "at", "number"),
    )


class Override(Base):
    """A text that the crew puts on the screens of a room for some minutes; a room has one at a time."""

    __tablename__ = "overrides"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    room: Mapped[str] = mapped_column(String(64), index=True)
    text: Mapped[str] = mapped_column(Text)
    link: Mapped[str | None] = mapped_column(Text)
    since: Mapped[float]
    until: Mapped[float] = mapped_column(index=True)
    author: Mapped[str] = mapped_column(String(128))
    ended_at: Mapped[float | None]
    """When somebody ended it, or set another one; null for one that runs until its time is over."""
    shown_at: Mapped[dict[str, Any]]
    """Instance, `station/instance`, to the time at which it had it on its screens."""
