"""One job of the built-in worker, from its segments to a product that can be published."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station import cut, encode_formats, ffmpeg_task, files, manifest
from station.config import Config
from station.encode_cards import add_parts, tags
from station.encode_formats import Spec
from station.encode_graph import Film, MediaError, Talk, normalise, open_talk
from station.encode_progress import JobProgress
from station.job import Job
from station.source_segments import Fetcher, SegmentMissing, SourceAway, SourceIndex

AWAY = 60.0
"""Seconds for which a job that has begun waits for its source before it is put back, so that others get their turn."""

SCARCE = 1 << 20
"""Bytes: with less free than this, any failure is put down to the full disk."""


class JobFailed(Exception):
    """The job cannot be done; `more` goes into the reason beside it."""

    def __init__(self, reason: str, what_to_do: str, **more: Any) -> None:
        super().__init__(reason)
        self.record = {"reason": reason, "what_to_do": what_to_do, **more}


class Later(Exception):
    """The job is put back for `seconds`; `counts` if that is to count like a crash."""

    def __init__(self, reason: str, seconds: float, *, counts: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.counts = counts


@dataclass(slots=True)
class Worker:
    """What the jobs of an instance share. `slots` bounds the encoders that run at once, `cores` their threads."""

    config: Config
    slots: threading.Semaphore
    encoders: int
    cores: int
    stopping: Callable[[], bool]
    indexes: dict[str, SourceIndex] = field(default_factory=dict)

    def index(self, name: str) -> SourceIndex:
        """The index of an allowed source."""
        if name not in self.indexes:
            self.indexes[name] = SourceIndex(self.config.sources[name])
        return self.indexes[name]

    def unready(self, job: Job, now: float) -> str | None:
        """Why a job has to wait for its media; None if it may begin. `now` is UTC in seconds."""
        if now < job.end:
            return f"waits for the talk's end at {cut.stamp(job.end)}"
        try:
            segments = self.index(job.source).segments()
        except SourceAway as error:
            return f"waits for {job.source}: {error}"
        late = now < job.end + self.config.option("grace", float, 60.0)
        if late and (gaps := cut.plan(segments, job.start, job.end).gaps):
            return f"waits for {job.source} to bring {gaps[-1]}"
        return None

    def free(self) -> int:
        """Bytes that this instance may still use on its disk; negative if it should give some back."""
        keep = int(self.config.option("keep_free", float, 200.0) * 1e6)
        return shutil.disk_usage(self.config.paths.data).free - keep


class Making:
    """A job being made in its working folder."""

    def __init__(self, worker: Worker, job: Job, work: Path, progress: JobProgress) -> None:
        self._worker = worker
        self._options = worker.config.options
        self._job = job
        self._work = work
        self._progress = progress
        self._abort = threading.Event()
        self._looked = time.monotonic()
        self._full = False

    def run(self) -> None:
        """Leave the finished, durable product in `product/` with its `manifest.json` beside it.

        Raises JobFailed, Later, or TaskStopped when the unit is being stopped.
        """
        self._progress.plan("fetch", "analyse", *self._job.formats)
        try:
            plan, paths = self._fetch()
            self._make(plan, paths)
        except ffmpeg_task.TaskStopped:
            raise self._no_room() if self._full else ffmpeg_task.TaskStopped from None
        except ffmpeg_task.DiskFull as error:
            raise self._no_room() from error
        except ffmpeg_task.TaskStalled as error:
            raise Later(str(error), 30, counts=True) from error
        except (ffmpeg_task.TaskFailed, MediaError, encode_formats.BadProduct) as error:
            # On a full disk ffmpeg's mp4 muxer exits 0 and leaves a torso [measured with 5.1].
            if self._worker.free() < SCARCE:
                raise self._no_room() from error
            raise JobFailed(
                str(error), "see what it says: the recording or an option of the instance is at fault"
            ) from error
        except OSError as error:
            raise self._no_room(str(error)) from error

    def _no_room(self, why: str = "") -> Later:
        # The recording on the same disk needs the room more: give back all of it.
        for name in ("product", "segments"):
            shutil.rmtree(self._work / name, ignore_errors=True)
        free = shutil.disk_usage(self._worker.config.paths.data).free
        return Later(f"waits for room on the disk: {free / 1e6:.0f} MB are free{'; ' + why if why else ''}", 60)

    def _stop(self) -> bool:
        """Asked several times a second while ffmpeg runs."""
        if time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            self._full = self._full or self._worker.free() < 0
        return self._full or self._abort.is_set() or self._worker.stopping()

    def _fetch(self) -> tuple[cut.Plan, dict[str, Path]]:
        job = self._job
        index = self._worker.index(job.source)
        fetcher = Fetcher(index.source, self._work / "segments", self._worker.config.budget.input_timeout)
        paths: dict[str, Path] = {}
        missing: dict[str, str] = {}
        while True:
            segments = [s for s in self._patiently(index.segments) if s.name not in missing]
            plan = cut.plan(segments, job.start, job.end)
            self._judge(plan, list(missing.values()))
            total = sum(segment.size for segment in plan.segments.values())
            if not paths and self._worker.free() < (0 if index.source.path else total) + total:
                raise self._no_room(f"the job needs up to {2 * total / 1e6:.0f} MB more than is to be kept free")
            report = self._progress.report("fetch", len(plan.segments))
            found = len(missing)
            for number, segment in enumerate(plan.segments.values()):
                try:
                    if segment.name not in paths:
                        paths[segment.name] = self._patiently(functools.partial(fetcher.get, segment))
                except SegmentMissing as error:
                    missing[segment.name] = str(error)
                report(number + 1)
            if len(missing) == found:
                self._progress.end("fetch")
                return plan, paths

    def _judge(self, plan: cut.Plan, missing: list[str]) -> None:
        gaps = [gap.report() for gap in plan.gaps]
        lost = sum(gap.end - gap.start for gap in plan.gaps)
        if not plan.frames:
            reason = f"{self._job.source} has no media at all from {cut.stamp(self._job.start)} to "
            reason += cut.stamp(self._job.end)
            advice = (
                "correct source, start or end; or wait until the recording is copied, and move the job back to todo/"
            )
            raise JobFailed(reason, advice, gaps=gaps, segments=missing)
        if plan.gaps and not self._job.allow_gaps:
            reason = f"{lost:.3f} s of media are missing from {self._job.source}: {', '.join(map(str, plan.gaps))}"
            advice = (
                "take another source (a second copy), correct start or end, or set `allow_gaps: true` to go without; "
            )
            advice += "then move the job back to todo/"
            raise JobFailed(reason, advice, gaps=gaps, segments=missing)

    def _patiently(self, look: Callable[[], Any]) -> Any:
        """The result of `look`, again and again while the source is away, for a while."""
        begun = time.monotonic()
        pause = 0.5
        while True:
            if self._stop():
                raise ffmpeg_task.TaskStopped
            try:
                return look()
            except SourceAway as error:
                self._progress.note = f"waits for its source: {error}"
                if time.monotonic() - begun > AWAY:
                    raise Later(f"waits for {self._job.source}: {error}", 30) from error
            time.sleep(pause)
            pause = min(5.0, pause * 2)

    def _make(self, plan: cut.Plan, paths: Mapping[str, Path]) -> None:
        shutil.rmtree(self._work / "product", ignore_errors=True)
        (self._work / "product").mkdir()
        (self._work / "manifest.json").unlink(missing_ok=True)
        talk = open_talk(plan, dict(paths), self._work)
        if "audio" in self._job.formats and not talk.languages:
            raise MediaError("the recording has no sound: an audio file cannot be made of it")
        if self._job.language and talk.languages:
            talk.languages = (self._job.language, *talk.languages[1:])
        loudness = self._options.get("loudness", {})
        norm = (float(loudness.get("target", -23)), float(loudness.get("true_peak", -1)))
        report = self._progress.report("analyse", talk.seconds)
        with self._slot():
            talk.loudness = encode_formats.measure(talk, self._work, *norm, report, self._stop)
        self._progress.end("analyse")
        specs = self._specs(talk, norm)
        made = self._encode(specs)
        files.sync_folder(self._work / "product")
        about = manifest.talk(self._job, self._worker.config, talk, norm[0], made)
        files.write_json(self._work / "manifest.json", about, durable=True)

    def _specs(self, talk: Talk, norm: tuple[float, float]) -> list[Spec]:
        job = self._job
        threads = max(1, self._worker.cores // min(self._worker.encoders, len(job.formats)))
        texts = tags(job, self._worker.config)
        film = Film(talk, self._work)
        if set(job.formats) - {"audio"}:
            add_parts(film, job, self._worker.config, norm, self._stop)
        specs = []
        for format_ in job.formats:
            if format_ == "audio":
                norms = [normalise(talk.loudness[0], *norm, talk.seconds)]
                specs.append(encode_formats.audio_spec(talk, norms, job.id, self._options, texts))
            else:
                specs.append(encode_formats.film_spec(film, format_, job.id, self._options, texts, threads))
        return specs

    def _encode(self, specs: list[Spec]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(len(specs)) as pool:
            running = [pool.submit(self._one, spec) for spec in specs]
            try:
                return [future.result() for future in running]
            except BaseException:
                self._abort.set()
                # The one that failed tells why; the others only say that they were stopped for it.
                errors = [future.exception() for future in running]
                for error in errors:
                    if error is not None and not isinstance(error, ffmpeg_task.TaskStopped):
                        raise error from None
                raise

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold one of the places for encoders, shared with the other jobs."""
        while not self._worker.slots.acquire(timeout=0.5):
            if self._stop():
                raise ffmpeg_task.TaskStopped
        try:
            yield
        finally:
            self._worker.slots.release()

    def _one(self, spec: Spec) -> dict[str, Any]:
        with self._slot():
            report = self._progress.report(spec.format, spec.seconds)
            report(0)
            ffmpeg_task.run(spec.arguments, self._work, report, self._stop)
            facts = encode_formats.check(spec, self._work)
        path = self._work / "product" / spec.name
        files.sync_file(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._progress.end(spec.format)
        return {"name": spec.name, "size": path.stat().st_size, "sha256": sha256, **facts}
