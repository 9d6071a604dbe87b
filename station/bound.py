"""Runs a program that ends when the one who started it ends, however that happens.

    python3 bound.py PID SIGNAL PROGRAM ARGUMENT…

Else an ffmpeg would go on holding a device after its supervisor was killed. A
unit's control group does the same; this serves who runs a program by hand.
`setpriv --pdeathsig` is of no use in our units: it asks for capset, which their
system-call filter refuses, and then does not run the program at all [measured].
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def command(program: Sequence[str], number: signal.Signals = signal.SIGKILL) -> list[str]:
    """The argument list that runs `program` bound to this process; `number` is sent to it when we end."""
    # Isolated and without site: it starts in milliseconds, whatever PYTHONPATH says.
    return [sys.executable or "/usr/bin/python3", "-I", "-S", __file__, str(os.getpid()), str(int(number)), *program]


def main(arguments: Sequence[str]) -> None:
    """Bind this process and become the program. Raises OSError if there is no such program."""
    parent, number, *program = arguments
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    except (ImportError, OSError, AttributeError, MemoryError):
        pass  # unbound is worse, not wrong: in a unit the control group ends it
    if os.getppid() != int(parent):
        raise SystemExit("the one who started it has ended already")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
