"""Jobs of an encode instance done by a program of the crew's own (its option `script`).

The program gets the job as its one JSON argument. Files that it leaves in the
folder that `STATIONMASTER_OUTPUT` names become the product.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from station import ffmpeg_task, files, manifest
from station.config import Config, merge
from station.encode_job import JobFailed
from station.encode_progress import JobProgress
from station.job import JobError, loose_id
from station.script_job import ScriptError, run_script

TIMEOUT = 4 * 3600
"""Seconds for which a program may run, unless the options say otherwise: the longest encode of a talk, twice over."""


def program(config: Config) -> str | None:
    """The absolute path of the instance's program; None if the built-in worker does its jobs."""
    value = config.options.get("script")
    return str(value) if value else None


def loose(path: Path) -> str:
    """The id of a job file that may hold anything."""
    try:
        return loose_id(json.loads(path.read_bytes()), path.stem)
    except (OSError, ValueError, JobError):
        return hashlib.sha256(path.name.encode()).hexdigest()[:16]


def run(
    script: str,
    value: dict[str, Any],
    id_: str,
    work: Path,
    config: Config,
    progress: JobProgress,
    stopping: Callable[[], bool],
) -> bool:
    """Let the program do a job. True if it left a product, ready to be published, in `work`.

    Raises JobFailed with the program's output, or TaskStopped when the unit is being stopped.
    """
    progress.plan("script")
    progress.report("script", 1)(0)
    product = work / "product"
    shutil.rmtree(product, ignore_errors=True)
    product.mkdir()
    sources = {
        name: {"url": source.url, "path": str(source.path) if source.path else None}
        for name, source in config.sources.items()
    }
    environment = {"STATIONMASTER_OUTPUT": str(product), "STATIONMASTER_SOURCES": json.dumps(sources)}
    job = merge(config.options.get("job_defaults", {}), value)
    timeout = config.option("script_timeout", float, float(TIMEOUT))
    try:
        result = run_script(
            script, job, timeout=timeout, folder=work, environment=environment, tick=lambda: not stopping()
        )
    except ScriptError as error:
        raise JobFailed(
            str(error), "correct the option `script` or the job; then move the job back to todo/"
        ) from error
    if result.stopped:
        raise ffmpeg_task.TaskStopped
    if not result.ok:
        advice = "see its output; when the cause is gone, move the job back to todo/"
        report = {key: value for key, value in result.report().items() if key != "reason"}
        raise JobFailed(f"{script}: {result.reason}", advice, **report)
    progress.end("script")
    about = manifest.of_script(id_, job, script, product)
    if about is None:
        return False
    files.sync_folder(product)
    files.write_json(work / "manifest.json", about, durable=True)
    return True
