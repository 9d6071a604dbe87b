"""The station's units as systemd sees them, in one call, and the failures that were noted of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from station.applier.layout import Layout
from station.applier.systemd import ABSENT, PROPERTIES, Status

SINCE = "StateChangeTimestampMonotonic"
TIMEOUT = 4.0
"""Seconds for systemd to answer."""
FAILURES_TOLD = 20
"""The newest failures that a hello brings."""
TAIL = 4096
"""Bytes at the end of a spool file that are read: some 30 failures."""


def cut(text: object, length: int) -> str:
    """Return a text no longer than the manager takes it."""
    return str(text)[:length]


def units(layout: Layout, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the state of each unit of the manifest.

    Raises:
        OSError, subprocess.SubprocessError: systemd did not answer.
    """
    names = sorted(manifest["units"])[:200]
    if not names:
        return {}
    command = [layout.tool("systemctl"), "show", f"--property={PROPERTIES},{SINCE}", "--", *names]
    environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=True, env=environment
    )
    statuses = {name: Status(ABSENT) for name in names}
    for block in done.stdout.split("\n\n"):
        found = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if found.get("Id") in statuses:
            statuses[found["Id"]].update(found)
    started = layout.started_hashes()
    return {name: _unit(status, manifest["units"][name], started.get(name)) for name, status in statuses.items()}


def _unit(status: Status, wanted: dict[str, Any], started: str | None) -> dict[str, Any]:
    up = status["ActiveState"] in ("active", "reloading") or status.done
    since = int(status.get(SINCE) or 0)
    return {
        "active": cut(status["ActiveState"], 64),
        "sub": cut(status["SubState"], 64),
        "since": round(time.time() - time.monotonic() + since / 1e6) if since else None,
        "result": cut(status["Result"], 64),
        "restarts": int(status.get("NRestarts") or 0),
        "status": cut(status.get("StatusText", ""), 1000),
        "healthy": up and started == wanted["hash"] and not status.masked,
        "live": bool(wanted["live"]),
        "masked": status.masked,
    }


class Spool:
    """The failures that units noted when they ended; a file is read again only when it changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]] = {}

    def newest(self) -> list[dict[str, Any]]:
        """Return the newest failures of all units, the newest first. Raises OSError."""
        there: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]] = {}
        for entry in os.scandir(self._folder) if self._folder.is_dir() else ():
            if not entry.name.endswith(".jsonl"):
                continue
            status = entry.stat(follow_symlinks=False)
            sign = (status.st_mtime_ns, status.st_size)
            known = self._seen.get(entry.name)
            there[entry.name] = known if known and known[0] == sign else (sign, _read(Path(entry.path)))
        self._seen = there
        found = [failure for _, failures in there.values() for failure in failures]
        return sorted(found, key=lambda failure: -float(failure["time"]))[:FAILURES_TOLD]


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read(TAIL).splitlines()
    found = []
    for line in lines[-FAILURES_TOLD:]:
        try:
            value = json.loads(line)
            texts = {key: cut(value.get(key, ""), 64) for key in ("result", "code", "status")}
            found.append({"unit": cut(value["unit"], 255), "time": float(value["time"]), **texts})
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # cut in the middle by our seek, or by a power cut
    return found
