"""What `-v` tells, in the original's form: a line `[<who>] : <text>` that ends with CRLF, on stdout.

What happens at the rate of pictures asks `trace.level` first, so that nothing is put together for nobody. The rest
comes from the log, of which INFO is the first level and DEBUG, words received, the second.
"""

from __future__ import annotations

import contextlib
import logging
import sys

LIFE, RECEIVED, SENDS, DATA_IN, DATA_OUT = 1, 2, 3, 4, 5
"""The original's levels: life-cycle, the catalogue made and words received, sends, received data, sent data."""
level = 0
"""How much is told, from 0 for nothing to 5 for all; set once by the program, see `use`."""
LONGEST = 200
"""Bytes of data that a line shows; a picture has many thousands."""


def use(value: int) -> None:
    """Set how much this process tells; warnings and errors go to stderr in any case."""
    global level
    level = value
    errors = logging.StreamHandler(sys.stderr)
    errors.setFormatter(logging.Formatter("stationmaster: %(message)s"))
    errors.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[errors], level=logging.WARNING, force=True)
    ours = logging.getLogger("station")
    ours.setLevel(logging.DEBUG if value >= RECEIVED else logging.INFO if value >= LIFE else logging.WARNING)
    ours.handlers = [_Lines()]


def tell(at: int, who: str, text: str) -> None:
    """Print a line if the level asks for it; a reader that has gone ends nothing."""
    if level >= at:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(f"[{who}] : {text}\r\n")
            sys.stdout.flush()


def received(who: str, data: bytes) -> None:
    """Tell data that came from a client."""
    if level >= DATA_IN:
        tell(DATA_IN, who, f"received {_shown(data)}")


def sent(who: str, number: int, data: bytes) -> None:
    """Tell a picture, or a part of it, that goes to a client or a group."""
    tell(SENDS, who, f"sends picture {number}, {len(data)} bytes")
    if level >= DATA_OUT:
        tell(DATA_OUT, who, f"sent {_shown(data)}")


def _shown(data: bytes) -> str:
    text = repr(bytes(data[:LONGEST]))[2:-1]
    return text + (f"… ({len(data)} bytes)" if len(data) > LONGEST else "")


class _Lines(logging.Handler):
    """Prints what the program logs, apart from what goes to stderr; `stream NAME: text` is told by NAME."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            return
        at = RECEIVED if record.levelno < logging.INFO else LIFE
        text = record.getMessage()
        who, found, rest = text.partition(": ")
        if found and who.startswith("stream "):
            tell(at, who.removeprefix("stream "), rest)
        else:
            tell(at, record.name.split(".")[1], text)
