"""UTC as text: ISO 8601 with a fraction and a Z, the one form in indexes, playlists and names."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(seconds: float) -> str:
    """Say a time as `2026-03-01T09:00:00.040000Z`.

    `seconds` counts from the POSIX epoch; the result is rounded to the microsecond.
    """
    return datetime.fromtimestamp(round(seconds, 6), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_stamp(seconds: float) -> str:
    """Say a time as `20260301T090000.040Z`, for file names; cut to the millisecond so that names sort by time."""
    moment = datetime.fromtimestamp(round(seconds, 6), UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"


def from_text(text: str) -> float:
    """Seconds since the POSIX epoch of an ISO 8601 time.

    A time without an offset is refused with ValueError: guessing a zone moves a cut by hours.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone: end it with Z for UTC")
    return moment.timestamp()
