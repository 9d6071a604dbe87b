"""One call of ansible-runner, with everything that it would otherwise take from its surroundings."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api.run_tree import MARK

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SSH_AUTH_SOCK", "ANSIBLE_CONFIG",
    "ANSIBLE_VAULT_IDENTITY_LIST", "ANSIBLE_VAULT_PASSWORD_FILE",
)  # fmt: skip
"""All that a run gets of the manager's environment: names of files and places, nothing secret."""
PEXPECT_TIMEOUT = 0.5
"""Seconds that ansible-runner may take to see that it is to end; its default is 5."""
CALLBACK = Path(__file__).resolve().parent / "callback"
"""Where ansible-runner finds the callback that writes events as lines."""
FOLLOW = 0.1
"""Seconds between two looks at those lines."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def passed_on() -> dict[str, str]:
    """Return the part of this process's environment that runs get, with this Python's own programs found first."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


def ssh_arguments(project: Path, known_hosts: Path, own: str = "") -> str:
    """Return `ssh_args` of the project's ansible.cfg with our known_hosts before them: ssh takes the first it meets."""
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(project / "ansible.cfg")
    theirs = configuration.get("ssh_connection", "ssh_args", fallback="-o ControlMaster=auto -o ControlPersist=60s")
    ours = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={shlex.quote(str(known_hosts))}"
    return f"{own} {ours} {theirs} -o ServerAliveInterval=5 -o ServerAliveCountMax=3".strip()


def known_hosts(project: Path, pinned: Path | None) -> str:
    """Return the lines of the pinned host keys and of the files that the project's ansible.cfg names."""
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(project / "ansible.cfg")
    theirs = configuration.get("ssh_connection", "ssh_args", fallback="")
    files = re.findall(r"UserKnownHostsFile=(\S+)", theirs)
    paths = [*([pinned] if pinned else []), *(project / Path(name).expanduser() for name in files)]
    return "".join(path.read_text(encoding="utf-8").rstrip("\n") + "\n" for path in paths if path.is_file())


def run(
    private: Path,
    job: dict[str, Any],
    playbook: Path,
    variables: dict[str, Any],
    handler: Callable[[dict[str, Any]], None],
    ended: Callable[[], bool],
    ssh: str = "",
) -> int | None:
    """Run a playbook on the job's stations and return Ansible's exit code.

    Must be called in the main thread of a process that does nothing else.

    Args:
        private: folder for ansible-runner; what an earlier run left in it is removed.
        job: the run's, with `project`, `inventory`, `stations`, `known_hosts`, `environment`, `arguments`.
        playbook: what to run.
        variables: extra variables. Texts among them are never templated.
        handler: gets each event, in one thread or another; must not take long. What it raises is dropped.
        ended: asked now and then whether everything has been ended from outside.
        ssh: arguments of ssh before all others.
    """
    import ansible_runner

    stations = job["stations"]
    if not stations or not all(NAME.fullmatch(name) for name in stations):
        raise ValueError("a run needs names of stations")  # an empty limit would mean all of them
    project = Path(job["project"])
    shutil.rmtree(private, ignore_errors=True)
    (private / "env").mkdir(mode=0o700, parents=True)
    private.chmod(0o700)
    settings = {"pexpect_timeout": PEXPECT_TIMEOUT, "suppress_ansible_output": True, "suppress_output_file": True}
    _write(private / "env" / "settings", json.dumps(settings))
    texts = [f"{name}: {_literal(value)}\n" for name, value in variables.items()]
    _write(private / "env" / "extravars", "".join(texts) or "{}")
    _write(private / "known_hosts", known_hosts(project, Path(job["known_hosts"]) if job["known_hosts"] else None))
    _write(private / "stations", "".join(f"{name}\n" for name in stations))

    def handle(event: dict[str, Any]) -> bool:
        # what it raised would leave ansible-runner's run running for ever
        with contextlib.suppress(Exception):
            handler(event)
        return False

    os.environ.clear()
    os.environ.update(job["environment"])
    with _followed(private / "events", handle) as events:
        runner = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(project),
            playbook=str(playbook),
            inventory=job["inventory"],
            limit=f"@{private / 'stations'}",
            cmdline=shlex.join(job["arguments"]) if job["arguments"] else None,
            envvars={
                MARK: job["run"],
                "AWX_LIB_DIRECTORY": str(CALLBACK),
                "STATIONMASTER_EVENTS": str(events),
                # ansible-runner names its own folder, which would be instead of the one in ansible.cfg
                "ANSIBLE_CALLBACK_PLUGINS": str(project / "plugins" / "callback"),
                "ANSIBLE_HOST_KEY_CHECKING": "True",
                "ANSIBLE_SSH_ARGS": ssh_arguments(project, private / "known_hosts", ssh),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "False",
            },
            event_handler=handle,
            cancel_callback=ended,
            quiet=True,
        )
    return runner.rc if isinstance(runner.rc, int) else None


@contextlib.contextmanager
def _followed(path: Path, handle: Callable[[dict[str, Any]], Any]) -> Iterator[Path]:
    """Hand over the events that get into a file, as they come, in a thread; all of them by the end."""
    _write(path, "")
    over = threading.Event()

    def follow() -> None:
        rest = b""
        with path.open("rb") as file:
            last = False
            while not last:
                last = over.wait(FOLLOW)
                *lines, rest = (rest + file.read()).split(b"\n")
                for line in lines:
                    try:
                        handle(json.loads(line))
                    except ValueError:  # cut off where the disk was full; what comes after it counts all the same
                        handle({"event": "unreadable"})

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        over.set()
        thread.join()


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _literal(value: Any) -> str:
    """Return a value as YAML; a text that a caller gave must not become a template on the controller."""
    return f"!unsafe {json.dumps(value)}" if isinstance(value, str) else json.dumps(value)
