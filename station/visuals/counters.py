"""What an instance counts; the figures of the metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TOPICS = 1000
"""Topics that are counted one by one; what comes beyond is counted as OTHER."""
OTHER = "other"


@dataclass(slots=True)
class Counters:
    """Totals since the start.

    `connections`, `messages_in` (by topic, from the bus), `published` (by this instance's clients), `dropped` and
    `refused` (by reason), `subscriptions` and `unsubscriptions`; bytes are of STOMP over TCP and TLS.
    """

    connections: int = 0
    disconnections: int = 0
    subscriptions: int = 0
    unsubscriptions: int = 0
    published: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def message(self, topic: str) -> None:
        """Count a message of the bus."""
        self.messages[topic if topic in self.messages or len(self.messages) < TOPICS else OTHER] += 1
