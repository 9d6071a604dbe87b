"""The manager's log: one JSON object a line, with the run, the station and the request that it is about."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.clock import told

log = logging.getLogger("stationmaster.requests")
_PROCESS, _NUMBERS = secrets.token_hex(4), itertools.count(1)

_RUN: ContextVar[str | None] = ContextVar("run", default=None)
_STATION: ContextVar[str | None] = ContextVar("station", default=None)
_REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
_SECRET = re.compile(r"smt_[A-Za-z0-9_-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
"""Tokens, and account and password in an address: whatever brings one into a message, it is not written."""
LONGEST = 8000
"""Characters of a message or a traceback that are kept, its end for a traceback."""


@contextmanager
def about(*, run: str | None = None, station: str | None = None) -> Iterator[None]:
    """Have the lines written within carry a run's id or a station's name."""
    marks: list[tuple[ContextVar[str | None], Any]] = []
    for variable, value in ((_RUN, run), (_STATION, station)):
        if value is not None:
            marks.append((variable, variable.set(value)))
    try:
        yield
    finally:
        for variable, mark in marks:
            variable.reset(mark)


class JsonLines(logging.Formatter):
    """Formats records as JSON: time, level, logger, message; run, station and request where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": told(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage())[:LONGEST],
        }
        for name, variable in (("run", _RUN), ("station", _STATION), ("request", _REQUEST)):
            value = getattr(record, name, None) or variable.get()
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))[-LONGEST:]
        return json.dumps(line, ensure_ascii=False)


def without_secrets(text: str) -> str:
    """Return a text with what looks like a token or a password in an address struck out."""
    return _SECRET.sub("***", text)


def configuration(terminal: bool | None = None) -> dict[str, Any]:
    """Return the configuration of Python's logging, as uvicorn's `log_config` takes it.

    Args:
        terminal: whether a person reads along, who gets plain text; by default whether stdout is a terminal.
    """
    people = sys.stdout.isatty() if terminal is None else terminal
    plain = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": plain if people else {"()": JsonLines}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "lines"}},
        "root": {"handlers": ["stdout"], "level": "INFO"},
        # each connection that a client opens is a line of httpx's and alembic tells each start what it is
        "loggers": {name: {"level": "WARNING"} for name in ("httpx2", "httpcore2", "alembic", "watchfiles")},
    }


class Observed:
    """ASGI middleware, the outermost: gives each request an id, counts it, writes down changes and failures.

    Args:
        app: what answers.
        count: called with method, path as the route has it, status, and seconds.
    """

    def __init__(self, app: ASGIApp, count: Callable[[str, str, int, float], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = f"{_PROCESS}{next(_NUMBERS):08x}"
        mark = _REQUEST.set(identity)
        begun = time.perf_counter()
        status = 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._note(scope, status, time.perf_counter() - begun)
            _REQUEST.reset(mark)

    def _note(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")
        self._count(scope["method"], path, status, seconds)
        quiet = scope["method"] in ("GET", "HEAD") or path == "/v1/hello"
        if status >= 500 or not (quiet or status == 401):
            level = logging.WARNING if status >= 500 else logging.INFO
            log.log(level, "%s %s: %d in %.3f s", scope["method"], path, status, seconds)
