"""Processes of a bench: servers that are measured, and load clients, which read commands and answer each with a line.

A load client is a process of its own, so that what it costs is told apart from what the server costs.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
"""Debian's, which stations use."""
START = 30.0
"""Seconds within which a server must listen."""
SPARE = 64
"""Open files besides a load client's connections."""


class Missing(Exception):
    """A server is not installed, or does not start."""


class Failed(Exception):
    """The server did not do what it should."""


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether something accepts connections at a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def many_files() -> None:
    """Raise this process's limit of open files as far as it may go."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def room_for(count: int) -> None:
    """Raise the limit of open files; Failed if so many connections are not allowed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < count + SPARE:
        raise Failed(f"{count} connections need {count + SPARE} open files, {most} are allowed: raise `ulimit -Hn`")
    many_files()


def _on(processor: int | None) -> Callable[[], None]:
    def ready() -> None:
        if processor is not None:
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[processor]})
        many_files()

    return ready


def example_of(module: str) -> dict[str, Any]:
    """Return the example of a program of stations, by their Python."""
    command = [PYTHON, "-m", module, "--example"]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return found


class Server:
    """A server in a process of its own.

    Args:
        name: for errors.
        command: what starts it.
        ports: at which it must listen.
        log: a file for what it says.
        processor: the place among those that there are of the only one it may use (-1: the last); None: all.

    Raises:
        Missing: it ends, or does not listen within START.
    """

    def __init__(
        self, name: str, command: list[str], ports: Collection[int], log: Path, processor: int | None = None
    ) -> None:
        self.name = name
        with log.open("w") as out:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, preexec_fn=_on(processor))
        self.pid = self._process.pid
        deadline = time.monotonic() + START
        while not all(listens(port) for port in ports):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise Missing(f"{name} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(20)


class LoadClient:
    """A load client: a module that calls `obey`. `processor` as with Server."""

    def __init__(self, module: str, processor: int | None = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=ROOT, stdin=pipe, stdout=pipe, text=True, preexec_fn=_on(processor)
        )

    def ask(self, server: str, command: str, /, **values: Any) -> dict[str, Any]:
        """Have it do something with the server of that name. Raises Failed with what it failed of."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - of the types
        self._process.stdin.write(json.dumps({"do": command, **values}) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "it has ended"}')
        if "error" in found:
            raise Failed(f"{server}: {found['error']}")
        return found

    def end(self) -> None:
        """Disconnect everybody, at once."""
        self._process.kill()
        self._process.wait(20)


def obey(load: object) -> NoReturn:
    """Be a load client: call the methods that lines of the input name, with their arguments as keys, until it ends."""
    for line in sys.stdin:
        wanted = json.loads(line)
        try:
            told = getattr(load, wanted.pop("do"))(**wanted)
        except (Failed, OSError) as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)
    os._exit(0)  # the kernel closes ten thousand sockets sooner than Python
