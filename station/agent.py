"""The station role `agent`: enrols the station and says hello to the manager.

It takes nothing from the manager but when to come again, and nothing on the station needs it. A manager
that is away is asked again less and less often, at times spread by chance; one that is back hears the rest.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from station import config as configuration
from station import notify, times
from station.agent_hello import Observer
from station.agent_identity import Identity, IdentityFile, host_keys, new_claim
from station.agent_manager import Answer, Away, ManagerClient, SigningClock
from station.applier.layout import Layout
from station.config import Config, ConfigError

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds between two tries while the manager is away: when it is back, all have come within half a minute."""
REFUSED_BEFORE_NEW = 3
"""Hellos refused one after the other before the station enrols anew: one may be a manager that is being restored."""
GOODBYE_SECONDS = 3.0
SPREAD = 0.5
"""Share of a pause that is left to chance: 60 stations must not come back in the same second."""
HELLO, ENROLMENTS = "/v1/hello", "/v1/enrolments"
DISOWNED = ("BadSignature", "MachineChanged", "BootLeft")
"""Refusals that only another enrolment ends."""


class Agent:
    """Says hello until it is told to stop."""

    def __init__(self, config: Config, layout: Layout, clock: SigningClock | None = None) -> None:
        self._name = config.station
        self._token = config.options.get("token")
        self._layout = layout
        self._file = IdentityFile(Path(os.environ.get("STATE_DIRECTORY", config.paths.data)))
        self._stop = threading.Event()
        self._observer = Observer(layout, config.station, config.paths.metrics.parent, notify.watchdog)
        self.boot = self._observer.boot_id()
        url = config.option("manager", str, "")
        self._clock = clock or SigningClock()
        try:
            self._manager = ManagerClient(url, config.options.get("certificate"), self.boot, self._clock)
        except (OSError, ValueError) as error:
            raise ConfigError("options.certificate", f"cannot be used: {error}") from error
        self._url = url
        self._identity = self._file.load()
        self._interval = float(times.HELLO_INTERVAL)
        self._failures = 0
        self._refused = 0
        self._told = ""

    def run(self) -> int:
        """Work until asked to stop; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)
        notify.ready("starting")
        while not self._stop.is_set():
            self._wait(self.turn())
        self._goodbye()
        return 0

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def stop(self) -> None:
        """End the run after the present turn."""
        self._stop.set()

    def _wait(self, seconds: float) -> None:
        left = seconds
        while left > 0 and not self._stop.is_set():
            notify.watchdog()
            self._stop.wait(min(left, 2.0))
            left -= 2.0

    def turn(self) -> float:
        """Ask or tell the manager once; return the seconds until the next time."""
        if not self._url:
            self._say("no manager has an address: set event_manager_url")
            return LONGEST_PAUSE
        try:
            if self._identity.enrolled:
                pause = self._hello()
                if pause is not None:
                    return pause
            return self._enrol()
        except Away as error:
            self._failures += 1
            self._say(f"{self._url} does not answer: {error}", failed=True)
        except OSError as error:
            self._failures += 1
            self._say(f"cannot keep the identity: {error}", failed=True)
        return self._pause()

    def _pause(self) -> float:
        longest = min(LONGEST_PAUSE, self._interval * 1.5 ** max(0, min(self._failures - 1, 8)))
        return longest * (1 - SPREAD * random.random())  # noqa: S311 - nothing secret

    def _say(self, text: str, *, failed: bool = False) -> None:
        if text != self._told:
            (log.warning if failed else log.info)("%s", text)
        self._told = text
        notify.status(text)

    # --- hello

    def _hello(self) -> float | None:
        """Say hello; return the pause, or None if the station has to enrol."""
        answer = self._send_hello()
        if answer.code == "ClockSkew":
            answer = self._send_hello()  # the answer brought the time to sign with
        if answer.status == 200:
            self._failures = self._refused = 0
            pause = answer.body.get("next_hello_after")
            self._interval = float(pause) if isinstance(pause, int | float) and 0.2 <= pause <= 300 else self._interval
            self._say(f"the manager knows the station as {str(answer.body.get('state', ''))[:64]}")
            return self._interval
        self._say(f"the manager refuses the hello: {_reason(answer)}", failed=True)
        if answer.code == "SecretRotated":
            return None
        if answer.code in DISOWNED:
            self._refused += 1
            if self._refused >= REFUSED_BEFORE_NEW:
                return None
        self._failures += 1
        return self._pause()

    def _send_hello(self, shutdown: bool = False, patience: float = 40.0) -> Answer:
        body = self._observer.body(self.boot, self._interval, shutdown)
        return self._manager.post(HELLO, body, self._identity, notify.watchdog, patience)

    # --- enrolment

    def _enrol(self) -> float:
        identity = self._identity
        if identity.claim is None:
            identity.claim = new_claim()
            self._file.save(identity)
        body = {
            "hostname": self._name,
            "macs": self._observer.macs(),
            "host_keys": host_keys(Path(f"{self._layout.root}/etc/ssh")),
            "claim": identity.claim,
        }
        if self._token:
            body["token"] = self._token
        answer = self._manager.post(ENROLMENTS, body, identity, notify.watchdog)
        if answer.status == 201 and answer.body.get("secret"):
            self._identity = Identity(str(answer.body["id"]), str(answer.body["secret"]))
            self._file.save(self._identity)
            self._failures = self._refused = 0
            self._say(f"enrolled as {str(answer.body.get('name'))[:64]}")
            return 0.0
        if answer.status == 202:
            state, reason = str(answer.body.get("state"))[:64], str(answer.body.get("reason"))[:500]
            self._say(f"{state}: {reason} (claim {str(answer.body.get('claim'))[:12]})", failed=True)
            self._failures = 0
            return self._ask_again(answer)
        if answer.code == "ClaimUsed":
            identity.claim = None  # its answer was lost on the way; the next claim waits for an operator
        self._failures += 1
        self._say(f"the manager refuses the enrolment: {_reason(answer)}", failed=True)
        return self._pause()

    def _ask_again(self, answer: Answer) -> float:
        pause = answer.body.get("ask_again_after")
        longest = float(pause) if isinstance(pause, int | float) and 1 <= pause <= 300 else LONGEST_PAUSE
        return longest * (1 - SPREAD * random.random())  # noqa: S311 - nothing secret

    # --- the end

    def _goodbye(self) -> None:
        """Tell the manager that the machine goes down; the agent's own restart is nothing to tell."""
        if not self._identity.enrolled or not self._going_down():
            return
        notify.stopping("saying goodbye")
        try:
            self._send_hello(shutdown=True, patience=GOODBYE_SECONDS)
        except Away as error:
            log.info("no goodbye: %s", error)

    def _going_down(self) -> bool:
        command = [self._layout.tool("systemctl"), "is-system-running"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        return done.stdout.strip() == "stopping"


def _reason(answer: Answer) -> str:
    return f"{answer.status} {answer.code} {str(answer.body.get('detail', ''))[:300]}".strip()


def main(argv: list[str] | None = None) -> int:
    """Run the agent; see `station.config.program`."""
    return configuration.program("agent", lambda config: Agent(config, Layout()).run(), argv)


if __name__ == "__main__":
    sys.exit(main())
