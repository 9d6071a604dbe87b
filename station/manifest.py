"""The manifest of a product: what upload, ingest and record read of it."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from station import cut, ffmpeg_task, files
from station.config import Config
from station.encode_graph import Talk
from station.job import Job


def talk(job: Job, config: Config, done: Talk, target: float, made: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a talk: what it is, from which segments it was cut, and its files (`made`).

    `target` is the loudness that it was brought to, in LUFS.
    """
    rate = done.plan.rate
    ranges = [
        {
            "source": job.source,
            "start": cut.stamp(piece.start),
            "end": cut.stamp(piece.start + piece.frames / float(rate)),
            "frames": piece.frames,
            "first_seq": piece.wanted[0].seq,
            "last_seq": piece.wanted[-1].seq,
            "segments": [{"name": segment.name, "sha256": segment.sha256} for segment in piece.wanted],
        }
        for piece in done.plan.pieces
    ]
    measured = [{"integrated": item.integrated, "peak": item.peak} for item in done.loudness]
    return {
        "schema": 1,
        "id": job.id,
        "title": job.title,
        "presenters": list(job.presenters),
        "description": job.description,
        "source": job.source,
        "start": cut.stamp(job.start),
        "end": cut.stamp(job.end),
        "event": config.event,
        "room": config.room,
        "station": config.station,
        "frames": done.plan.frames,
        "rate": str(rate),
        "ranges": ranges,
        "gaps": [gap.report() for gap in done.plan.gaps],
        "loudness": {"target": target, "measured": measured},
        "files": made,
        "tools": tools(),
        "finished_at": cut.stamp(time.time()),
    }


def of_script(id_: str, job: Mapping[str, Any], script: str, product: Path) -> dict[str, Any] | None:
    """The manifest of what a program of the crew's left in the folder `product`; None if it left nothing.

    The files are made durable.
    """
    made = [_described(path, product) for path in sorted(product.rglob("*")) if path.is_file()]
    if not made:
        return None
    return {
        "schema": 1,
        "id": id_,
        **{key: job[key] for key in ("title", "presenters", "source", "start", "end") if key in job},
        # What the program read is not known: no recording counts as saved because of it.
        "ranges": [],
        "files": made,
        "tools": {**tools(), "script": script},
        "finished_at": cut.stamp(time.time()),
    }


def _described(path: Path, product: Path) -> dict[str, Any]:
    files.sync_file(path)
    files.sync_folder(path.parent)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    name = path.relative_to(product).as_posix()
    return {"name": name, "size": path.stat().st_size, "sha256": sha256, "format": path.suffix.lstrip(".")}


def tools() -> dict[str, str]:
    """What made a product: versions of ffmpeg and Python, and the folder of our code, which is named by its hash."""
    code = Path(__file__).resolve().parent.parent.name
    return {"ffmpeg": ffmpeg_task.version(), "python": platform.python_version(), "code": code}
