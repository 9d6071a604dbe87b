"""The station role `record`: a second copy of a source's segments, on another station.

    python3 -m station.record --config config.json

Follows the source's index. Each segment is fetched, checked by size and checksum,
made durable, and listed with the very line of the source. Oldest first: the copy
is then in order, and after a cut it catches up at the speed of the network.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from station import config as configuration
from station import disk, notify
from station.config import Config, ConfigError, Source
from station.fetch import Away, Refused, download
from station.index import IndexUnavailable, Segment, reader
from station.media import MediaFolder
from station.receipts import Witnesses
from station.record_status import Report
from station.retention import plan, policy

log = logging.getLogger(__name__)

STEP = 0.25
"""Seconds at most between two looks at signals and the watchdog."""
POLL = 1.0
"""Seconds between two looks at the index: half a segment."""
AWAY_PAUSE = 1.0
REFUSED_PAUSE = 30.0
"""A segment whose checksum differs may be mended at the source by hand; asking more often only makes noise."""
FULL_PAUSE = 2.0
RETENTION_PERIOD = 20.0


def _source(config: Config) -> Source:
    name = config.option("from", str)
    if name not in config.sources:
        raise ConfigError(f"sources.{name}", "is missing: options.from names it")
    return config.sources[name]


class Record:
    """One copy from start to end; everything but fetching happens in the main thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._source = _source(config)
        self._parallel = config.option("parallel", int, 3)
        self._rule = policy(config)
        self._media = MediaFolder(config.paths.data, config.budget.media_tick)
        self._witnesses = Witnesses(config)
        self._partial = config.paths.data / "partial"
        self._partial.mkdir(exist_ok=True)
        self._index = reader(self._source.url, config.budget.input_timeout)
        self._restarts = 0
        self._have = {segment.name for segment in self._media.index.segments} | self._media.removed
        self._pending: dict[str, Segment] = {}
        self._refused: dict[str, tuple[Segment, float]] = {}
        self._running: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(self._parallel, "fetch")
        self._poller = ThreadPoolExecutor(1, "index")
        self._poll: Future[list[Segment]] | None = None
        self._next_poll = 0.0
        self._paused_until = 0.0
        self._next_retention = 0.0
        self._asked = False
        self._report = Report(config, self._source, self._rule)

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def run(self) -> int:
        """Copy until asked to stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        self._witnesses.start()
        notify.ready("waiting for its source")
        log.info("copy of %s into %s", self._source.url, self._config.paths.data)
        while not self._asked:
            self._step()
            notify.watchdog()
            self._report.write(self._media, list(self._pending.values()), [one for one, _ in self._refused.values()])
        notify.stopping()
        self._witnesses.stop()
        # Torn downloads are resumed by the next start, so nobody waits for them.
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._poller.shutdown(wait=False, cancel_futures=True)
        self._report.stopped()
        return 0

    def _step(self) -> None:
        now = time.monotonic()
        self._follow(now)
        if now >= self._paused_until:
            self._start()
        busy: list[Future[Any]] = [*self._running.values(), *([self._poll] if self._poll else [])]
        if busy:
            wait(busy, timeout=STEP, return_when="FIRST_COMPLETED")
        else:
            time.sleep(STEP)
        self._collect(time.monotonic())
        if now >= self._next_retention:
            self._next_retention = now + RETENTION_PERIOD
            self._retain()

    def _follow(self, now: float) -> None:
        if self._poll is None:
            if now >= self._next_poll:
                self._next_poll = now + POLL
                self._poll = self._poller.submit(self._index.poll)
            return
        if not self._poll.done():
            return
        poll, self._poll = self._poll, None
        try:
            segments = poll.result()
        except IndexUnavailable as error:
            self._report.away(str(error))
            return
        self._report.seen()
        if self._index.restarts != self._restarts:
            # The source's index was rewritten, or its disk is a new one: what it lists now is all there is to fetch.
            self._restarts = self._index.restarts
            self._pending.clear()
            self._refused.clear()
        for segment in segments:
            if segment.name not in self._have and segment.name not in self._refused:
                self._pending[segment.name] = segment
        for name in [name for name, (_, due) in self._refused.items() if now >= due]:
            segment, _ = self._refused.pop(name)
            self._pending[name] = segment

    def _start(self) -> None:
        for name, segment in self._pending.items():
            if len(self._running) >= self._parallel:
                return
            if name not in self._running:
                self._running[name] = self._pool.submit(
                    download,
                    self._source.url + name,
                    self._part(name),
                    size=segment.size,
                    sha256=segment.sha256,
                    timeout=self._config.budget.input_timeout,
                )

    def _part(self, name: str) -> Path:
        return self._partial / (Path(name).name + ".part")

    def _collect(self, now: float) -> None:
        """Take what is ready, in the order of the source: a later segment waits for an earlier one on its way."""
        for name in list(self._running):
            if name not in self._pending:  # the source took it off meanwhile
                if self._running[name].done():
                    del self._running[name]
                    self._part(name).unlink(missing_ok=True)
                continue
            if not self._running[name].done():
                return
            future = self._running.pop(name)
            try:
                future.result()
                self._media.adopt(self._pending[name], self._part(name))
            except Away as error:
                self._report.away(str(error))
                self._paused_until = now + AWAY_PAUSE
                return
            except Refused as error:
                log.warning("refused: %s", error)
                self._refused[name] = (self._pending.pop(name), now + REFUSED_PAUSE)
            except OSError as error:
                self._report.full(error)
                self._paused_until = now + FULL_PAUSE
                self._next_retention = 0
                return
            else:
                self._have.add(name)
                del self._pending[name]
                self._report.kept()

    def _retain(self) -> None:
        try:
            now = disk.space(self._media.folder)
            # No copies here: a record that trusted its source, and a source that trusts its record, lose both.
            going = plan(
                self._media.index.segments, self._witnesses.receipts, (), self._rule, free=now.free, total=now.total
            )
            self._report.short = going.missing
            if going.receipted:
                freed = self._media.take_off(going.receipted, "receipt")
                log.info("removed %d segments (receipt), %d MB freed", len(going.receipted), freed >> 20)
        except OSError as error:
            log.warning("retention: %s", error)


def main(argv: list[str] | None = None) -> int:
    """Run one copy; see `station.config.program`."""
    return configuration.program("record", lambda config: Record(config).run(), argv)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Not sys.exit: it would wait for threads that wait for a source, and what they fetched is resumed anyway.
    os._exit(status)
