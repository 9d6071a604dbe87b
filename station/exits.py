"""What the end of an ffmpeg means.

Debian 12's ffmpeg 5.1 exits 0 when a source closes or times out, 255 when asked
to stop, and 1 for everything else, with the reason on stderr only; newer ones
exit with 256 - errno. Both are read here [measured on 5.1; field notes].
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["stopped", "ended", "absent", "full", "killed", "failed"]

ASKED_TO_STOP = 255
_ABSENT = {
    errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.ENETUNREACH, errno.ECONNRESET, errno.EIO, errno.EBUSY, errno.EPIPE,
}  # fmt: skip
_TEXTS: tuple[tuple[str, Kind], ...] = (
    *((os.strerror(number), "absent") for number in sorted(_ABSENT)),
    (os.strerror(errno.ENOSPC), "full"),
    ("404 Not Found", "absent"),
    ("Server returned 4", "absent"),
    ("Server returned 5", "absent"),
    ("Failed to resolve hostname", "absent"),
    ("Immediate exit requested", "stopped"),
)


@dataclass(frozen=True, slots=True)
class Ending:
    """`kind` decides what to do, `reason` is for people.

    stopped: we asked. ended: the source closed. absent: the source is not there.
    full: no space left. killed: by a signal that was not ours. failed: anything else.
    """

    kind: Kind
    reason: str


def judge(status: int, errors: Sequence[str], *, asked: bool) -> Ending:
    """Say what an exit status means.

    `status` as from subprocess (negative: signal), `errors` the last lines of
    stderr, oldest first, `asked` whether we sent the signal.
    """
    last = errors[-1] if errors else ""
    if asked:
        return Ending("stopped", "asked to stop")
    if status < 0:
        return Ending("killed", f"ended by {signal.Signals(-status).name}")
    for line in reversed(errors):
        for text, kind in _TEXTS:
            if text in line:
                return Ending(kind, line)
    if status == 0:
        return Ending("ended", "the source closed" + (f": {last}" if last else ""))
    if status == ASKED_TO_STOP:
        return Ending("killed", "ended by somebody's TERM or INT")
    number = 256 - status
    if number == errno.ENOSPC:
        return Ending("full", os.strerror(number))
    if number in _ABSENT:
        return Ending("absent", os.strerror(number))
    return Ending("failed", last or f"exit status {status} without a message")
