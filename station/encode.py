"""The station role `encode`: jobs in `todo/` become talks in `done/`.

`python3 -m station.encode --config FILE`. One thread looks for jobs, one makes
each job, the main one tells systemd, status.json and the metrics how far they are.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from station import admission, encode_script, ffmpeg_task, metrics, notify
from station import config as configuration
from station import job as jobs
from station.config import Config, ConfigError, merge
from station.encode_job import JobFailed, Later, Making, Worker
from station.encode_progress import JobProgress, tell
from station.job_folder import Busy, JobFolder, Waiting

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at `todo/`."""
REPORT = 1.0
"""Seconds between two reports."""
BEAT = 120.0
"""Seconds that a look at one job may take: a few time-outs of its source, many times over."""
SWEEP = 600.0
"""Seconds between two removals of working folders whose job was taken away."""
RECHECK = 3.0
"""Seconds between two looks at the same waiting job's media."""


class Encode:
    """The role's running process."""

    def __init__(self, config: Config) -> None:
        """Take the configuration; raises ConfigError or Busy."""
        self.config = config
        zone = (config.context().get("event") or {}).get("timezone")
        self.gate = admission.from_options(config.options, zone)
        self.script = encode_script.program(config)
        if not config.sources and not self.script:
            raise ConfigError("options.from", "names no source, and no `script` does the jobs")
        self.formats = tuple(config.option("formats", list, list(jobs.FORMATS)))
        self.folder = JobFolder(config.paths.data, os.environ.get("STATIONMASTER_BOOT_ID") or _boot_id())
        self.stop = threading.Event()
        cores = len(os.sched_getaffinity(0))
        encoders = config.option("encoders", int, 0) or cores
        slots = threading.Semaphore(encoders)
        self.worker = Worker(config, slots, encoders, cores, self.stop.is_set)
        self.running: dict[str, tuple[JobProgress, threading.Thread]] = {}
        self.waiting: dict[str, str] = {}
        self.results = {"done": 0, "failed": 0, "put_back": 0}
        self._later: dict[str, tuple[float, str]] = {}
        self._ready: dict[str, float] = {}
        self._looked: dict[str, tuple[float, str | None]] = {}
        self._beat = self._swept = time.monotonic()

    # what comes in

    def look(self) -> None:
        """One look at `todo/`: refuse what is bad, begin what may begin, say why the rest waits."""
        self.folder.tidy()
        waiting: dict[str, str] = {}
        ids: set[str] = set()
        for found in self.folder.scan():
            self._beat = time.monotonic()
            name = found.path.name
            try:
                job, id_ = self._understand(found)
                if reason := self._duplicate(id_, ids, bool(found.value.get("replace"))):
                    raise jobs.JobError(reason)
            except jobs.JobError as error:
                what = "correct the file and move it back to todo/"
                self._refuse(found.path, {"reason": str(error), "what_to_do": what})
                continue
            ids.add(id_)
            reason = self._waits(job, id_, name)
            if reason is None:
                reason = self._begin(found, job, id_)
            if reason is not None:
                waiting[name] = reason
        self.waiting = waiting
        self._beat = time.monotonic()
        if self._beat - self._swept > SWEEP:
            self._swept = self._beat
            self.folder.sweep(ids | set(self.running))

    def _understand(self, found: Waiting) -> tuple[jobs.Job | None, str]:
        """The job and its id; no job for a program of the crew's, which understands its own."""
        if found.problem is not None:
            raise jobs.JobError(found.problem)
        if self.script is not None:
            return None, jobs.loose_id(found.value, found.path.stem)
        value = merge(self.config.option("job_defaults", dict, {}), found.value)
        job = jobs.parse(value, list(self.config.sources), self.formats)
        return job, job.id

    def _duplicate(self, id_: str, ids: set[str], replace: bool) -> str | None:
        if replace:
            return None
        if id_ in ids:
            return f"id: another job with the id {id_} waits already"
        if id_ in self.running:
            return f"id: another job with the id {id_} is being worked on"
        if self.folder.finished(id_) and self.script is None:
            return f"id: done/{id_}/ is finished already; choose another id, or set `replace: true` to make it anew"
        return None

    def _waits(self, job: jobs.Job | None, id_: str, name: str) -> str | None:
        if id_ in self.running:
            return f"waits until the other job with the id {id_} is done"
        until, reason = self._later.get(id_, (0.0, ""))
        if time.monotonic() < until:
            return reason
        known = None
        if job is not None:
            # Looking at a source may take seconds: not for every job at every tick.
            since, known = self._looked.get(name, (float("-inf"), None))
            if time.monotonic() - since > RECHECK:
                known = self.worker.unready(job, time.time())
                self._looked[name] = (time.monotonic(), known)
        if known:
            return known
        waited = time.monotonic() - self._ready.setdefault(id_, time.monotonic())
        return self.gate.refusal(len(self.running), time.time(), waited)

    def _begin(self, found: Waiting, job: jobs.Job | None, id_: str) -> str | None:
        try:
            crashes, reboots = self.folder.begin(id_)
        except OSError as error:
            return f"waits for room on the disk: {error.strerror}"
        limit = self.config.option("max_crashes", int, 3)
        path = self.folder.claim(found)
        if path is None:
            self.folder.forget(id_)
            return "is being changed"
        self._looked.pop(found.path.name, None)
        self._ready.pop(id_, None)
        if crashes >= limit:
            reason = f"was cut off {crashes} times: each time the encoder crashed or stalled while at it"
            self._refuse(path, {"reason": reason, "what_to_do": "see the unit's journal; move it back to try again"})
            self.folder.clean(id_)
            return None
        log.info("%s: begins (%s; cut off before: %d crashes, %d reboots)", id_, path.name, crashes, reboots)
        title = job.title if job else str(found.value.get("title", id_))
        progress = JobProgress(id_, title)
        thread = threading.Thread(target=self._work, args=(path, found.value, job, id_, progress), name=id_)
        self.running[id_] = (progress, thread)
        thread.start()
        return None

    def _refuse(self, path: Path, record: dict[str, Any]) -> None:
        self.folder.refuse(path, record)
        self.results["failed"] += 1

    # one job, in a thread of its own

    def _work(self, path: Path, value: Any, job: jobs.Job | None, id_: str, progress: JobProgress) -> None:
        try:
            self._do(path, value, job, id_, progress)
            self.results["done"] += 1
            log.info("%s: done", id_)
        except ffmpeg_task.TaskStopped:
            self._put_back(path, id_, "stopped with the unit", 0, counts=False)
        except Later as error:
            self._put_back(path, id_, str(error), error.seconds, counts=error.counts)
        except JobFailed as error:
            self._refuse(path, error.record)
            self.folder.clean(id_)
        except Exception as error:
            log.exception("%s: a fault of the encoder itself", id_)
            reason = f"a fault of the encoder itself: {type(error).__name__}: {error}"
            self._refuse(path, {"reason": reason, "what_to_do": "report it with the unit's journal"})
            self.folder.clean(id_)
        finally:
            self.running.pop(id_, None)

    def _do(self, path: Path, value: Any, job: jobs.Job | None, id_: str, progress: JobProgress) -> None:
        work = self.folder.work(id_)
        if job is None:
            product = encode_script.run(self.script or "", value, id_, work, self.config, progress, self.stop.is_set)
        else:
            Making(self.worker, job, work, progress).run()
            product = True
        if product:
            self.folder.publish(path, id_)
        else:
            self.folder.finish(path, id_)

    def _put_back(self, path: Path, id_: str, reason: str, seconds: float, *, counts: bool) -> None:
        self._later[id_] = (time.monotonic() + seconds, reason)
        if not counts:
            self.folder.forget(id_)
        target = self.folder.requeue(path)
        self.results["put_back"] += 1
        log.warning("%s: put back as %s: %s", id_, target.name, reason)

    # start to end

    def recover(self) -> None:
        """Take up what an earlier process left."""
        names: dict[Path, str] = {}
        for path in self.folder.working():
            found = Waiting(path, *_content(path), (0, 0))
            try:
                names[path] = self._understand(found)[1]
            except jobs.JobError:
                names[path] = encode_script.loose(path)
        for told in self.folder.recover(names):
            log.warning("%s", told)

    def run(self) -> int:
        """Work until told to stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        self.recover()
        labels = {"role": self.config.role, "instance": self.config.instance}
        metric = metrics.Metrics(self.config.paths.metrics, labels)
        self._tell(metric)
        notify.ready("looking for jobs")
        scout = threading.Thread(target=self._scout, name="scout", daemon=True)
        scout.start()
        while not self.stop.wait(REPORT):
            self._tell(metric)
            if time.monotonic() - self._beat < BEAT and scout.is_alive():
                notify.watchdog()
        notify.stopping("putting jobs back")
        deadline = time.monotonic() + self.config.budget.stop_timeout - 2
        for _, thread in list(self.running.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        self.folder.close()
        return 0

    def _tell(self, metric: metrics.Metrics) -> None:
        running = [progress for progress, _ in list(self.running.values())]
        tell(self.config, metric, running, dict(self.waiting), self.folder.failed(), self.results)

    def _scout(self) -> None:
        while not self.stop.is_set():
            try:
                self.look()
            except Exception:
                # Without a new beat the watchdog restarts us if this goes on.
                log.exception("looking at todo/ failed")
                self.stop.wait(RECHECK)
            self.stop.wait(TICK)


def _content(path: Path) -> tuple[Any, str | None]:
    try:
        return json.loads(path.read_bytes()), None
    except (OSError, ValueError) as error:
        return None, str(error)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _run(config: Config) -> int:
    try:
        return Encode(config).run()
    except Busy as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(configuration.program("encode", _run))
