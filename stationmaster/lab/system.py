"""Talking to the system: commands, processes, waiting."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError

TOOLS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the system's tools are; a crew's own PATH often lacks the sbin folders."""


def environment() -> dict[str, str]:
    """Return the environment for system tools: the controller's own variables do not belong in a station."""
    return {"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}


def run(*command: str | Path, text: str | None = None, check: bool = True) -> str:
    """Run a system tool with `text` on its standard input and return what it printed.

    Raises LabError with the command and its error output when it fails and
    `check` is set, and when it does not exist.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=text or "", capture_output=True, text=True, check=False, env=environment())
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is missing on this machine: {INSTALL}") from error
    if check and done.returncode:
        raise LabError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip() or f'exit {done.returncode}'}")
    return done.stdout


INSTALL = "apt-get install systemd-container mmdebstrap iproute2 openssh-client e2fsprogs util-linux"


def wait_until(condition: Callable[[], bool], seconds: float, step: float = 0.02) -> bool:
    """Wait until `condition` holds, at most `seconds`; return whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


def kill(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes that may be gone already."""
    for pid in pids:
        with suppress_gone():
            os.kill(pid, number)


@contextmanager
def suppress_gone() -> Iterator[None]:
    """Ignore that a process or control group vanishes while it is looked at: each kind of file has its own error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
            raise


def inner_pid(pid: int) -> list[int]:
    """Return a process's ids from this namespace inwards (`NSpid`); empty if it is gone or a zombie."""
    with suppress_gone():
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields["State"][0] not in "ZX":
            return [int(word) for word in fields["NSpid"].split()]
    return []


@contextmanager
def locked(folder: Path, seconds: float, busy: str) -> Iterator[int]:
    """Hold a lock on a folder (made if absent), so that no lock file stays behind; yield its descriptor.

    Waits at most `seconds`, then raises LabError with the text `busy`. The
    folder may have been removed and made again meanwhile: then it is locked
    anew.
    """
    end = time.monotonic() + seconds
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not _try_lock(handle):
                if time.monotonic() > end:
                    raise LabError(busy)
                time.sleep(0.1)
            if _same(handle, folder):
                yield handle
                return
        finally:
            os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
