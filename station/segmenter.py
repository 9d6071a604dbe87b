"""Writes cut segments to the disk, in a thread: a slow disk must not hold up the encoder.

What cannot be written yet waits in memory, for about a minute; then the oldest
is given up, said so, and the next listed segment is marked as a discontinuity.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from station import disk
from station.index import Segment
from station.media import MediaFolder
from station.receipts import Witnesses
from station.retention import Policy, plan
from station.transport import Cut
from station.utc import to_stamp, to_text

log = logging.getLogger(__name__)

WAITING = 30
"""Segments that wait in memory for a disk: a minute, some 60 MB at 8 Mbit/s."""
RETRY = 1.0
"""Seconds between two tries to write to a full disk."""
RETENTION_PERIOD = 20.0


def boot_id() -> str:
    """The id of this boot: systemd's word for it, because a unit with a /proc of its own sees a container's host."""
    told = os.environ.get("STATIONMASTER_BOOT_ID") or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(uuid.UUID(told))


@dataclass(frozen=True, slots=True)
class Job:
    """A cut segment, the UTC of its first frame, and whether it continues the one before."""

    cut: Cut
    utc: float
    discontinuity: bool


class Segmenter:
    """The writer of one ingest.

    `prefix` begins the names (`<room or station>_<instance>`), `rate` is the
    frame rate. The attributes are read by the main thread for the status.
    """

    def __init__(
        self,
        media: MediaFolder,
        prefix: str,
        rate: Fraction,
        policy: Policy,
        witnesses: Witnesses,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.media = media
        self.full: str | None = None
        self.lost = 0
        self.short = 0
        self.bytes_per_second = 0.0
        self.busy_since: float | None = None
        self._prefix = prefix
        self._rate = rate
        self._policy = policy
        self._witnesses = witnesses
        self._failed = failed
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._gap = False
        self._kept_at = 0.0
        self._deadline: float | None = None
        self._boot_id = boot_id()
        self._thread = threading.Thread(target=self._run, name="segmenter")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hand over a segment; never waits."""
        self._queue.put(job)

    @property
    def waiting(self) -> int:
        """Segments that are not written yet."""
        return self._queue.qsize()

    def stop(self, seconds: float) -> bool:
        """Write what is there and end, within so many seconds; False if the disk did not take it all."""
        self._deadline = time.monotonic() + seconds
        self._queue.put(None)
        self._thread.join(seconds + RETRY)
        return not self._thread.is_alive() and not self.full

    def _run(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # a writer that died unseen would lose everything from here on
            self._failed(error)
            raise

    def _write_all(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=RETENTION_PERIOD)
            except queue.Empty:
                self._retain()
                continue
            if job is None:
                return
            self.busy_since = time.monotonic()
            while not self._keep(job):
                if self._queue.qsize() > WAITING or (self._deadline and time.monotonic() > self._deadline):
                    self.lost += 1
                    self._gap = True
                    log.error("segment of %s lost: %s", to_text(job.utc), self.full)
                    break
                self._retain()
                time.sleep(RETRY)
            self.busy_since = None
            if time.monotonic() - self._kept_at > RETENTION_PERIOD:
                self._retain()

    def _keep(self, job: Job) -> bool:
        last = self.media.index.last
        # With no history the sequence begins at the clock: it then exceeds whatever a lost disk had counted.
        sequence = last.seq + 1 if last else int(job.utc) // 2
        stamp = to_stamp(job.utc)
        segment = Segment(
            name=f"{stamp[:8]}/{stamp[9:11]}/{self._prefix}_{stamp}_{sequence}.ts",
            seq=sequence,
            pts=round(job.cut.pts, 6),
            utc=to_text(job.utc),
            duration=round(float(job.cut.frames / self._rate), 6),
            frames=job.cut.frames,
            size=len(job.cut.data),
            sha256=hashlib.sha256(job.cut.data).hexdigest(),
            discontinuity=job.discontinuity or self._gap,
            boot_id=self._boot_id,
        )
        try:
            self.media.add(segment, job.cut.data)
        except OSError as error:
            if not self.full:
                log.error("cannot write %s: %s; it waits in memory", segment.name, error)
            self.full = error.strerror or str(error)
            return False
        if self.full:
            log.info("the disk takes segments again")
        self.full = None
        self._gap = False
        # A slow mean: minutes of scenery must not move the hours that are left.
        rate = segment.size / segment.duration
        self.bytes_per_second += (rate - self.bytes_per_second) * (0.05 if self.bytes_per_second else 1)
        return True

    def _retain(self) -> None:
        self._kept_at = time.monotonic()
        try:
            now = disk.space(self.media.folder)
            going = plan(
                self.media.index.segments,
                self._witnesses.receipts,
                self._witnesses.copies() if now.free < self._policy.reserve(now.total) else (),
                self._policy,
                free=now.free,
                total=now.total,
            )
            self.short = going.missing
            for segments, reason in ((going.receipted, "receipt"), (going.copied, "copy")):
                if segments:
                    freed = self.media.take_off(segments, reason)
                    log.info("removed %d segments (%s), %d MB freed", len(segments), reason, freed >> 20)
        except OSError as error:
            log.warning("retention: %s", error)
