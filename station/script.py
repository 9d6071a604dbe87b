"""The station role `script`: a program of the crew's own, kept running.

`python3 -m station.script --config FILE`. The program's output goes where ours
goes, to the journal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from station import config as configuration
from station import files, metrics, notify
from station.config import Config, ConfigError
from station.script_job import ARGUMENT_LIMIT, ScriptError, command_of, end_group

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at the program."""
SHORTEST, LONGEST = 1.0, 60.0
"""Seconds from the end of a program that fails to its next start: first, and at most."""
SETTLED = 60.0
"""Seconds after which a run counts as one that worked: the next pause is the shortest again."""


class Script:
    """The role's running process."""

    def __init__(self, config: Config) -> None:
        """Take the configuration. Raises ConfigError."""
        self._config = config
        self._program = config.option("program", str)
        self._repeat = config.options.get("repeat")
        # The credential is merged into the configuration: of all options only these may become an argument.
        self._argument = json.dumps(config.option("options", dict, {}), ensure_ascii=False, sort_keys=True)
        if len(self._argument.encode()) > ARGUMENT_LIMIT:
            raise ConfigError("options.options", f"is longer than an argument may be ({ARGUMENT_LIMIT} bytes)")
        self._stop = threading.Event()
        self._metrics = metrics.Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
        self._runs = {"ok": 0, "failed": 0}
        self._pause = SHORTEST

    def run(self) -> int:
        """Keep the program running until told to stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._say("starting", "starting")
        notify.ready("starting")
        while not self._stop.is_set():
            text, wait = self._once()
            if not self._stop.is_set():
                log.warning("%s", text) if wait is None else log.info("%s", text)
                self._rest(text, self._backed_off() if wait is None else wait)
        notify.stopping()
        return 0

    def _once(self) -> tuple[str, float | None]:
        """Run the program once; returns what to say of it, and the pause in seconds (None: it failed)."""
        begun = time.monotonic()
        try:
            command = [*command_of(self._program), self._argument]
            process = subprocess.Popen(
                command,
                cwd=self._config.paths.data,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (ScriptError, OSError) as error:
            self._runs["failed"] += 1
            return f"cannot start {self._program}: {error}", None
        try:
            while process.poll() is None and not self._stop.is_set():
                self._say("running", f"running {self._program} as process {process.pid}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
        finally:
            end_group(process)
        worked = process.returncode == 0
        self._runs["ok" if worked else "failed"] += 1
        if time.monotonic() - begun > SETTLED:
            self._pause = SHORTEST
        text = f"{self._program} ended with {process.returncode}"
        if worked and self._repeat is not None:
            self._pause = SHORTEST
            return text, float(self._repeat)
        return text, None

    def _environment(self) -> dict[str, str]:
        etc = self._config.paths.context.parent
        added = {
            "HOME": str(self._config.paths.data),
            "STATIONMASTER_CONFIG": str(etc / "config.json"),
            "STATIONMASTER_DATA": str(self._config.paths.data),
        }
        if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
            added["STATIONMASTER_SECRETS"] = str(Path(folder) / "secrets.json")
        # It must not speak to systemd in our name.
        inherited = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        return {**inherited, **added}

    def _backed_off(self) -> float:
        pause, self._pause = self._pause, min(LONGEST, self._pause * 2)
        return pause

    def _rest(self, text: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self._say("waiting", f"{text}; starts again in {left:.0f} s")
            self._stop.wait(min(TICK, left))

    def _say(self, state: str, text: str) -> None:
        notify.status(text)
        notify.watchdog()
        for result, count in self._runs.items():
            name = "stationmaster_script_runs_total"
            self._metrics.set(name, count, "Runs that ended, by result.", kind="counter", result=result)
        running = "Whether the program runs."
        self._metrics.set("stationmaster_script_running", state == "running", running)
        self._metrics.write()
        with contextlib.suppress(OSError):
            files.write_json(self._config.paths.data / "status.json", {"state": state, "text": text})


if __name__ == "__main__":
    sys.exit(configuration.program("script", lambda config: Script(config).run()))
