"""One run of an ingest's encoder: reads its pipes and makes cuts, levels and pictures of them."""

from __future__ import annotations

import logging
import re
import selectors
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from station import ffmpeg_args, files
from station.exits import Ending
from station.facts import Parser
from station.levels import Level
from station.supervisor import Advance, Child, progress
from station.tie import Tie
from station.transport import Cut, Cutter, StreamError

log = logging.getLogger(__name__)

_SOURCE_AUDIO = re.compile(r"Stream #(\d+):(\d+).*: Audio:")
_END_OF_PICTURE = b"\xff\xd9"
LARGEST_PICTURE = 4 << 20
HELD = 3
"""Segments at most that wait at a start, on a machine too busy to catch up sooner."""
SPEED_WINDOW = 10.0
"""The speed is told from half of it on: at the start an encoder catches up."""


class Encoder:
    """A running ffmpeg.

    `take` receives each finished segment with the UTC of its first frame, in
    order. `available` is how many audio tracks the source has, as far as known.
    """

    def __init__(
        self,
        plan: ffmpeg_args.Plan,
        run: Path,
        preview: Path,
        *,
        available: int | None,
        stall_limit: float,
        silence: float,
        take: Callable[[Cut, float], None],
    ) -> None:
        self.tracks = plan.chosen(available)
        self.levels = [Level(track) for track in self.tracks]
        self.statistics: dict[str, str] = {}
        self._audio_streams: set[str] = set()
        self._positions: deque[tuple[float, float]] = deque()
        self.frames = 0
        self._plan = plan
        self._preview = preview
        self._silence = silence
        self._take = take
        self._cutter = Cutter()
        self._facts = Parser()
        self._tie = Tie(float(1 / plan.rate))
        self._held: list[Cut] = []
        self._picture = b""
        self._reading_input = True
        self._broken: str | None = None
        now = time.monotonic()
        self._progress = Advance(stall_limit, now)
        self._video = Advance(stall_limit, now)
        self._listing: Path | None = None
        if plan.input.listing is not None:
            self._listing = run / "input.ffconcat"
            files.write(self._listing, plan.input.listing, mode=0o600)
        self.child = Child(
            lambda pipes: ffmpeg_args.command(plan, self.tracks, pipes, str(self._listing)),
            ffmpeg_args.PIPES,
            secrets=plan.input.secrets,
        )
        self._selector = selectors.DefaultSelector()
        for name, fd in self.child.pipes.items():
            self._selector.register(fd, selectors.EVENT_READ, name)

    @property
    def running(self) -> bool:
        """Whether frames have come."""
        return self._video.begun

    @property
    def moves(self) -> int:
        """How often the time line was tied anew."""
        return self._tie.moves

    @property
    def source_tracks(self) -> int | None:
        """Audio tracks that the source turned out to have; None as long as it has not said."""
        return None if self._reading_input else len(self._audio_streams)

    def wrong_tracks(self) -> bool:
        """Whether the source has other tracks than this run takes."""
        return self.source_tracks is not None and self._plan.chosen(self.source_tracks) != self.tracks

    def speed(self) -> float | None:
        """Seconds of media per second, over the last SPEED_WINDOW seconds."""
        if len(self._positions) < 2:
            return None
        (then, before), (now, position) = self._positions[0], self._positions[-1]
        return (position - before) / (now - then) if now - then >= SPEED_WINDOW / 2 else None

    def stalled(self, now: float) -> str | None:
        """Why this run must end, if it must: something that should advance does not."""
        if self._broken:
            return self._broken
        if not self._video.begun and self._plan.input.listens:
            return None
        if self._video.stalled(now):
            return "no new frame" if self._video.begun else "no frame from the source"
        if self._progress.begun and self._progress.stalled(now):
            return "the encoder does not advance"
        return None

    def step(self, timeout: float) -> bool:
        """Handle what is in the pipes, waiting at most `timeout` seconds; False when all have ended."""
        for key, _ in self._selector.select(timeout):
            name = key.data
            data = self.child.read(name)
            if data is None:
                continue
            if data:
                getattr(self, f"_read_{name}")(data)
            else:
                self._selector.unregister(key.fd)
        return bool(self._selector.get_map())

    def finish(self) -> Ending:
        """After the last step: hand on the last frames, clean up, say why it ended."""
        ending = self.child.ending()
        clean = ending.kind in ("stopped", "ended") and not self._broken
        cut = self._cutter.finish(clean=clean)
        if cut:
            self._held.append(cut)
        self._release()
        self._selector.close()
        self.child.close()
        if self._listing:
            self._listing.unlink(missing_ok=True)
        return ending

    def _read_stdout(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            cuts = self._cutter.feed(data)
        except StreamError as error:
            self._broken = f"unreadable output of the encoder: {error}"
            return
        for cut in cuts:
            self._hand_on(cut)
        if not self._cutter.begun:
            return
        now = time.monotonic()
        self._video.see(self._cutter.position, now)
        self._positions.append((now, self._cutter.position))
        while self._positions[0][0] < now - SPEED_WINDOW:
            self._positions.popleft()

    def _hand_on(self, cut: Cut) -> None:
        self._held.append(cut)
        # What a start brings waits for a sure tie to the clock: a time once listed is not mended.
        if self._tie.settled or len(self._held) > HELD:
            self._release()

    def _release(self) -> None:
        for held in self._held:
            self.frames += held.frames
            self._take(held, self._tie.utc(held.position - ffmpeg_args.START))
        self._held.clear()

    def _read_facts(self, data: bytes) -> None:
        now = time.monotonic()
        for fact in self._facts.feed(data):
            if fact.who == "v":
                self._tie.see(fact.pts / ffmpeg_args.TICKS, now)
            elif fact.who.startswith("a"):
                self.levels[int(fact.who[1:])].see(fact.values, now, self._silence)

    def _read_progress(self, data: bytes) -> None:
        self.statistics |= progress(data)
        advanced = self.statistics.get("out_time_us", "")
        if advanced.lstrip("-").isdecimal():
            self._progress.see(int(advanced), time.monotonic())

    def _read_preview(self, data: bytes) -> None:
        self._picture += data
        end = self._picture.rfind(_END_OF_PICTURE)
        if end >= 0:
            whole = self._picture[: end + 2]
            self._picture = self._picture[end + 2 :]
            begin = whole.rfind(b"\xff\xd8\xff")
            try:
                files.write(self._preview, whole[max(begin, 0) :])
            except OSError as error:
                log.info("no preview: %s", error)
        elif len(self._picture) > LARGEST_PICTURE:
            self._picture = b""

    def _read_stderr(self, data: bytes) -> None:
        for line in self.child.take_errors(data):
            if self._reading_input:
                if "Stream mapping:" in line or "Output #0" in line or "matches no streams" in line:
                    self._reading_input = False
                elif (found := _SOURCE_AUDIO.search(line)) and int(found[1]) == self._plan.input.audio:
                    self._audio_streams.add(found[2])  # a stream may be shown in several programs
