"""Which frames of which segments a talk consists of, and what of it is missing.

All of this is arithmetic over the segment index; nothing is decoded here. A
frame's UTC is that of its segment's first frame plus its place in the segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any

from station import utc
from station.index import Segment

WRAP = 2**33 / 90000
"""Seconds after which the 33 bits of an MPEG-TS time stamp begin again."""
TOLERANCE = 1.5
"""Frames by which two neighbours may miss each other: one is the permitted error of a frame's UTC."""
HANDLE = 0.5
"""Seconds: a cut nearer than this to the end of its segments takes a neighbour along, for the muxer puts the
last audio of a segment into the next one, and a decoder needs the packet before the first."""
COMMON = tuple(
    Fraction(number) * scale
    for number in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)
    for scale in (Fraction(1), Fraction(1000, 1001))
)


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of the talk without media; UTC in seconds."""

    start: float
    end: float

    def report(self) -> dict[str, Any]:
        """Return the gap as plain data, UTC to the millisecond."""
        return {"from": stamp(self.start), "to": stamp(self.end), "seconds": round(self.end - self.start, 3)}

    def __str__(self) -> str:
        return f"{stamp(self.start)} to {stamp(self.end)} ({self.end - self.start:.3f} s)"


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames that follow each other without a break in time stamps.

    `segments` are read in this order; those in `handles` (first, last) only
    lend their audio. `skip` is how many frames come before the first wanted
    one (-1: that one is missing and the next stands in for it), `frames` how
    many are wanted; `start` is the UTC of the first.
    """

    segments: tuple[Segment, ...]
    handles: tuple[int, int]
    skip: int
    frames: int
    start: float

    @property
    def wanted(self) -> tuple[Segment, ...]:
        """The segments that hold frames of the talk."""
        first, last = self.handles
        return self.segments[first : len(self.segments) - last]


@dataclass(frozen=True, slots=True)
class Plan:
    """A talk as pieces and gaps, in order; `rate` in frames per second."""

    pieces: tuple[Piece, ...]
    gaps: tuple[Gap, ...]
    rate: Fraction

    @property
    def frames(self) -> int:
        """Frames of the talk as it will be."""
        return sum(piece.frames for piece in self.pieces)

    @property
    def segments(self) -> dict[str, Segment]:
        """All segments that are read, by name."""
        return {segment.name: segment for piece in self.pieces for segment in piece.segments}


def stamp(seconds: float) -> str:
    """UTC to the millisecond, for people."""
    return utc.to_text(round(seconds, 3))[:-4] + "Z"


def frame_rate(segments: Iterable[Segment]) -> Fraction:
    """The rate that frames and durations of segments tell: a usual one if it is near, 25 if there are none."""
    seen = [segment.frames / segment.duration for segment in segments if segment.duration > 0 and segment.frames > 1]
    if not seen:
        return Fraction(25)
    middle = median(seen)
    usual = min(COMMON, key=lambda rate: abs(float(rate) - middle))
    near = abs(float(usual) - middle) / middle < 0.002
    return usual if near else Fraction(middle).limit_denominator(1001)


def plan(segments: Iterable[Segment], start: float, end: float, rate: Fraction | None = None) -> Plan:
    """Find the frames from `start` to `end` (UTC in seconds; the frame at `end` is the first one not wanted).

    `segments` is the index, in any order. Without `rate` it is taken from
    the segments. The talk has round((end - start) * rate) frames if its media
    is whole and its clock agrees with its time stamps to two frames; else what UTC says.
    """
    near = sorted(
        {s.name: s for s in segments if s.start < end + 60 and s.end > start - 60 and s.duration > 0}.values(),
        key=lambda segment: (segment.start, segment.seq),
    )
    rate = rate or frame_rate(near)
    slack = TOLERANCE / float(rate)
    pieces: list[Piece] = []
    gaps: list[Gap] = []
    reached = start
    for run in _runs(near, slack):
        # less than half a frame before the end is behind it: UTC is written down in whole microseconds
        if run[-1].end <= reached or run[0].start >= end - 0.5 / float(rate):
            continue
        begin = run[0].start
        if begin > reached + slack:
            gaps.append(Gap(reached, begin))
        joined = abs(begin - reached) <= slack
        if joined and pieces:
            # Neighbours that miss each other by less than the permitted error: one holds its last frame, or drops it.
            before = pieces[-1]
            pieces[-1] = replace(before, frames=max(1, before.frames + round((begin - reached) * rate)))
        # A first frame that is missing is held likewise: the talk then begins before its first segment.
        piece = _piece(run, reached if joined and not pieces else max(reached, begin), end, rate)
        if piece is not None:
            pieces.append(piece)
            reached = min(run[-1].end, end)
    if end > reached + slack or not pieces:
        gaps.append(Gap(reached, end))
    else:
        pieces[-1] = replace(pieces[-1], frames=pieces[-1].frames + round((end - reached) * rate))
    return Plan(_exact(pieces, gaps, round((end - start) * rate)), tuple(gaps), rate)


def _runs(segments: Sequence[Segment], slack: float) -> list[list[Segment]]:
    runs: list[list[Segment]] = []
    for segment in segments:
        if runs and not segment.discontinuity and abs(_since(runs[-1][-1], segment) - runs[-1][-1].duration) <= slack:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return runs


def _since(first: Segment, later: Segment) -> float:
    """Seconds between the first frames by their time stamps, across a wrap."""
    return (later.pts - first.pts + WRAP / 2) % WRAP - WRAP / 2


def _piece(run: Sequence[Segment], start: float, end: float, rate: Fraction) -> Piece | None:
    first = max((i for i, segment in enumerate(run) if segment.start <= start + 0.5 / float(rate)), default=0)
    last = min((i for i, segment in enumerate(run) if segment.end >= end - 0.5 / float(rate)), default=len(run) - 1)
    last = max(first, last)
    # Each end counts from the UTC of its own segment: the camera's clock drifts against the wall's.
    begin = round((start - run[first].start) * rate)
    length = round((_since(run[first], run[last]) + run[last].duration) * float(rate))
    stop = round((_since(run[first], run[last]) + (end - run[last].start)) * float(rate))
    frames = min(stop, length) - begin
    if frames <= 0:
        return None
    before = 1 if first > 0 and begin / rate < HANDLE else 0
    after = 1 if last + 1 < len(run) and (length - min(stop, length)) / rate < HANDLE else 0
    lead = round(_since(run[first - 1], run[first]) * float(rate)) if before else 0
    return Piece(
        segments=tuple(run[first - before : last + 1 + after]),
        handles=(before, after),
        skip=lead + begin,
        frames=frames,
        start=run[first].start + begin / float(rate),
    )


def _exact(pieces: list[Piece], gaps: list[Gap], frames: int) -> tuple[Piece, ...]:
    """Let rounding at the two ends of an unbroken talk not add or take a frame."""
    surplus = sum(piece.frames for piece in pieces) - frames
    if pieces and not gaps and surplus and abs(surplus) <= 2:
        pieces[-1] = replace(pieces[-1], frames=pieces[-1].frames - surplus)
    return tuple(pieces)
