"""An encode instance in a temporary folder, run as the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.encode.recording import Recording

TOP = Path(__file__).resolve().parents[2]
FAST: dict[str, Any] = {
    "mp4": {"preset": "ultrafast"},
    "webm": {"speed": 8},
    "title": {"seconds": 1},
    "credits": {"seconds": 1},
    "keep_free": 1,
    "grace": 1,
}


class Instance:
    """An encode instance: `todo` to put jobs into, `start` and `kill`, and looks at what it did."""

    def __init__(self, root: Path, sources: dict[str, Recording | str] | None = None, **options: Any) -> None:
        self.root = root
        self.data = root / "data"
        self.sources = {
            name: {"role": "ingest", "url": place if isinstance(place, str) else "http://127.0.0.1:9/", "path": None}
            | ({} if isinstance(place, str) else {"path": str(place.folder)})
            for name, place in (sources or {}).items()
        }
        self.options = {**FAST, "from": next(iter(self.sources), None), **options}
        self.process: subprocess.Popen[bytes] | None = None
        self.recordings = {name: place for name, place in (sources or {}).items() if isinstance(place, Recording)}
        (self.data / "todo").mkdir(parents=True, exist_ok=True)
        self.write_config()

    def write_config(self) -> None:
        """Write config.json and context.json again, after `options` changed."""
        value = {
            "schema": 1,
            "event": "conf",
            "room": "hall_a",
            "station": "hall-a-enc",
            "role": "encode",
            "instance": "talks",
            "options": self.options,
            "sources": self.sources,
        }
        (self.root / "config.json").write_text(json.dumps(value))
        context = {"event": {"title": "A Conference", "timezone": "Europe/Vienna"}, "room": {"title": "Hall A"}}
        (self.root / "context.json").write_text(json.dumps(context))

    def job(self, id_: str = "talk", first: float = 61, last: float = 161, **more: Any) -> dict[str, Any]:
        """A job for the frames from `first` up to `last`, the last not included."""
        recording = next(iter(self.recordings.values()))
        times = {"start": recording.at(first), "end": recording.at(last)}
        return {"id": id_, "title": f"Talk {id_}", "presenters": ["Ann"], **times, **more}

    def put(self, job: Any, name: str | None = None) -> Path:
        """Drop a job file into todo/."""
        path = self.data / "todo" / f"{name or job['id']}.json"
        path.write_text(job if isinstance(job, str) else json.dumps(job))
        return path

    def start(self) -> None:
        """Start the program."""
        (self.data / "status.json").unlink(missing_ok=True)
        path = f"{self.root}:{os.environ['PATH']}"
        environment = {**os.environ, "PYTHONPATH": f"{self.root}:{TOP}", "PATH": path}
        command = [sys.executable, "-m", "station.encode", "--config", str(self.root / "config.json")]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def slow(self, pattern: str) -> None:
        """Let each ffmpeg whose arguments hold `pattern` read no faster than in real time; nothing else: none."""
        shim = self.root / "ffmpeg"
        body = (
            f'#!/bin/sh\ncase "$*" in *"{pattern}"*) exec /usr/bin/ffmpeg -re "$@";; esac\nexec /usr/bin/ffmpeg "$@"\n'
        )
        shim.write_text(body)
        shim.chmod(0o755)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the program with a signal; returns its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.process = None
        return status

    def said(self) -> str:
        """The log so far."""
        return (self.root / "log").read_text()

    def wait(self, seen: Callable[[], Any], seconds: float = 40) -> Any:
        """Wait for something to be true and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := seen():
                return value
            assert self.process is None or self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(f"not seen in {seconds} s\n{self.said()}\n{self.tree()}\n{self.reasons()}")

    def finished(self, id_: str = "talk", seconds: float = 40) -> dict[str, Any]:
        """Wait for a product and return its manifest."""
        path = self.data / "done" / id_ / "manifest.json"

        def seen() -> bool:
            assert not self.reasons(), self.reasons()
            return path.exists()

        self.wait(seen, seconds)
        return json.loads(path.read_text())

    def failed(self, name: str = "talk", seconds: float = 20) -> dict[str, Any]:
        """Wait for a job to fail and return the reason."""
        path = self.data / "fail" / f"{name}.json"
        self.wait(path.exists, seconds)
        return json.loads(path.with_suffix(".reason.json").read_text())

    def reasons(self) -> list[Any]:
        """The reasons of all failed jobs."""
        return [json.loads(path.read_text()) for path in (self.data / "fail").glob("*.reason.json")]

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        try:
            return json.loads((self.data / "status.json").read_text())
        except FileNotFoundError:
            return {"state": "", "jobs": [], "waiting": []}

    def waits(self, text: str, seconds: float = 60) -> None:
        """Wait until status.json gives a reason with `text` in it for a job that waits."""
        self.wait(lambda: any(text in row["reason"] for row in self.status()["waiting"]), seconds)

    def step(self, name: str) -> bool:
        """Whether a step of the first running job has begun."""
        jobs = self.status()["jobs"]
        return bool(jobs) and jobs[0]["steps"].get(name, {"progress": 0})["progress"] > 0

    def tree(self) -> list[str]:
        """All files below the data folder."""
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())
