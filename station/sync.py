"""The station role `sync`: raw segments go to a storage target, verified, with receipts.

Driven by the index alone: what it lists is whole, and what was missed in a cut
is simply not done yet. Segments go in batches; each batch ends with lines
in `index.jsonl` (what the target has, our memory too) and with a receipt. Run
it by hand as `python3 -m station.sync --config FILE`.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from station import config as configuration
from station import index, notify, utc
from station.beat import Beat, Stopped
from station.config import Config, ConfigError
from station.deliver import Conflict, Delivery, DeliveryError, Item, SourceDiffers
from station.download import ContentDiffers, SourceAway, SourceGone, fetch, join, need_space
from station.incoming import INCOMING
from station.index import IndexUnavailable, Segment
from station.rclone import RcloneError
from station.records import CopiedSegments, Failures, Receipts
from station.uplink import Uplink
from station.words import amount

log = logging.getLogger(__name__)
LARGEST_BATCH = 512 << 20
"""Bytes of a batch: what is in the spool, and what a failed verification sends again, at most."""
BATCH = 120
"""Seconds of media in a batch, unless the option `batch` says otherwise."""
CATCH_UP = 8
"""A batch may be so many times as long when there is more to do: fewer questions to the target."""
RESERVE = 1 << 30
"""Bytes that the spool leaves free: an ingest may record on the same disk."""
INDEX_RATE = 32 << 10
"""Bytes in a second that copies of the index may take on average: after a day it has 14 MB."""


class Sync:
    """Copies all segments of one source to one target."""

    def __init__(self, config: Config, beat: Beat) -> None:
        """Set all up. Raises ConfigError, OSError."""
        self._config = config
        self._beat = beat
        self._uplink = Uplink(config, beat)
        name = config.option("from", str)
        if name not in config.sources:
            raise ConfigError("options.from", f"is {name!r}; known are {', '.join(config.sources) or 'none'}")
        self._source = config.sources[name]
        self._batch = config.option("batch", int, BATCH)
        data = config.paths.data
        self._spool = data / "spool"
        self._receipts = Receipts(data / "receipts")
        self._failures = Failures(data / "failed.json", config.budget.input_timeout)
        self._reader = index.reader(self._source.path or self._source.url, config.budget.input_timeout)
        self._restarts = 0
        self._memory = CopiedSegments(data / index.INDEX)
        self._todo: dict[str, Segment] = {}
        self._index_sent = float("-inf")
        self._index_lines = -1

    def run(self) -> None:
        """Copy until stopped (raises Stopped)."""
        notify.ready("looking for segments")
        while True:
            self._beat.tick()
            if not self.turn():
                self._beat.wait(self._config.budget.media_tick)

    def turn(self) -> bool:
        """Look at the index and copy one batch that is due; False if there was none."""
        away = self._look()
        batch = self._due()
        self._metrics()
        if not batch:
            self._send_index(idle=True)
            self._rest(away)
            return False
        if self._failures.due("batch", "") > time.time():
            self._rest(away)
            return False
        try:
            self._copy(batch)
        except SourceDiffers as error:
            log.error("%s", error)
            self._failures.add(error.name, "", str(error))
            return True
        except (RcloneError, DeliveryError, SourceAway, OSError) as error:
            text = self._uplink.remote.scrub(str(error))
            delay = self._failures.add("batch", "", text)
            log.error("%s to %s failed, next try in %.0f s: %s", batch[0].name, batch[-1].name, delay, text)
            return False
        self._failures.drop("batch")
        self._send_index(idle=False)
        return True

    def _look(self) -> str:
        """Take what the index lists that the target lacks; returns why it cannot be read, or nothing."""
        try:
            found = self._reader.poll()
        except IndexUnavailable as error:
            return str(error)
        if self._reader.restarts != self._restarts:
            self._restarts = self._reader.restarts
            self._todo.clear()
            self._failures.keep(("batch", "index"))
        for segment in found:
            if not self._memory.has(segment):
                self._todo[segment.name] = segment
        return ""

    def _due(self) -> list[Segment]:
        """Return the next batch: whole, or its oldest segment has waited for as long as a batch is."""
        now = time.time()
        waiting = [segment for segment in self._todo.values() if self._failures.due(segment.name, "") <= now]
        if not waiting or (
            sum(s.duration for s in waiting) < self._batch and time.time() - waiting[0].end < self._batch
        ):
            return []
        batch: list[Segment] = []
        size = length = 0.0
        for segment in waiting:
            if batch and (size + segment.size > LARGEST_BATCH or length >= self._batch * CATCH_UP):
                break
            batch.append(segment)
            size += segment.size
            length += segment.duration
        return batch

    def _copy(self, batch: Sequence[Segment]) -> None:
        size = sum(segment.size for segment in batch)
        more = len(self._todo) - len(batch)
        text = f"copying {len(batch)} segments ({amount(size)}) to {self._uplink.target}" + (
            f", {more} more" if more else ""
        )
        self._uplink.say("copying", text, backlog=len(self._todo), first=batch[0].name, last=batch[-1].name)
        folder = self._source.path or self._spool
        batch = [segment for segment in batch if self._at_hand(segment)]
        if not batch:
            return
        items = [Item(segment.name, segment.size, segment.sha256) for segment in batch]
        delivery = Delivery(self._uplink.rclone(), folder, items, self._staging, self._beat.tick, parallel=4)
        same, differ = delivery.state(self._final)
        if differ:
            names = ", ".join(sorted(differ)[:3])
            raise Conflict(
                f"{self._uplink.remote.locate(*self._final.split('/'))}: other files have these names: {names}"
            )
        verified = delivery.run(self._final, same)
        # The receipt first: after a crash between the two the batch is looked at once more, and has its receipt.
        self._receipts.write(self._receipt(batch, verified))
        self._memory.add(batch)
        for segment in batch:
            self._todo.pop(segment.name, None)
            self._failures.drop(segment.name)
        if self._source.path is None:
            shutil.rmtree(self._spool, ignore_errors=True)

    def _at_hand(self, segment: Segment) -> bool:
        """Have a segment on this disk, whole; one that is gone or differs is left out of the batch."""
        item = Item(segment.name, segment.size, segment.sha256)
        try:
            if self._source.path is None:
                need_space(self._config.paths.data, segment.size, RESERVE)
                fetch(join(self._source.url, segment.name), self._spool / segment.name, item, self._beat.tick)
            elif not (path := self._source.path / segment.name).exists():
                raise SourceGone(f"{path}: not there")
        except SourceGone as error:
            # Retention took it before we came; the next look at the index says so too.
            log.warning("%s; it cannot be copied any more", error)
            self._todo.pop(segment.name, None)
            self._failures.drop(segment.name)
            return False
        except ContentDiffers as error:
            log.error("%s", error)
            self._failures.add(segment.name, "", str(error))
            return False
        return True

    @property
    def _staging(self) -> str:
        return "/".join([INCOMING, self._uplink.staging])

    @property
    def _final(self) -> str:
        return "/".join([*self._uplink.place, self._source.name.replace("/", "_")])

    def _receipt(self, batch: Sequence[Segment], verified: str) -> dict[str, Any]:
        # Recorders read a receipt once, so none is ever added to: each batch has its own.
        first, last = batch[0], batch[-1]
        covered = {
            "source": self._source.name,
            "start": first.utc,
            "end": utc.to_text(last.end),
            "first_seq": first.seq,
            "last_seq": last.seq,
            "segments": [{"name": segment.name, "sha256": segment.sha256} for segment in batch],
        }
        return {
            "id": f"{utc.to_stamp(first.start)}_{first.seq}-{last.seq}",
            "target": self._uplink.target,
            "source": self._source.name,
            "url": self._uplink.remote.locate(*self._final.split("/")),
            "ranges": [covered],
            "verified_by": verified,
            "verified_at": utc.to_text(time.time()),
        }

    def _send_index(self, *, idle: bool) -> None:
        """Bring our index to the target, beside the segments: when idle, or from time to time."""
        now = time.monotonic()
        pause = (self._config.paths.data / index.INDEX).stat().st_size / INDEX_RATE if self._memory.lines else 0
        if self._memory.lines == self._index_lines or now - self._index_sent < (pause if idle else pause + self._batch):
            return
        if self._failures.due("index", "") > time.time():
            return
        path = self._uplink.remote.path
        try:
            rclone = self._uplink.rclone()
            rclone.copy(str(self._config.paths.data), path(self._staging), [index.INDEX])
            rclone.replace(path(self._staging, index.INDEX), path(self._final, index.INDEX))
        except (RcloneError, OSError) as error:
            text = self._uplink.remote.scrub(str(error))
            self._failures.add("index", "", text)
            log.error("index.jsonl was not copied: %s", text)
            return
        self._failures.drop("index")
        self._index_sent, self._index_lines = now, self._memory.lines

    def _rest(self, away: str) -> None:
        rows = self._failures.rows()
        fields = {"backlog": len(self._todo), "copied": self._memory.lines, "failed": len(rows)}
        if rows:
            self._uplink.say(
                "failing", f"{len(self._todo)} segments wait for another try: {rows[0]['last_error']}", **fields
            )
        elif away:
            self._uplink.say("waiting", f"waiting for {self._source.name}: {away}", **fields)
        else:
            self._uplink.say("idle", f"{self._memory.lines} segments copied, {len(self._todo)} collected", **fields)

    def _metrics(self) -> None:
        put, target = self._uplink.metrics.set, self._uplink.target
        waiting = list(self._todo.values())
        put("stationmaster_sync_backlog", len(waiting), "Segments not at the target yet.", target=target)
        put("stationmaster_sync_backlog_bytes", sum(s.size for s in waiting), "Their bytes.", target=target)
        age = time.time() - waiting[0].end if waiting else 0
        put("stationmaster_sync_age_seconds", max(age, 0), "Age of the oldest of them.", target=target)
        put("stationmaster_sync_failing", len(self._failures.rows()), "1 while the last attempt failed.", target=target)
        put("stationmaster_sync_segments_total", self._memory.lines, "Segments copied.", kind="counter", target=target)


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status."""
    beat = Beat()
    beat.install()
    try:
        Sync(config, beat).run()
    except Stopped:
        notify.stopping()
    except OSError as error:
        # The disk, or a program that is not installed: nothing that waiting within this process would mend.
        log.error("cannot go on: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(configuration.program("sync", run))
