"""What upload and sync have in common: the way to a target, its rate, and what the crew sees of it."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from typing import Any

from station import files, notify, utc
from station.beat import Beat
from station.config import Config, ConfigError
from station.deliver import LargeFiles
from station.metrics import Metrics
from station.rclone import Progress, Rclone
from station.remote import Remote, open_remote
from station.words import amount, duration

log = logging.getLogger(__name__)
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kKMG]?)")
_UNITS = {"": 1, "k": 1024, "K": 1024, "M": 1024**2, "G": 1024**3}
PRESENT = 60.0
"""Seconds: an instance that wrote its metrics within this time is up."""
REPORT_INTERVAL = 1.0
"""Seconds between two writings of status.json during a transfer."""


def bytes_per_second(value: Any) -> int | None:
    """Read a rate: bytes in a second, also with k, M or G (`5M` is 5 MiB). ValueError for anything else."""
    found = _RATE.fullmatch(str(value)) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    if found is None or not float(found[1]):
        raise ValueError(f"{value!r} is no rate; allowed are bytes in a second, such as 5M")
    return int(float(found[1]) * _UNITS[found[2]])


class Uplink:
    """One instance's way to its target."""

    def __init__(self, config: Config, beat: Beat) -> None:
        """Set up the target that the option `target` names. Raises ConfigError; OSError when rclone is missing."""
        self.config = config
        self.beat = beat
        self.target = config.option("target", str)
        if self.target not in config.targets:
            raise ConfigError("options.target", f"is {self.target!r}; known are {', '.join(config.targets) or 'none'}")
        self.remote: Remote = open_remote(self.target, config.targets[self.target], config.paths.run)
        self._rclone_conf = self.remote.config.read_bytes()
        self._rclone: Rclone | None = None
        self.metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
        self.sent = 0
        self._before = 0
        self._fields: dict[str, Any] = {}
        self._text = ""
        self._reported = 0.0
        self.rate()

    def rclone(self) -> Rclone:
        """Return rclone for the target, with progress going to the status."""
        # rclone notes in its file which checksums a server has; after a bad moment that would be "none" for good.
        if self._rclone is None or not self._rclone.hashes_known:
            files.write(self.remote.config, self._rclone_conf, mode=0o600)
            self._rclone = Rclone(self.remote, self.beat.tick, self.report, self.rate)
        return self._rclone

    def large(self) -> LargeFiles | None:
        """Return what goes on in the middle of a large file after a cut, where there is such a way."""
        if self.remote.kind != "sftp":
            return None
        # Half a second and 20 MB, which only a large file is worth.
        from station import sftp_resume

        entry = self.config.targets[self.target]
        sender = sftp_resume.Sender(self.remote, entry, self.beat.tick, self.report, self.rate)
        return LargeFiles(sftp_resume.LARGE, sender.send)

    def rate(self) -> int | None:
        """Return the limit in bytes per second: the instance's own, else its share of the event's, else None."""
        if (own := self.config.options.get("rate_limit")) is not None:
            try:
                return bytes_per_second(own)
            except ValueError as error:
                raise ConfigError("options.rate_limit", str(error)) from error
        event = self.config.context().get("event")
        if not isinstance(event, dict) or "upload_rate" not in event:
            return None
        try:
            whole = bytes_per_second(event["upload_rate"])
        except ValueError as error:
            log.warning("event_upload_rate: %s", error)
            return None
        return whole // self._sharers() if whole else None

    def _sharers(self) -> int:
        """Count the instances of this station that send to targets: the event's rate is for all of them together."""
        now, others = time.time(), 0
        for path in self.config.paths.metrics.parent.glob("*.prom"):
            with contextlib.suppress(OSError):
                others += (
                    path != self.config.paths.metrics
                    and path.name.startswith(("upload-", "sync-"))
                    and now - path.stat().st_mtime < PRESENT
                )
        return 1 + others

    @property
    def staging(self) -> str:
        """Return the name of this instance's own folder below the staging folder at the target."""
        return f"{self.config.station}-{self.config.instance}"

    @property
    def place(self) -> tuple[str, str]:
        """Return the folders below the target's: event and room (or station, if it belongs to none)."""
        return self.config.event, self.config.room or self.config.station

    def say(self, state: str, text: str, **fields: Any) -> None:
        """Tell the state: one line for systemd, the fields for status.json, and the metrics."""
        self._fields = {"state": state, "target": self.target, **fields}
        self._text = text
        self._before = 0
        notify.status(text)
        self._write()

    def report(self, progress: Progress) -> None:
        """Tell how far a transfer is."""
        self.sent += max(progress.done - self._before, 0)
        self._before = progress.done
        now = time.monotonic()
        if now - self._reported < REPORT_INTERVAL or not progress.total:
            return
        self._reported = now
        percent = 100 * progress.done // progress.total
        self._fields["progress"] = {
            "bytes": progress.done,
            "total": progress.total,
            "rate": round(progress.rate),
            "eta": progress.eta,
        }
        speed = f"{amount(progress.rate)}/s, {duration(progress.eta)}"
        notify.status(f"{self._text}: {percent} % of {amount(progress.total)}, {speed}")
        self._write()

    def _write(self) -> None:
        name = f"stationmaster_{self.config.role}"
        self.metrics.set(
            f"{name}_sent_bytes_total", self.sent, "Bytes sent to the target.", kind="counter", target=self.target
        )
        self.metrics.write()
        try:
            files.write_json(
                self.config.paths.data / "status.json",
                {**self._fields, "text": self._text, "updated": utc.to_text(time.time())},
            )
        except OSError as error:
            log.warning("cannot write status.json: %s", error)
