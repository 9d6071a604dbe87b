"""The time budget: every period and limit that several parts share, in seconds.

Two constants carry the rest (DESIGN: time budgets). The order is what matters:
an input gives up before the supervisor calls it stalled, that before systemd's
watchdog bites, and all of it before a station counts as lost.
"""

MEDIA_TICK = 2
"""Length of a segment."""
INPUT_TIMEOUT = 5
"""A remote input that sends nothing for this long is closed."""
STALL_LIMIT = 8
"""No advance of the media for this long: the supervisor restarts its child."""
WATCHDOG = 15
"""systemd's WatchdogSec of a supervised unit."""
STOP_TIMEOUT = 10
"""systemd's TimeoutStopSec: a child with a stalled input may never obey a TERM."""

HELLO_INTERVAL = 5
"""A station says hello this often."""
LATE_AFTER = 2 * HELLO_INTERVAL
"""Missed two hellos."""
LOST_AFTER = 4 * HELLO_INTERVAL
"""Missed four hellos."""
