"""The stations' journals, as systemd-journal-remote received them: per station, unit and time."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from api.access import Reader
from api.clock import told
from api.problems import RESPONSES, Problem, ProblemDocument, not_found

router = APIRouter(prefix="/v1", tags=["logs"], responses=RESPONSES)

LINES = 1000
"""Most lines in one answer. journalctl cuts fields at 4096 bytes, so that this is at most some megabytes."""
SECONDS = 10.0
"""Longest that one search may take."""
AT_ONCE = threading.BoundedSemaphore(3)
"""Searches of this process side by side: each reads the whole folder of journals."""
FIELDS = "MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_PID"
LEVELS = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
UNIT = r"^[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,254}$"
"""Name of a unit; no pattern, which journalctl would expand over all units."""
CURSOR = r"^s=[0-9a-f]{32};i=[0-9a-f]{1,16};b=[0-9a-f]{32};m=[0-9a-f]{1,16};t=[0-9a-f]{1,16};x=[0-9a-f]{1,16}$"
_HOSTNAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
EARLIEST, LATEST = 0.0, 253402300799.0
"""Seconds since 1970 that journalctl takes: from 1970 to the end of 9999."""


def _no_number(value: object) -> object:
    # pydantic would take it for seconds or milliseconds, whichever it guesses
    if isinstance(value, str) and not value[4:5] == "-":
        raise ValueError("is no time as in RFC 3339")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class Entry(BaseModel):
    """One entry of a journal."""

    cursor: str
    time: str | None = Field(description="When the station's journal took it.")
    unit: str | None
    identifier: str | None
    pid: int | None
    level: str
    message: str


class Journal(BaseModel):
    """Entries in the order of time."""

    entries: list[Entry]
    after: str | None = Field(description="Ask with this `after` for what comes then.")


@router.get(
    "/stations/{name}/journal",
    responses={404: {"model": ProblemDocument, "description": "No such station, or nobody keeps journals"}},
)
def journal(
    request: Request,
    _principal: Reader,
    name: str,
    unit: Annotated[str | None, Query(pattern=UNIT, examples=["stationmaster-ingest@main.service"])] = None,
    since: Time | None = None,
    until: Time | None = None,
    after: Annotated[str | None, Query(pattern=CURSOR)] = None,
    lines: Annotated[int, Query(ge=1, le=LINES)] = 100,
) -> Journal:
    """Read a station's journal: the newest lines of the time asked for, or those that follow `after`."""
    if since is not None and after is not None:
        raise Problem(
            422, "InvalidRequest", "Both since and after are given.", "Give after alone: what it follows is later."
        )
    manager = request.app.state.manager
    hosts = _hosts(manager, name)
    folder: Path | None = manager.settings.journals
    if folder is None or not folder.is_dir():
        raise Problem(
            404,
            "NoJournals",
            "No journals of stations are kept here.",
            "Give the manager's station the role 'collector' and each station the role 'journal': docs/manager.md.",
        )
    arguments = [f"--directory={folder}", *(f"_HOSTNAME={host}" for host in hosts)]
    if unit is not None:
        arguments.append(f"--unit={unit}")
    arguments += [f"--{word}=@{_seconds(time):.6f}" for word, time in (("since", since), ("until", until)) if time]
    if after is not None:
        found = _search([*arguments, f"--after-cursor={after}"], lines, _Seen(after))
    else:
        found = _search([*arguments, "--reverse"], lines, _Seen(None))[::-1]
    entries = [_entry(one) for one in found]
    return Journal(entries=entries, after=entries[-1].cursor if entries else after)


def _hosts(manager: Any, name: str) -> list[str]:
    """Return the host names that a station's entries may carry: its own, and what it said that it is called."""
    view = manager.registry.view(name)
    if view is None and not manager.registry.assigned(name):
        raise not_found("station", name)
    said = str(view.said.get("hostname") or name) if view else name
    return [host for host in dict.fromkeys((name, said)) if _HOSTNAME.fullmatch(host)]


def _seconds(time: datetime) -> float:
    return min(max(time.timestamp(), EARLIEST), LATEST)


class _Seen:
    """Which entries were given: after a cut the station sends the last one again, and it gets a place of its own."""

    def __init__(self, cursor: str | None) -> None:
        self._keys = {self._key(cursor)} if cursor else set()

    @staticmethod
    def _key(cursor: str) -> str:
        """Return boot, both times and the hash of the content, without the receiver's own numbers."""
        return cursor[cursor.index(";b=") :]

    def new(self, cursor: str) -> bool:
        key = self._key(cursor)
        known = key in self._keys
        self._keys.add(key)
        return not known


def _search(arguments: Sequence[str], lines: int, seen: _Seen) -> list[dict[str, Any]]:
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--output-fields={FIELDS}", *arguments]
    found: list[dict[str, Any]] = []
    with _one_of_few(), _started(command) as process:
        for line in process.stdout or ():
            entry = json.loads(line)
            if seen.new(entry["__CURSOR"]):
                found.append(entry)
                if len(found) == lines:
                    return found
        error = process.stderr.read() if process.stderr else b""
        if process.wait():
            _failed(process.returncode, error)
    return found


@contextlib.contextmanager
def _one_of_few() -> Iterator[None]:
    if not AT_ONCE.acquire(timeout=SECONDS):
        raise Problem(
            429,
            "TooManySearches",
            "Others search the journals.",
            "Ask again a little later.",
            retryable=True,
            headers={"Retry-After": "5"},
        )
    try:
        yield
    finally:
        AT_ONCE.release()


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that is killed at the end, and after `SECONDS` anyway."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"LC_ALL": "C.UTF-8"}
    ) as process:
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def _failed(status: int, error: bytes) -> None:
    """Judge the end of journalctl. It exits with 1 also when nothing fits."""
    if status < 0:
        raise Problem(
            422,
            "SearchTooLarge",
            f"The search took longer than {SECONDS:g} s.",
            "Ask for a shorter time: since, until.",
        )
    if error.strip():
        raise RuntimeError(f"journalctl: {error.decode(errors='replace')[:500]}")


def _entry(raw: dict[str, Any]) -> Entry:
    priority, pid = _text(raw.get("PRIORITY")) or "6", _text(raw.get("_PID")) or ""
    return Entry(
        cursor=raw["__CURSOR"],
        time=told(int(raw["__REALTIME_TIMESTAMP"]) / 1e6),
        unit=_text(raw.get("UNIT") or raw.get("_SYSTEMD_UNIT")),
        identifier=_text(raw.get("SYSLOG_IDENTIFIER")),
        pid=int(pid) if pid.isdecimal() else None,
        level=LEVELS[int(priority)] if priority in "01234567" and len(priority) == 1 else "info",
        message=_text(raw.get("MESSAGE")) or "(longer than 4096 bytes, or empty)",
    )


def _text(value: Any) -> str | None:
    """Return a field: a text, a list of bytes where it is no UTF-8, a list of such where it repeats."""
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        return bytes(value).decode(errors="replace")
    if isinstance(value, list):
        return _text(value[0]) if value else None
    return None if value is None else str(value)
