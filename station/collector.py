"""Keeps the stations' journals: systemd-journal-remote, supervised, and within a size.

systemd 252's journal-remote knows no limit (MaxUse= came with 254). We remove the oldest
files; when those in use take more than half, it is started anew with new ones.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

from station import bound, config, notify
from station.foreign import Probe
from station.metrics import Metrics

log = logging.getLogger(__name__)

REMOTE = "/lib/systemd/systemd-journal-remote"
STEP = 0.2
"""Seconds between two looks at the daemon."""
LOOK = 2.0
"""Seconds between two probes."""
PRUNE = 30.0
"""Seconds between two looks at the size: 60 stations that all write 1 MB/s would add 2 GB."""
RENEW = 600.0
"""Seconds at least between two new starts with new files."""
END = 5.0
"""Seconds that journal-remote gets to close its files."""
SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size_of(text: str) -> int:
    """Return a size such as `4G` in bytes."""
    return int(text[:-1]) * SUFFIXES[text[-1]] if text[-1] in SUFFIXES else int(text)


class Store:
    """The folder of journals. `limit` is in bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return time of the last change, bytes on the disk and path of each file, the oldest first."""
        found = []
        for path in self._folder.glob("*.journal*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, status.st_blocks * 512, path))
        return sorted(found)

    def size(self) -> int:
        """Return what all take, in bytes."""
        return sum(size for _, size, _ in self._files())

    def crowded(self) -> bool:
        """Return whether the files in use take so much that too little would be left for older ones."""
        return sum(size for _, size, path in self._files() if _in_use(path)) > self._limit / 2

    def rotate(self) -> None:
        """Give the files in use the names of old ones; only while nobody writes."""
        for _, _, path in self._files():
            if _in_use(path):
                path.rename(path.with_name(f"{path.stem}@{time.time_ns()}.journal"))

    def prune(self) -> int:
        """Remove the oldest files until the limit holds; return how many."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        removed = 0
        for _, size, path in files:
            if total <= self._limit:
                break
            if not _in_use(path):
                path.unlink(missing_ok=True)
                total -= size
                removed += 1
        return removed


def _in_use(path: Path) -> bool:
    """Files with an @ or a ~ in their name were rotated, by journal-remote or by us."""
    return "@" not in path.name and not path.name.endswith("~")


class Collector:
    """Runs journal-remote on a port, writing into a store."""

    def __init__(self, port: int, folder: Path, store: Store, metrics: Metrics) -> None:
        self._command = [REMOTE, f"--listen-http={port}", f"--output={folder}", "--split-mode=host"]
        self._probe = Probe(f"tcp://127.0.0.1:{port}", 2.0)
        self._store = store
        self._metrics = metrics
        self._stopping = False

    def stop(self, *_: object) -> None:
        """Have `run` end."""
        self._stopping = True

    def run(self) -> int:
        """Collect until told to stop, or until journal-remote ends; returns the exit status."""
        process = self._start()
        ready, look, prune, renew = False, 0.0, 0.0, 0.0
        while not self._stopping:
            if process.poll() is not None:
                log.error("journal-remote ended by itself with %d", process.returncode)
                return 1
            at = time.monotonic()
            if at >= look:
                look = at + LOOK
                failure = self._probe.failure()
                notify.status("collecting" if failure is None else f"does not answer: {failure}")
                if failure is None and not ready:
                    ready = True
                    notify.ready("collecting")
                elif failure is None:
                    notify.watchdog()
            if at >= prune:
                prune = at + PRUNE
                if at >= renew and self._store.crowded():
                    renew = at + RENEW
                    self._end(process)
                    self._store.rotate()
                    process = self._start()
                self._keep_size()
            time.sleep(STEP)
        notify.stopping()
        self._end(process)
        return 0

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(bound.command(self._command, signal.SIGTERM), env=notify.without())

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _keep_size(self) -> None:
        removed = self._store.prune()
        if removed:
            log.info("%d journal files removed: the oldest, to keep the size", removed)
        self._metrics.set("stationmaster_collector_bytes", self._store.size(), "What the journals take")
        self._metrics.write()


def main(argv: list[str] | None = None) -> int:
    """Collect until a TERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="station.collector", description="Keep the stations' journals.")
    parser.add_argument("--config", required=True, help="the instance's config.json")
    arguments = parser.parse_args(argv)
    config.set_up_log()
    try:
        told = config.load(arguments.config)
        store = Store(told.paths.data, size_of(told.option("max_size", str)))
        metrics = Metrics(told.paths.metrics, {"role": told.role, "instance": told.instance})
        collector = Collector(told.option("port", int), told.paths.data, store, metrics)
    except config.ConfigError as error:
        log.error("%s", error)
        return config.EX_CONFIG
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, collector.stop)
    return collector.run()


if __name__ == "__main__":
    sys.exit(main())
