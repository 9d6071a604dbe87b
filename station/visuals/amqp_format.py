"""Messages as they travel over RabbitMQ: the headers of the original, so that its instances may take part."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from aiormq import spec
from aiormq.abc import DeliveredMessage

from station.visuals.amqp_link import offset_of
from station.visuals.bus import Entry
from station.visuals.message import Message

log = logging.getLogger(__name__)
REFRESH = "x-refresh"
"""AMQP header of an entry that repeats a last value; it goes to the stream alone, never to the exchange."""
PERSISTENT = 2
"""AMQP 0.9.1, delivery-mode."""
_BREAKS = str.maketrans("\r\n\0", "   ")


def properties(message: Message, refresh: bool) -> spec.Basic.Properties:
    """Return the AMQP properties of a message: `topic`, `when` as a number, and what subscribers get."""
    headers: dict[str, Any] = dict(message.headers)
    if headers.get("when", "").isdecimal():
        headers["when"] = int(headers["when"])
    headers["topic"] = message.topic
    if refresh:
        headers[REFRESH] = True
    # A property that is new with each attempt: message-ids may come again, in a log made anew at the same place.
    return spec.Basic.Properties(headers=headers, delivery_mode=PERSISTENT, message_id=uuid.uuid4().hex)


def entry(delivery: DeliveredMessage) -> Entry | None:
    """Return what was delivered; None, with a warning, without a header `topic`."""
    headers = {_text(key): value for key, value in (delivery.header.properties.headers or {}).items()}
    offset = offset_of(delivery)
    topic = _text(headers.pop("topic", ""))
    if not topic:
        log.warning("a message without a topic is ignored (%d bytes, offset %d)", len(delivery.body), offset)
        return None
    refresh = bool(headers.pop(REFRESH, False))
    told = {
        key: _text(value)
        for key, value in headers.items()
        if not key.startswith("x-stream-") and not isinstance(value, dict | list) and value is not None
    }
    mark = _text(delivery.header.properties.message_id or told.get("message-id", ""))
    told.setdefault("message-id", f"{mark or 'offset'}-{offset}")
    told.setdefault("when", str(int(time.time())))
    return Entry(offset, Message(topic, bytes(delivery.body), told), refresh, mark)


def _text(value: Any) -> str:
    """Return a header of AMQP as one of STOMP 1.0, which knows no escapes: without line breaks."""
    text = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
    return text.translate(_BREAKS)
