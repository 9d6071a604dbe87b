"""How far the jobs are: for the unit's status, status.json and the metrics."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from station import files, notify, utc
from station.config import Config
from station.cut import stamp
from station.metrics import Metrics


@dataclass(slots=True)
class Step:
    """A step of a job: `done` of it (0 to 1), and when it began (monotonic seconds; None: it has not)."""

    done: float = 0.0
    begun: float | None = None
    ended: float | None = None

    def remaining(self, now: float) -> float | None:
        """Seconds that it will take at its speed so far; None if that cannot be said yet."""
        if self.ended is not None:
            return 0.0
        if self.begun is None or self.done <= 0.001:
            return None
        return (now - self.begun) * (1 - self.done) / self.done


@dataclass(slots=True)
class JobProgress:
    """Progress of one job, written by its threads and read by the main one."""

    id: str
    title: str
    began: float = field(default_factory=time.time)
    steps: dict[str, Step] = field(default_factory=dict)
    note: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, *names: str) -> None:
        """Announce steps."""
        with self._lock:
            for name in names:
                self.steps[name] = Step()

    def report(self, name: str, total: float) -> Callable[[float], None]:
        """A function that takes what is done of a step, where `total` is all of it."""
        step = self.steps[name]

        def set_done(amount: float) -> None:
            with self._lock:
                step.begun = step.begun if step.begun is not None else time.monotonic()
                step.done = min(1.0, amount / total) if total > 0 else 1.0

        return set_done

    def end(self, name: str) -> None:
        """The step is done."""
        with self._lock:
            self.steps[name].done, self.steps[name].ended = 1.0, time.monotonic()

    def eta(self) -> float | None:
        """Seconds until the job is done; None if that cannot be said yet. Steps run side by side in part: the longest
        of those that run, and those that wait are taken to last as long as it."""
        now = time.monotonic()
        with self._lock:
            known = [step.remaining(now) for step in self.steps.values() if step.begun is not None]
            waiting = sum(1 for step in self.steps.values() if step.begun is None)
            spent = [(step.ended or now) - step.begun for step in self.steps.values() if step.begun is not None]
        if not known or any(seconds is None for seconds in known):
            return None
        return max(seconds or 0.0 for seconds in known) + waiting * max(spent)

    def report_json(self) -> dict[str, Any]:
        """Return the progress as plain data for status.json."""
        eta = self.eta()
        with self._lock:
            steps = {name: {"progress": round(step.done, 3)} for name, step in self.steps.items()}
        return {
            "id": self.id,
            "title": self.title,
            "began": stamp(self.began),
            "steps": steps,
            "eta": None if eta is None else utc.to_text(time.time() + eta),
            "eta_seconds": None if eta is None else round(eta),
            "note": self.note,
        }

    def line(self) -> str:
        """Return the progress as a few words for `systemctl status`."""
        with self._lock:
            shown = [
                f"{name} {step.done:.0%}"
                for name, step in self.steps.items()
                if step.begun is not None and step.ended is None
            ]
        eta = self.eta()
        words = ", ".join(shown) or self.note or "starting"
        return f"{self.id}: {words}" + (f", ETA {clock(eta)}" if eta is not None else "")


def clock(seconds: float) -> str:
    """Say a time span as `1:02:03`."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def tell(
    config: Config,
    metric: Metrics,
    running: Sequence[JobProgress],
    waiting: Mapping[str, str],
    failed: int,
    results: Mapping[str, int],
) -> None:
    """Tell systemd, status.json and the metrics file how the jobs are.

    `waiting` maps a job file in `todo/` to why it waits, `failed` counts those
    in `fail/`, `results` counts what came to an end since the start.
    """
    words = [progress.line() for progress in running]
    words += [f"{name} {reason}" for name, reason in list(waiting.items())[:1] if not running]
    notify.status("; ".join([*words, f"{len(waiting)} waiting, {failed} in fail/"]))
    usage = os.statvfs(config.paths.data)
    status = {
        "state": "running" if running else "waiting" if waiting else "idle",
        "at": stamp(time.time()),
        "jobs": [progress.report_json() for progress in running],
        "waiting": [{"job": name, "reason": reason} for name, reason in waiting.items()],
        "failed": failed,
        "disk": {"free": usage.f_bavail * usage.f_frsize, "size": usage.f_blocks * usage.f_frsize},
    }
    # A full disk must not end the program that waits for room on it.
    with contextlib.suppress(OSError):
        files.write_json(config.paths.data / "status.json", status)
    _measure(metric, running, len(waiting), failed, results)


def _measure(
    metric: Metrics, running: Sequence[JobProgress], waiting: int, failed: int, results: Mapping[str, int]
) -> None:
    name = "stationmaster_encode_"
    for family in ("progress_ratio", "eta_seconds"):
        metric.drop(name + family)
    for progress in running:
        for step, state in list(progress.steps.items()):
            metric.set(name + "progress_ratio", state.done, "What of a step is done.", job=progress.id, step=step)
        if (eta := progress.eta()) is not None:
            metric.set(name + "eta_seconds", eta, "Seconds until a job is done.", job=progress.id)
    metric.set(name + "jobs_running", len(running), "Jobs being worked on.")
    metric.set(name + "jobs_waiting", waiting, "Jobs in todo/.")
    metric.set(name + "jobs_failed", failed, "Jobs in fail/.")
    for result, count in results.items():
        metric.set(name + "jobs_total", count, "Jobs that ended since the start.", kind="counter", result=result)
    metric.write()
