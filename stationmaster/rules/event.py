"""The event's own variables: its time zone and its schedule."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from pathlib import Path

from stationmaster.findings import Finding, hint, invalid, nearest
from stationmaster.model import Event
from stationmaster.rules.context import Context

FILES = "files"


def schedule_file(event: Event) -> Path | None:
    """Return the file that `event_schedule` names, None without one.

    It lies in the inventory's `files/`: anywhere else Ansible would read it as inventory.
    """
    name = event.settings.get("schedule")
    if not isinstance(name, str) or not name:
        return None
    return Path(event.folder) / FILES / name.removeprefix(f"{FILES}/")


def schedule(context: Context) -> Iterator[Finding]:
    """The schedule is a file of the inventory."""
    path = schedule_file(context.event)
    if path is None:
        return
    root = (Path(context.event.folder) / FILES).resolve()
    if path.resolve().is_relative_to(root) and path.is_file():
        return
    known = sorted(str(item.relative_to(root)) for item in root.rglob("*") if item.is_file())
    name = context.event.settings["schedule"]
    close = nearest(name, known)
    message = f"event_schedule: there is no file {name!r} in {FILES}/ of the inventory{hint(close)}"
    yield _about(context, "event_schedule", message, name, known, close)


def timezone(context: Context) -> Iterator[Finding]:
    """Times of the schedule need a zone that exists."""
    name = context.event.settings.get("timezone")
    if not isinstance(name, str) or not name:
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = nearest(name, zoneinfo.available_timezones())
        allowed = "a name of the IANA time zone database, such as Europe/Berlin"
        message = f"event_timezone: there is no time zone {name!r}{hint(close)}; allowed: {allowed}"
        yield _about(context, "event_timezone", message, name, allowed, close)


def _about(
    context: Context, variable: str, message: str, value: str, allowed: object, suggestion: str | None
) -> Finding:
    origin = context.event.origins.get((variable,))
    return invalid(message, origin=origin, path=variable, value=value, allowed=allowed, suggestion=suggestion)


RULES = (schedule, timezone)
