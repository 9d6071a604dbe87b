"""Times as the database keeps them and as the API tells them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> float:
    """Return seconds since 1970 in UTC."""
    return time.time()


def told(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 with milliseconds, or None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
