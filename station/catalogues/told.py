"""What a server of stills says of itself at `/streams` and `/events`, checked: it comes over the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from station.catalogues.rows import PROTOCOLS, Row, one_word

Stream = dict[str, Any]
"""A stream as JSON, of the members in CHECKS."""
MOST = 1000
"""Streams of one server that are shown."""
URLS = 20
"""Paths of a stream that are shown."""
_KEY = re.compile(r"[\w.-]{1,64}", re.ASCII)
_PATH = re.compile(r"/(?!/)[\w./?=&%~-]{0,200}", re.ASCII)


class NotUnderstood(Exception):
    """What came is no answer of a server of stills; the text says why."""


def _text(value: Any) -> str | None:
    return written(value[:500]) if isinstance(value, str) else None


def written(text: str) -> str:
    """Return a text that can be written as UTF-8: half characters, of JSON or of a file's odd bytes, are replaced."""
    return text.encode("utf-8", "replace").decode()


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else None


def _number(value: Any) -> float | None:
    # beyond 1e15 no number of a stream makes sense, and a whole one may be too large for a float
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
        return None
    return float(value)


def _port(value: Any) -> int | None:
    number = _whole(value)
    return number if number is not None and 0 < number < 65536 else None


def _protocol(value: Any) -> str | None:
    return value if value in PROTOCOLS else None


def _urls(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    found = {
        key: path
        for key, path in value.items()
        if _KEY.fullmatch(key) and isinstance(path, str) and _PATH.fullmatch(path)
    }
    return dict(list(found.items())[:URLS])


CHECKS: dict[str, Callable[[Any], Any]] = {
    "key": _text,
    "id": _whole,
    "name": _text,
    "type": _text,
    "address": _text,
    "port": _port,
    "protocol": _protocol,
    "ips": _number,
    "count": _whole,
    "room": _text,
    "from": _text,
    "state": _text,
    "state_text": _text,
    "viewers": _whole,
    "width": _whole,
    "height": _whole,
    "urls": _urls,
}


def streams_of(line: bytes) -> tuple[list[Stream], str | None]:
    """Read an answer of `/streams`, or a line of `/events`.

    Returns:
        The streams with all members of CHECKS (None where there is none), and the server's own address. Streams
        without a key, an id or a rate are left out.

    Raises:
        NotUnderstood: it is something else.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise NotUnderstood("it answers no JSON, so it is no server of stills") from None
    listed = value.get("streams") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise NotUnderstood("it answers without streams, so it is no server of stills")
    found = []
    for one in listed[:MOST]:
        if isinstance(one, dict):
            stream = {key: check(one.get(key)) for key, check in CHECKS.items()}
            if stream["id"] is not None and stream["ips"] and _KEY.fullmatch(stream["key"] or ""):
                found.append(stream)
    return found, _text(value.get("address"))


def row_of(stream: Stream) -> Row | None:
    """Return the stream's row in the old catalogue, None for one that no old client can have."""
    if stream.get("protocol") is None or stream.get("port") is None:
        return None
    name, kind = one_word(stream.get("name") or stream["key"]), stream.get("type") or ""
    number = stream.get("number")
    return Row(
        stream["id"] if number is None else number,
        name,
        kind,
        stream.get("address") or "",
        stream["port"],
        stream["protocol"],
        stream["ips"],
    )
