"""Talking to the manager: one request at a time, signed, and never waited for without end."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from station import hello_signature
from station.agent_identity import Identity
from station.manager_trust import Trust

TIMEOUT = 4.0
"""Seconds for a connection and for each read: less than a hello's interval."""
PATIENCE = 40.0
"""Seconds for a whole request, looking up the name included, which no timeout of ours ends."""
LONGEST_ANSWER = 1 << 16


class Away(Exception):
    """The manager could not be asked, or gave no answer of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, and the members of the JSON object that came."""

    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The kind of a problem, empty for other answers."""
        return str(self.body.get("code", ""))


class SigningClock:
    """The time to sign with: the manager's once it has told it, whatever the station's own clock does.

    `wall` gives seconds since 1970, `steady` seconds that only grow within a boot.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._origin: float | None = None
        self._counter = 0

    def now(self) -> float:
        """Return the time to sign with."""
        return self._wall() if self._origin is None else self._origin + self._steady()

    def counter(self) -> int:
        """Return a number greater than any before in this boot, also over restarts: milliseconds since boot."""
        self._counter = max(self._counter + 1, int(self._steady() * 1000))
        return self._counter

    def told(self, server_time: object) -> None:
        """Take the manager's time from an answer."""
        if isinstance(server_time, int | float) and 0 < server_time < 1e11:
            self._origin = server_time - self._steady()


class ManagerClient:
    """The manager at an address. `certificate` is a PEM file that goes before the brought one and the system's.

    Raises OSError (ssl.SSLError) for a certificate that cannot be used.
    """

    def __init__(self, url: str, certificate: str | None, boot: str, clock: SigningClock) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._boot = boot
        self._clock = clock
        self._secure = parts.scheme == "https"
        self._trust = Trust(certificate)
        if self._secure and certificate:
            self._trust.context()

    def post(
        self,
        path: str,
        value: dict[str, Any],
        identity: Identity | None = None,
        alive: Callable[[], object] = lambda: None,
        patience: float = PATIENCE,
    ) -> Answer:
        """Send a JSON object, signed if there is an identity; `alive` is called each second meanwhile.

        Raises Away.
        """
        content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if identity is not None and identity.id and identity.secret:
            headers |= hello_signature.sign(
                bytes.fromhex(identity.secret), identity.id, "POST", path, content,
                time=self._clock.now(), boot=self._boot, counter=self._clock.counter(),
            )  # fmt: skip
        found: list[Answer | Exception] = []
        # in a thread, because looking up a name may take longer than systemd's watchdog
        thread = threading.Thread(target=self._send, args=(path, content, headers, found), daemon=True)
        thread.start()
        end = time.monotonic() + patience
        while thread.is_alive() and time.monotonic() < end:
            thread.join(min(1.0, patience))
            alive()
        answer = found[0] if found else Away(f"no answer within {patience:.0f} s")
        if isinstance(answer, Exception):
            raise answer if isinstance(answer, Away) else Away(str(answer) or type(answer).__name__)
        self._clock.told(answer.body.get("server_time"))
        return answer

    def _send(self, path: str, content: bytes, headers: dict[str, str], found: list[Answer | Exception]) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        try:
            if self._secure:
                connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=TIMEOUT, context=self._trust.context()
                )
            connection.request("POST", path, content, headers)
            response = connection.getresponse()
            value = json.loads(response.read(LONGEST_ANSWER))
            if not isinstance(value, dict):
                raise Away("the answer is no JSON object")
            found.append(Answer(response.status, value))
        except (OSError, http.client.HTTPException, ValueError, RecursionError, Away) as error:
            found.append(error)
        finally:
            connection.close()
