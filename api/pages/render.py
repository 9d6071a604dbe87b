"""From data to HTML: one environment for all templates, which escapes everything, and the headers of every page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.pages import health
from api.pages.session import Session

HERE = Path(__file__).resolve().parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: only what comes from the manager itself, and no script or style inside of it."""


def size(count: float | None) -> str:
    """Return a number of bytes with its unit."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def amount(value: float, name: str) -> str:
    """Return a figure as a person reads it, by what its name says that it counts."""
    if "bytes" in name:
        return size(value)
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} s" if "seconds" in name or name.endswith("_age") else text


def clock(text: str | None) -> str:
    """Return a time of the API, such as 2026-11-21T10:04:05.123Z, as a person reads it."""
    return text[:19].replace("T", " ") + " UTC" if text else "?"


def target(told: dict[str, Any]) -> str:
    """Return what a run is for in one word or two."""
    return str(told.get("room") or told.get("station") or "everything")


def chosen(told: dict[str, Any]) -> str:
    """Return a run's target as the form that starts runs names it."""
    return next((f"{kind}:{told[kind]}" for kind in ("room", "station") if told.get(kind)), "everything")


def hour(text: str | None, zone: str) -> str:
    """Return the time of day of a time of the API in the event's time zone."""
    return datetime.fromisoformat(text).astimezone(ZoneInfo(zone)).strftime("%H:%M") if text else "?"


def moment(at: float | None) -> str:
    """Return a time in seconds since 1970 as a person reads it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "?"


def revision(text: str) -> str:
    """Return the begin of a commit's id, with what stands around it."""
    return re.sub(r"[0-9a-f]{13,}", lambda found: found[0][:12], text)


def words(told: Any) -> str:
    """Return plain data of a record in one line."""
    if isinstance(told, dict):
        return ", ".join(f"{name}: {words(value)}" for name, value in told.items() if value not in (None, "", [], {}))
    return ", ".join(map(words, told)) if isinstance(told, list) else str(told)


def age(seconds: float) -> str:
    """Return how long ago something was, as a person says it."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def sent(body: str) -> str:
    """Return what a message brings, without its command."""
    return re.sub(r"^(SHOW|TEXT)\s+", "", body)


def further(headers: dict[str, str]) -> str:
    """Return the headers of a message that say something to a person."""
    return words({name: headers[name] for name in ("link", "trigger-time") if headers.get(name) not in (None, "NOW")})


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_environment.filters.update(
    size=size, amount=amount, clock=clock, target=target, chosen=chosen, hour=hour, moment=moment, short=revision,
    words=words, any=any, age=age, sent=sent, further=further, unit=health.short, rank=health.ORDER.index,
)  # fmt: skip


def fragment(name: str, **values: Any) -> str:
    """Return a template's text, for a part of a page."""
    return _environment.get_template(f"{name}.html.j2").render(**values)


def page(request: Request, session: Session | None, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a whole page.

    Args:
        request: what it answers.
        session: who looks, None for somebody who is not signed in.
        name: of the template.
        status: of HTTP.
        values: what the template needs beside `session`, `path` and `event`.
    """
    try:
        event = request.app.state.manager.inventory.current().event.title
    except Exception:  # without an inventory in force the page works all the same, and says so where it matters
        event = "Stationmaster"
    text = fragment(name, session=session, path=request.url.path, event=event, **values)
    # with no referrer at all a browser also hides where a form comes from, which is what check_origin goes by
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
    return HTMLResponse(text, status, headers=headers)
