"""The figures of an instance of visuals for Prometheus: at `/metrics`, and in the instance's metrics file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from station import exposition
from station.http_server import HttpServer
from station.metrics import Metrics
from station.visuals.service import Service

TOPICS = 200
"""Topics with a figure of their own, the busiest that were there first; a topic that has one keeps it, so that no
counter ever goes back. All others are counted together as `other`."""
OTHER = "other"
PREFIX = "stationmaster_visuals_"


class Counting(Protocol):
    """What counts events for the monitoring exchange (events.py)."""

    sent: int
    dropped: int


class Exposition(exposition.Exposition):
    """The metrics of one instance.

    Args:
        service: whose figures they are.
        metrics: where they are put together; its path is the file.
        events: the monitoring events.
    """

    def __init__(self, service: Service, metrics: Metrics, events: Counting | None = None) -> None:
        super().__init__(metrics, self._now)
        self._service = service
        self._events = events
        self._named: set[str] = set()
        self.http: HttpServer | None = None

    def _now(self) -> None:
        service, counters = self._service, self._service.counters
        gauges = {
            "clients": (
                len(service.connections),
                "Clients that are connected; by HTTP only their streams",
            ),
            "subscriptions": (service.hub.subscriptions, "Subscriptions now"),
            "lagging": (len(service.flusher.lagging), "Clients whose queue is more than half full"),
            "bus_connected": (service.bus.connected(), "1 while the log of messages can be reached"),
            "bus_caught_up": (service.bus.caught_up(), "1 once all that was in the log at the start is delivered"),
        }
        totals = {
            "connections_total": (counters.connections, "Clients that came"),
            "disconnections_total": (counters.disconnections, "Clients that went"),
            "subscriptions_total": (counters.subscriptions, "Subscriptions made"),
            "unsubscriptions_total": (counters.unsubscriptions, "Subscriptions ended"),
            "published_total": (counters.published, "Messages that clients of this instance sent"),
            "deliveries_total": (service.hub.delivered, "Messages handed to subscribers"),
            "received_bytes_total": (counters.bytes_in, "Bytes from STOMP clients"),
            "sent_bytes_total": (counters.bytes_out, "Bytes to STOMP clients"),
            "errors_total": (counters.errors, "ERROR frames"),
            "http_requests_total": (self.http.requests if self.http else 0, "HTTP requests"),
        }
        if self._events:
            totals["events_sent_total"] = (self._events.sent, "Monitoring events sent")
            totals["events_dropped_total"] = (self._events.dropped, "Monitoring events dropped: their broker is away")
        for name, (value, text) in gauges.items():
            self._metrics.set(PREFIX + name, value, text)
        for name, (value, text) in totals.items():
            self._metrics.set(PREFIX + name, value, text, kind="counter")
        self._by_label("dropped_total", "Clients dropped", "reason", counters.dropped.items())
        by_http = self.http.guard.refused if self.http else {}
        refused = {**counters.refused, **{f"http_{key}": count for key, count in by_http.items()}}
        self._by_label("refused_total", "Connections, logins and messages refused", "reason", refused.items())
        self._by_label("messages_total", "Messages by topic", "topic", self._topics().items())

    def _by_label(self, name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> None:
        for key, value in values:
            self._metrics.set(PREFIX + name, value, text, kind="counter", **{label: key})

    def _topics(self) -> dict[str, int]:
        counted = self._service.counters.messages
        for topic, _ in counted.most_common():
            if len(self._named) >= TOPICS:
                break
            if topic != OTHER:
                self._named.add(topic)
        found = {topic: counted[topic] for topic in self._named}
        rest = counted.total() - sum(found.values())
        return {**found, **({OTHER: rest} if rest else {})}
