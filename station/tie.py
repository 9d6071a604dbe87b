"""Ties the media's time line to the station's clock.

Each frame's arrival says at what time of the clock its PTS was: early ones say it
best, because whatever happens on the way only makes a frame late. So the tie is
the smallest difference over the last seconds, renewed all the time: the source's
own clock drifts, and the station's is corrected.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 10.0
"""Seconds: longer than the burst after a short gap, short enough that 100 ppm of drift stay at 1 ms."""


SETTLED = 1.0
"""Seconds without a clearly earlier arrival, after which the burst at a start is over."""


class Tie:
    """The tie of one run of an encoder.

    `frame` is the length of a frame in seconds. Arrivals are taken with the
    monotonic clock, so that a step of the wall clock shows at once and whole.
    """

    def __init__(
        self, frame: float, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        # Within a quarter of a frame the tie rests: segments then follow each other exactly, without jitter.
        self._rest = frame / 4
        self._wall = wall
        self._steady = steady
        self._seen: deque[tuple[float, float]] = deque()
        self._offset: float | None = None
        self._best: float | None = None
        self._bettered = 0.0
        self.moves = 0

    def see(self, position: float, arrival: float) -> None:
        """A frame of PTS `position` (s) came at `arrival` (s of the steady clock)."""
        difference = arrival - position
        if self._best is None or difference < self._best - self._rest:
            self._best, self._bettered = difference, arrival
        # Only a smaller value, or one that may outlive the others, can ever be the minimum.
        while self._seen and self._seen[-1][1] >= difference:
            self._seen.pop()
        self._seen.append((arrival, difference))
        while self._seen[0][0] < arrival - WINDOW:
            self._seen.popleft()

    @property
    def settled(self) -> bool:
        """Whether the frames have caught up with the clock: at a start all of them are late."""
        return self._best is not None and self._steady() - self._bettered > SETTLED

    def utc(self, position: float) -> float:
        """UTC (s since the epoch) of the frame at `position`; ties anew where needed."""
        if not self._seen:
            return self._wall()
        estimate = self._seen[0][1] + self._wall() - self._steady()
        if self._offset is None or abs(estimate - self._offset) > self._rest:
            self.moves += self._offset is not None
            self._offset = estimate
        return self._offset + position
