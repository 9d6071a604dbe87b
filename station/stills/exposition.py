"""The figures of an instance of stills for Prometheus: at `/metrics`, and in the instance's metrics file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from station import exposition
from station.metrics import Metrics
from station.stills.limits import Limits
from station.stills.settings import Settings
from station.stills.stream import Stream

PREFIX = "stationmaster_stills_"


class Exposition(exposition.Exposition):
    """The metrics of one instance."""

    def __init__(self, settings: Settings, streams: Sequence[Stream], limits: Limits) -> None:
        self._streams = streams
        self._limits = limits
        labels = {"role": "stills", "instance": settings.instance}
        super().__init__(Metrics(settings.metrics or Path("metrics.prom"), labels), self._now)

    def _now(self) -> None:
        put, limits = self._metrics.set, self._limits
        put(PREFIX + "places_taken", limits.clients, "Clients now, in whatever way")
        for stream in self._streams:
            ready = stream.state.word == "ready"
            put(PREFIX + "ready", ready, "1 unless the stream waits for its source", stream=stream.key)
            put(PREFIX + "viewers", stream.viewers, "Those who take the stream's pictures now", stream=stream.key)
        for (key, way), tally in limits.tallies.items():
            put(PREFIX + "clients", tally.clients, "Clients now, by stream and way", stream=key, way=way)
            totals = {
                "pictures_sent_total": (tally.sent, "Pictures sent"),
                "bytes_sent_total": (tally.bytes, "Bytes of pictures sent"),
                "skipped_total": (tally.skipped, "Pictures left out for clients that were too slow"),
            }
            for name, (value, text) in totals.items():
                put(PREFIX + name, value, text, kind="counter", stream=key, way=way)
        for why, count in limits.refused.items():
            put(PREFIX + "refused_total", count, "Clients and datagrams refused, by reason", kind="counter", why=why)
