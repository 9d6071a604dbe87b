"""What a record shows: status.json beside the media, the unit's status line, and metrics."""

from __future__ import annotations

import logging
import time
from typing import Any

from station import disk, files, notify
from station.config import Config, Source
from station.index import Segment
from station.media import MediaFolder
from station.metrics import Metrics
from station.retention import Policy
from station.utc import from_text, to_text

log = logging.getLogger(__name__)

PERIOD = 2.0
RATE_WINDOW = 300
"""Segments over which the source's rate is taken: ten minutes."""
NAMED = 5
"""Refused segments named in the status; the journal has all."""
PREFIX = "stationmaster_record_"


class Report:
    """Gathers the state and writes it out."""

    def __init__(self, config: Config, source: Source, rule: Policy) -> None:
        self.short = 0
        self._config = config
        self._source = source
        self._rule = rule
        self._state = "waiting"
        self._reason = "the source was not seen yet"
        self._since = time.time()
        self._full: str | None = None
        self._next = 0.0
        self._metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})

    def _change(self, state: str, reason: str) -> None:
        if state != self._state:
            log.info("%s%s", state, f": {reason}" if reason else "")
            self._state = state
            self._since = time.time()
        self._reason = reason

    def away(self, reason: str) -> None:
        """The source does not answer."""
        self._change("waiting", reason)

    def seen(self) -> None:
        """The source's index was read."""
        self._change("running", "")

    def kept(self) -> None:
        """A segment was kept, so the disk takes them."""
        self._full = None

    def full(self, error: OSError) -> None:
        """Our own disk does not take a segment."""
        if self._full is None:
            log.error("cannot keep a segment: %s", error)
        self._full = error.strerror or str(error)

    def stopped(self) -> None:
        """Say so to whoever reads the status line last."""
        notify.status("stopped")

    def write(self, media: MediaFolder, pending: list[Segment], refused: list[Segment]) -> None:
        """Write all three, every PERIOD seconds. Never raises for a disk."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD
        try:
            value = self._gather(media, pending, refused)
        except OSError as error:
            log.warning("no status: %s", error)
            return
        try:
            files.write_json(self._config.paths.data / "status.json", value)
        except OSError as error:
            # On a full disk the unit's status line and the metrics, which lie in memory, still tell.
            log.debug("cannot write status.json: %s", error)
        notify.status(self._line(value))
        self._measure(value)

    def _gather(self, media: MediaFolder, pending: list[Segment], refused: list[Segment]) -> dict[str, Any]:
        recent = media.index.segments[-RATE_WINDOW:]
        seconds = sum(segment.duration for segment in recent)
        space = disk.space(self._config.paths.data)
        on_disk = disk.report(
            space,
            self._rule.reserve(space.total),
            sum(segment.size for segment in recent) / seconds if seconds else 0.0,
            full=self._full is not None,
            warn_hours=self._rule.warn_hours,
        )
        warnings = []
        if self._full:
            warnings.append({"code": "disk_full", "message": f"the disk takes no segment ({self._full})"})
        elif on_disk["state"] == "low":
            text = f"the disk is full in {on_disk['hours_left']:.1f} hours at this rate"
            warnings.append({"code": "disk_low", "message": text})
        if self.short and not self._full:
            text = f"{self.short >> 20} MB short of the reserve, and no segment may go: none has a receipt"
            warnings.append({"code": "retention", "message": text})
        if refused:
            names = ", ".join(segment.name for segment in refused[:NAMED])
            text = f"{len(refused)} segments are not what the source's index promises: {names}"
            warnings.append({"code": "refused", "message": text})
        last = media.index.last
        return {
            "schema": 1,
            "role": self._config.role,
            "instance": self._config.instance,
            "station": self._config.station,
            "room": self._config.room,
            "state": self._state,
            "reason": self._reason,
            "since": to_text(self._since),
            "updated": to_text(time.time()),
            "source": {"name": self._source.name, "url": self._source.url},
            "behind": {
                "segments": len(pending),
                "seconds": round(sum(segment.duration for segment in pending), 3),
                "from": pending[0].utc if pending else None,
            },
            "refused": len(refused),
            "segments": {
                "count": len(media.index.segments),
                "last": last.name if last else None,
                "end": to_text(last.end) if last else None,
            },
            "disk": on_disk,
            "warnings": warnings,
        }

    def _measure(self, value: dict[str, Any]) -> None:
        metric = self._metrics
        metric.set(PREFIX + "running", value["state"] == "running", "1 if the source answers")
        metric.set(PREFIX + "segments", value["segments"]["count"], "Segments in the index")
        end = value["segments"]["end"]
        metric.set(PREFIX + "last_segment_seconds", from_text(end) if end else 0, "UTC of the end of the last segment")
        metric.set(PREFIX + "behind_segments", value["behind"]["segments"], "Segments still to fetch")
        metric.set(PREFIX + "behind_seconds", value["behind"]["seconds"], "Seconds of media still to fetch")
        metric.set(PREFIX + "refused", value["refused"], "Segments that are not what the index promises")
        metric.set(PREFIX + "disk_free_bytes", value["disk"]["free"], "Free space of the media's disk")
        metric.drop(PREFIX + "warning")
        for warning in value["warnings"]:
            metric.set(PREFIX + "warning", 1, "1 for each warning of status.json", code=warning["code"])
        metric.write()

    def _line(self, value: dict[str, Any]) -> str:
        if value["state"] == "running":
            behind = value["behind"]
            text = f"copying, {behind['seconds']:.0f} s behind" if behind["segments"] > 1 else "copying, up to date"
        else:
            text = f"waiting for its source: {value['reason']}"
        return text + "".join(f"; {warning['message']}" for warning in value["warnings"])
