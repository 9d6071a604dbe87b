"""The station role `ingest`: encodes one source and keeps it as segments.

    python3 -m station.ingest --config config.json

The main thread watches ffmpeg and the clock; a second one writes to the disk; a
third asks other stations for receipts. The source being away is a state, not an
error: it is shown, and the watchdog stays content.
"""

from __future__ import annotations

import logging
import signal
import sys
import time

from station import config as configuration
from station import ffmpeg_args, notify
from station.config import Config
from station.encoder import Encoder
from station.exits import Ending
from station.ingest_status import Report
from station.media import MediaFolder
from station.receipts import Witnesses
from station.retention import policy
from station.segmenter import Job, Segmenter
from station.supervisor import Backoff
from station.transport import Cut

log = logging.getLogger(__name__)

STEP = 0.25
"""Seconds at most between two looks at stalls, signals and the watchdog."""
REPORT_PERIOD = 2.0
HELD_UP = 60.0
"""Seconds that a write to the disk may hang before the watchdog may end us: by then the memory is full of segments."""
TRACKS_RETRY = 1.0


class Ingest:
    """One ingest from start to end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._plan = ffmpeg_args.plan(config)
        rule = policy(config)
        self._silence = config.option("audio.silence", float, -50.0)
        self._silence_after = config.option("audio.silence_after", float, 20.0)
        self._witnesses = Witnesses(config)
        self._media = MediaFolder(config.paths.data, self._plan.tick)
        place = config.room or config.station
        self._segmenter = Segmenter(
            self._media,
            f"{place}_{config.instance}",
            self._plan.rate,
            rule,
            self._witnesses,
            self._fail,
        )
        self._report = Report(config, self._plan, self._media, self._segmenter, rule)
        self._backoff = Backoff()
        self._available: int | None = None
        self._fresh = False
        self._asked = False
        self._failure: BaseException | None = None
        self._next_report = 0.0

    def _fail(self, error: BaseException) -> None:
        self._failure = error

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def run(self) -> int:
        """Record until asked to stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        self._segmenter.start()
        self._witnesses.start()
        notify.ready("waiting for its source")
        log.info("ingest of %s into %s", self._plan.input.name, self._config.paths.data)
        while not self._over:
            self._wait(self._record())
        notify.stopping("writing the last segment")
        self._witnesses.stop()
        whole = self._segmenter.stop(self._config.budget.stop_timeout / 2)
        self._report.state("stopped", "asked to stop")
        self._report.write(None, self._silence_after)
        if self._failure:
            log.error("the segment writer failed: %r", self._failure)
        return 0 if whole and not self._failure else 1

    @property
    def _over(self) -> bool:
        return self._asked or self._failure is not None

    def _record(self) -> float:
        """One run of the encoder; returns the pause before the next, in seconds."""
        self._fresh = True
        try:
            encoder = Encoder(
                self._plan,
                self._config.paths.run,
                self._config.paths.data / "preview.jpg",
                available=self._available,
                stall_limit=self._config.budget.stall_limit,
                silence=self._silence,
                take=self._take,
            )
        except OSError as error:
            log.error("cannot start ffmpeg: %s", error)
            self._report.state("failing", f"cannot start ffmpeg: {error}")
            return self._backoff.after(0)
        stalled: str | None = None
        other_tracks = False
        while encoder.step(STEP):
            now = time.monotonic()
            stalled = stalled or encoder.stalled(now)
            other_tracks = other_tracks or encoder.wrong_tracks()
            if stalled or other_tracks or self._over:
                encoder.child.stop(now)
            elif encoder.running:
                self._report.state("running", "")
            self._tick(encoder)
        ending = encoder.finish()
        if encoder.source_tracks is not None:
            self._available = encoder.source_tracks
        if self._over:
            return 0
        if other_tracks:
            log.info("the source has %s audio tracks: once more", self._available)
            return TRACKS_RETRY
        if stalled:
            ending = Ending("absent", stalled)
        return self._after(encoder, ending)

    def _after(self, encoder: Encoder, ending: Ending) -> float:
        self._report.ended(ending)
        absent = ending.kind in ("absent", "ended", "stopped")
        pause = self._backoff.after(time.monotonic() - encoder.child.started if encoder.running else 0)
        log.log(
            logging.INFO if absent else logging.WARNING,
            "ffmpeg is over (%s): %s; again in %.0f s",
            ending.kind,
            ending.reason,
            pause,
        )
        return pause

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._over and time.monotonic() < until:
            time.sleep(min(STEP, seconds))
            self._tick(None)

    def _take(self, cut: Cut, utc: float) -> None:
        self._segmenter.put(Job(cut, utc, discontinuity=self._fresh and self._report.begun()))
        self._fresh = False

    def _tick(self, encoder: Encoder | None) -> None:
        now = time.monotonic()
        busy = self._segmenter.busy_since
        if busy is None or now - busy < HELD_UP or self._segmenter.full:
            notify.watchdog()
        if now >= self._next_report:
            self._next_report = now + REPORT_PERIOD
            self._report.write(encoder, self._silence_after)


def main(argv: list[str] | None = None) -> int:
    """Run one ingest; see `station.config.program`."""
    return configuration.program("ingest", lambda config: Ingest(config).run(), argv)


if __name__ == "__main__":
    sys.exit(main())
