"""What an ingest shows: status.json beside the media, the unit's status line, and metrics."""

from __future__ import annotations

import logging
import time
from typing import Any

from station import disk, files, levels, notify
from station.config import Config
from station.encoder import Encoder
from station.exits import Ending
from station.ffmpeg_args import Plan
from station.media import MediaFolder
from station.metrics import Metrics
from station.retention import Policy
from station.segmenter import Segmenter
from station.utc import to_text

log = logging.getLogger(__name__)

SLOW = 0.95
"""Below this speed the encoder cannot follow its source; 5 % is more than any measurement noise over 10 s."""
PREFIX = "stationmaster_ingest_"


class Report:
    """Gathers the state and writes it out; the main thread's."""

    def __init__(self, config: Config, plan: Plan, media: MediaFolder, segmenter: Segmenter, rule: Policy) -> None:
        self._config = config
        self._plan = plan
        self._media = media
        self._segmenter = segmenter
        self._rule = rule
        self._state = "waiting"
        self._reason = "no frame yet"
        self._since = time.time()
        self._restarts = 0
        self._frames = 0
        self._had = bool(media.index.segments)
        self._metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})

    def begun(self) -> bool:
        """Whether a segment was recorded before this one; the very first continues nothing and breaks nothing."""
        had, self._had = self._had, True
        return had

    def state(self, state: str, reason: str) -> None:
        """waiting, running, failing or stopped, and why."""
        if state != self._state:
            self._state = state
            self._since = time.time()
        self._reason = reason

    def ended(self, ending: Ending) -> None:
        """The encoder ended on its own: the source is away, or something is wrong."""
        self._restarts += 1
        waiting = ending.kind in ("absent", "ended", "stopped")
        self.state("waiting" if waiting else "failing", ending.reason)

    def _warnings(self, encoder: Encoder | None, space: dict[str, Any], after: float) -> list[dict[str, str]]:
        found = []
        if space["state"] == "full":
            waiting = self._segmenter.waiting + 1
            text = f"the disk takes no segment ({self._segmenter.full}): {waiting} wait in memory"
            found.append({"code": "disk_full", "message": text})
        elif space["state"] == "low":
            text = f"the disk is full in {space['hours_left']:.1f} hours at this rate"
            found.append({"code": "disk_low", "message": text})
        if self._segmenter.short and space["state"] != "full":
            text = (
                f"{self._segmenter.short >> 20} MB short of the reserve, and no segment may go: "
                "none has a receipt or a verified copy"
            )
            found.append({"code": "retention", "message": text})
        if self._segmenter.lost:
            text = f"{self._segmenter.lost} segments were lost because the disk did not take them"
            found.append({"code": "lost", "message": text})
        if encoder is None or not encoder.running:
            return found
        found += levels.warnings(encoder.levels, time.monotonic(), after)
        speed = encoder.speed()
        if speed is not None and speed < SLOW:
            text = f"the encoder reaches {speed:.2f} of the source's speed: choose a faster preset or a smaller size"
            found.append({"code": "slow", "message": text})
        wanted = self._plan.tracks
        for track in wanted or ():
            if track not in encoder.tracks:
                text = f"the source has no audio stream {track.stream} for track {track.label!r}"
                found.append({"code": "track_missing", "message": text})
        taken = {track.stream for track in encoder.tracks}
        spare = [at for at in range(encoder.source_tracks or 0) if at not in taken]
        if wanted is not None and spare:
            text = f"the source's audio streams {', '.join(map(str, spare))} are not recorded"
            found.append({"code": "track_unused", "message": text})
        return found

    def _gather(self, encoder: Encoder | None, after: float) -> dict[str, Any]:
        now = time.monotonic()
        running = encoder is not None and encoder.running
        space = disk.space(self._config.paths.data)
        on_disk = disk.report(
            space,
            self._rule.reserve(space.total),
            self._segmenter.bytes_per_second,
            full=self._segmenter.full is not None,
            warn_hours=self._rule.warn_hours,
        )
        speed = encoder.speed() if encoder and running else None
        tracks = [level.report(at, now) for at, level in enumerate(encoder.levels)] if encoder and running else []
        last = self._media.index.last
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
            "source": {"type": self._config.option("source.type", str), "name": self._plan.input.name},
            "video": {"size": self._plan.size, "rate": str(self._plan.rate), "bitrate": self._plan.bitrate},
            "fps": None if speed is None else round(speed * float(self._plan.rate), 2),
            "speed": None if speed is None else round(speed, 3),
            "dropped": int((encoder.statistics.get("drop_frames") if encoder else None) or 0),
            "duplicated": int((encoder.statistics.get("dup_frames") if encoder else None) or 0),
            "restarts": self._restarts,
            "segments": {
                "count": len(self._media.index.segments),
                "last": last.name if last else None,
                "end": to_text(last.end) if last else None,
                "waiting": self._segmenter.waiting,
                "lost": self._segmenter.lost,
            },
            "loudness": {key: tracks[0][key] for key in ("momentary", "short_term", "integrated")} if tracks else None,
            "audio": tracks,
            "disk": on_disk,
            "warnings": self._warnings(encoder, on_disk, after),
        }

    def write(self, encoder: Encoder | None, after: float) -> None:
        """Write all three; `after` is how long silence may last (s). Never raises for a disk."""
        try:
            value = self._gather(encoder, after)
        except OSError as error:
            log.warning("no status: %s", error)
            return
        try:
            files.write_json(self._config.paths.data / "status.json", value)
        except OSError as error:
            # On a full disk the unit's status line and the metrics, which lie in memory, still tell.
            log.debug("cannot write status.json: %s", error)
        notify.status(line(value))
        self._measure(value)

    def _measure(self, value: dict[str, Any]) -> None:
        metric = self._metrics
        metric.set(PREFIX + "running", value["state"] == "running", "1 if frames come")
        metric.set(PREFIX + "restarts_total", value["restarts"], "Ends of the encoder", kind="counter")
        metric.set(PREFIX + "segments", value["segments"]["count"], "Segments in the index")
        metric.set(PREFIX + "segments_lost_total", value["segments"]["lost"], "Segments lost", kind="counter")
        metric.set(PREFIX + "segments_waiting", value["segments"]["waiting"], "Segments not written yet")
        last = self._media.index.last
        metric.set(PREFIX + "last_segment_seconds", last.end if last else 0, "UTC of the end of the last segment")
        metric.set(PREFIX + "speed", value["speed"] or 0, "Seconds of media per second")
        metric.set(PREFIX + "disk_free_bytes", value["disk"]["free"], "Free space of the media's disk")
        for name in ("loudness_lufs", "silent_seconds", "warning"):
            metric.drop(PREFIX + name)
        for track in value["audio"]:
            label = track["label"]
            metric.set(PREFIX + "loudness_lufs", track["short_term"], "Short-term loudness (EBU R 128)", track=label)
            metric.set(PREFIX + "silent_seconds", track["silent_for"], "Seconds since it was heard", track=label)
        for warning in value["warnings"]:
            metric.set(PREFIX + "warning", 1, "1 for each warning of status.json", code=warning["code"])
        metric.write()


def line(value: dict[str, Any]) -> str:
    """The one line for `systemctl status`."""
    if value["state"] == "running":
        fps = "" if value["fps"] is None else f" {value['fps']:.1f} fps"
        loudness = "" if value["loudness"] is None else f", {value['loudness']['short_term']:.0f} LUFS"
        text = f"running{fps}{loudness}"
    elif value["state"] == "waiting":
        text = f"waiting for its source: {value['reason']}"
    else:
        text = f"{value['state']}: {value['reason']}"
    hours = value["disk"]["hours_left"]
    left = "" if hours is None else f", disk for {hours:.0f} h"
    warned = "".join(f"; {warning['message']}" for warning in value["warnings"])
    return text + left + warned
