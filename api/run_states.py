"""The life of a run.

queued -> waiting -> starting -> running -> succeeded | failed | unreachable | incomplete | timed_out
                                    \\-> canceling -> canceled | cancel_unverified
not at its end, and its supervisor is dead -> lost
"""

from __future__ import annotations

import secrets
import time

QUEUED = ("queued", "waiting")
"""Not begun: nobody has its stations yet, and it may be folded."""
ACTIVE = ("starting", "running", "canceling")
"""Has its stations and, on the host that owns it, a supervisor."""
ENDED = (
    "succeeded", "failed", "unreachable", "incomplete", "timed_out", "canceled", "cancel_unverified", "lost",
)  # fmt: skip

LEASE = 60.0
"""Seconds that a run belongs to its host after the supervisor's last word in the database."""
RENEW = 5.0
"""Seconds between two such words."""
FENCE = 30.0
"""Seconds without reaching the database after which a supervisor ends its run: the rest of the lease is more than a
cancel takes, so that nothing works on a station any more when another host gives the station away."""
CHANNEL = "stationmaster_runs"
"""What PostgreSQL's NOTIFY is sent on when a run was put into the queue, canceled or ended."""

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """Return a new run's id: 26 characters that sort by the time of making (a ULID)."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))
