"""A message: what is sent to a topic, the same in every instance and on the bus."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

FORWARDED = ("trigger-time", "link", "message-id")
"""Headers of a SEND that go on to the subscribers; all others are dropped."""


@dataclass(frozen=True, slots=True)
class Message:
    """`topic` is whole and converted (`/topic/fm/ce1/c221/09580/image`), `body` as it was sent.

    `headers` hold what subscribers get besides their destination, always with `message-id` and `when`.
    """

    topic: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def id(self) -> str:
        """The header `message-id`."""
        return self.headers["message-id"]

    @property
    def when(self) -> float:
        """Seconds since 1970 at which it was published; 0 for a header that is no number."""
        try:
            return float(self.headers.get("when", "0"))
        except ValueError:
            return 0.0


def new(topic: str, body: bytes, headers: Mapping[str, str] | None = None) -> Message:
    """Return a message that is published now: with `when`, and with a `message-id` unless it is given one."""
    given = {key: value for key, value in (headers or {}).items() if value != ""}
    return Message(topic, body, {"when": str(int(time.time())), "message-id": str(uuid.uuid4()), **given})
