"""Ends the processes of a run on this machine: first politely, then all that descend from its supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import psutil

GRACE = 3.0
"""Seconds that ansible-playbook gets to end its workers after SIGTERM; it kills them itself after 2.5 s."""
KILL = 3.0
"""Seconds for SIGKILL to have worked on everything."""
MARK = "STATIONMASTER_SUPERVISED"
"""Variable in the environment of all that a supervisor starts, by which a dead one's processes are found."""
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def adopt_orphans() -> None:
    """Let processes whose parent ends become children of this one, so that none of a run gets out of sight.

    Workers of ansible-core are leaders of sessions of their own: neither the process group
    nor, once ansible-playbook is gone, the tree would still have them.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children(grace: float = GRACE) -> None:
    """End all that descends from this process: SIGTERM to its own children, after `grace` s SIGKILL to everything."""
    me = psutil.Process()
    own = me.children()
    for child in own:
        _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + grace
    # never psutil's wait: the exit status belongs to whoever started the child
    while any(_status(child) != psutil.STATUS_ZOMBIE for child in own) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + KILL
    while (left := _living(me)) and time.monotonic() < deadline:
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(0.05)


def end_marked(run: str) -> None:
    """Kill what an earlier supervisor of this run left behind: processes that carry its mark."""
    wanted = f"{MARK}={run}".encode()
    deadline = time.monotonic() + KILL
    while time.monotonic() < deadline:
        left = [pid for pid in _marked(wanted) if pid != os.getpid()]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _marked(wanted: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _living(me: psutil.Process) -> list[psutil.Process]:
    return [child for child in me.children(recursive=True) if _status(child) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
