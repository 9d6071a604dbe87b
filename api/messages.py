"""The log of slides and texts: what was sent to which topic, kept for a while, the newest first."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from api.clock import now, told
from api.database import Database
from api.tables import Message

TOPIC, IDENTITY = 512, 128
"""Characters of a topic and of a message-id: four bytes each, they fit a row of PostgreSQL's indexes (2,704 bytes)."""
CURSOR = r"^[0-9]{1,12}(\.[0-9]{1,9})?_[0-9]{1,18}$"
_SURROGATE = re.compile("[\x00\ud800-\udfff]")


class MessageEntry(BaseModel):
    """A message that was sent to a topic."""

    topic: str
    body: str
    headers: dict[str, str]
    when: str | None
    """When it was sent."""
    source: str
    """Instance that logged it."""


class MessageList(BaseModel):
    """Messages, the newest first."""

    messages: list[MessageEntry]
    next: str | None
    """Ask with it as `before` for older ones; null if there are none."""


@dataclass(frozen=True)
class Search:
    """Which messages are looked for; times in seconds since 1970, texts in any case of letters."""

    topic: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None
    before: str | None = None
    """A `next` of an answer."""


def clean(text: str) -> str:
    """Return a text as every database takes it; bodies and message-ids may have any byte."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def entry(row: Message) -> MessageEntry:
    """Return a message as the API tells it."""
    return MessageEntry(topic=row.topic, body=row.body, headers=row.headers, when=told(row.at), source=row.source)


def store(database: Database, messages: Iterable[dict[str, Any]]) -> int:
    """Keep messages, each once however often it comes.

    Args:
        database: where.
        messages: each with `topic`, `body`, `headers`, `when` (seconds since 1970) and `source`. One without the
            header `message-id` is the same as another with the same topic, time and body.

    Returns:
        How many were not known.
    """
    at = now()
    # in one order for all, so that two managers that are told the same never wait for each other's rows
    rows = sorted((_row(one, at) for one in messages), key=lambda row: (row["at"], row["topic"], row["message_id"]))
    if not rows:
        return 0
    with database.writing() as session:
        new = database.insert(Message).values(rows).on_conflict_do_nothing().returning(Message.number)
        return len(session.scalars(new).all())


def _row(message: dict[str, Any], at: float) -> dict[str, Any]:
    topic, body = clean(message["topic"])[:TOPIC], clean(message["body"])
    headers = {clean(name): clean(value) for name, value in message["headers"].items()}
    identity = headers.get("message-id") or f"{message['when']} {body}"
    if len(identity) > IDENTITY or "message-id" not in headers:
        identity = hashlib.sha256(identity.encode()).hexdigest()
    return {
        "topic": topic, "message_id": identity, "body": body, "headers": headers, "at": message["when"],
        "source": clean(message["source"]), "stored_at": at,
    }  # fmt: skip


def search(session: Session, wanted: Search, limit: int) -> MessageList:
    """Return the newest messages that have what is looked for."""
    asked = select(Message).order_by(Message.at.desc(), Message.number.desc())
    if wanted.topic:
        asked = asked.where(Message.topic.icontains(clean(wanted.topic), autoescape=True))
    if wanted.text:
        asked = asked.where(Message.body.icontains(clean(wanted.text), autoescape=True))
    if wanted.since is not None:
        asked = asked.where(Message.at >= wanted.since)
    if wanted.until is not None:
        asked = asked.where(Message.at <= wanted.until)
    if wanted.before is not None:
        at, _, number = wanted.before.partition("_")
        asked = asked.where(tuple_(Message.at, Message.number) < (float(at), int(number)))
    rows = list(session.scalars(asked.limit(limit + 1)))
    last = rows[limit - 1] if len(rows) > limit else None
    following = f"{last.at:.9f}".rstrip("0").rstrip(".") + f"_{last.number}" if last is not None else None
    return MessageList(messages=[entry(row) for row in rows[:limit]], next=following)


def last_of(session: Session, topic: str) -> Message | None:
    """Return the newest message of a topic; one look into an index."""
    newest = select(Message).where(Message.topic == topic).order_by(Message.at.desc(), Message.number.desc())
    return session.scalar(newest.limit(1))
