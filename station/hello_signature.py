"""The signature of a hello: what it covers, made on the station and checked by the manager.

It covers method, path, time, boot id, counter and body, so that no part of one hello can be
used in another. Whether time and counter are fresh is the manager's to judge.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

VERSION = "v1"
STATION = "Stationmaster-Station"
TIME = "Stationmaster-Time"
BOOT = "Stationmaster-Boot"
COUNTER = "Stationmaster-Counter"
SIGNATURE = "Stationmaster-Signature"

COUNTER_LIMIT = 1 << 53
"""What JSON and every database hold exactly: milliseconds of 285,000 years."""
_STATION = re.compile(r"[0-9a-f-]{8,36}")
_TIME = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")
_BOOT = re.compile(r"[0-9a-f-]{8,36}")
_COUNTER = re.compile(r"[0-9]{1,16}")
_SIGNATURE = re.compile(VERSION + r"=[0-9a-f]{64}")


class Unsigned(ValueError):
    """A header of the signature is missing or malformed; the text names it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The headers of a signed request: `time` in seconds since 1970 as it was sent, `counter` grows within `boot`."""

    station: str
    time: str
    boot: str
    counter: int
    signature: str


def _digest(secret: bytes, method: str, path: str, time: str, boot: str, counter: int, body: bytes) -> str:
    text = "\n".join((method, path, time, boot, str(counter), hashlib.sha256(body).hexdigest()))
    return f"{VERSION}={hmac.new(secret, text.encode(), 'sha256').hexdigest()}"


def sign(
    secret: bytes, station: str, method: str, path: str, body: bytes, *, time: float, boot: str, counter: int
) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        secret: the station's own.
        station: its id.
        method: of HTTP, in capitals.
        path: of the URL, without query.
        body: as it is sent.
        time: seconds since 1970.
        boot: id of the boot.
        counter: greater than that of any request signed before in this boot.
    """
    told = f"{time:.3f}"
    return {
        STATION: station,
        TIME: told,
        BOOT: boot,
        COUNTER: str(counter),
        SIGNATURE: _digest(secret, method, path, told, boot, counter, body),
    }


def read(headers: Mapping[str, str]) -> Signed:
    """Return what the headers of a request say, whatever the case of their names.

    Raises:
        Unsigned: a header is missing or malformed.
    """
    given = {name.lower(): value for name, value in headers.items()}
    found = []
    for name, pattern in ((STATION, _STATION), (TIME, _TIME), (BOOT, _BOOT), (COUNTER, _COUNTER)):
        found.append(given.get(name.lower(), ""))
        if not pattern.fullmatch(found[-1]):
            raise Unsigned(f"the header {name} is missing or malformed")
    signature = given.get(SIGNATURE.lower(), "")
    if not _SIGNATURE.fullmatch(signature):
        raise Unsigned(f"the header {SIGNATURE} is missing or malformed")
    station, time, boot, counter = found
    if str(int(counter)) != counter or int(counter) >= COUNTER_LIMIT:
        raise Unsigned(f"the header {COUNTER} is malformed")
    return Signed(station, time, boot, int(counter), signature)


def verify(secret: bytes, signed: Signed, method: str, path: str, body: bytes) -> bool:
    """Return whether the signature is that of this request under the secret, in constant time."""
    wanted = _digest(secret, method, path, signed.time, signed.boot, signed.counter, body)
    return hmac.compare_digest(wanted, signed.signature)
