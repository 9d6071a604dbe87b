"""When a segment may go: the one place of that rule, for ingest and record.

1. A segment without a receipt for what it belongs to is never deleted, whatever
   its age, with the one exception of 3.
2. A segment with a receipt goes when it is older than `hours`, and before that,
   oldest first, when less than `reserve` bytes are free.
3. Only if that does not suffice, and only in an ingest: segments of which a
   record instance has a copy that it verified (same name, size and checksum in
   its index), oldest first. A record never uses this rule: otherwise each of the
   two could delete because the other has it.
4. Nothing else ever goes. A disk that then fills stops the recording, and the
   status says so from `warn_hours` before.

A segment at the edge of a talk may also be the beginning of the next one, whose
receipt is not here yet: it goes only together with both its neighbours' receipts.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from station.config import Config, typed
from station.index import Segment

NEWEST = 30
"""Segments that never go: viewers and the copy are still reading the last minute."""
STEP = 64 << 20
"""Bytes freed beyond the reserve in one go, so that the index is not rewritten for each segment."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`hours` 0: age alone deletes nothing. `reserve_share` of the disk (0 to 1) is kept free."""

    hours: float
    reserve_share: float
    warn_hours: float

    def reserve(self, total: int) -> int:
        """Bytes to keep free on a disk of `total` bytes."""
        return int(total * self.reserve_share)


def policy(config: Config) -> Policy:
    """The options `retention.*`; the defaults are those of the role's schema."""
    options: dict[str, Any] = config.option("retention", dict, {})
    return Policy(
        hours=typed(options, "hours", float, 72.0, prefix="options.retention."),
        reserve_share=typed(options, "reserve_percent", float, 5.0, prefix="options.retention.") / 100,
        warn_hours=typed(options, "warn_hours", float, 4.0, prefix="options.retention."),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What may go now, by reason; `missing` bytes stay short of the reserve."""

    receipted: list[Segment]
    copied: list[Segment]
    missing: int


def plan(
    segments: Sequence[Segment],
    receipts: Container[str],
    copies: Container[tuple[str, str]],
    rule: Policy,
    *,
    free: int,
    total: int,
    now: float | None = None,
) -> Plan:
    """Decide by the rule above; deletes nothing itself.

    `receipts` holds the sha256 of every segment that a verified upload covers,
    `copies` the (name, sha256) that a record instance has; `free` and `total`
    are the disk's bytes, `now` seconds since the epoch.
    """
    moment = time.time() if now is None else now
    covered = [segment.sha256 in receipts for segment in segments]
    candidates = segments[: max(0, len(segments) - NEWEST)]
    settled = [
        segment
        for at, segment in enumerate(candidates)
        if covered[at] and (at == 0 or covered[at - 1]) and covered[at + 1]
    ]
    short = rule.reserve(total) - free
    target = short + min(STEP, total // 100) if short > 0 else 0
    receipted, freed = [], 0
    for segment in sorted(settled, key=lambda one: one.utc):
        aged = rule.hours > 0 and segment.end < moment - rule.hours * 3600
        if aged or freed < target:
            receipted.append(segment)
            freed += segment.size
    copied = []
    if freed < target:
        gone = {segment.name for segment in receipted}
        for segment in sorted(candidates, key=lambda one: one.utc):
            if freed >= target:
                break
            if segment.name not in gone and (segment.name, segment.sha256) in copies:
                copied.append(segment)
                freed += segment.size
    return Plan(receipted, copied, max(0, short - freed))
