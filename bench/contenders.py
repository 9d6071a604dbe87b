"""What is timed: commands, the environment they share, and what their output says."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
VENV = ROOT / ".venv-bench"
BUILD = ROOT / "build" / "bench"
INVENTORY = BUILD / "inventory"
RIVALS = BUILD / "rivals"
SOCKETS = BUILD / "cp"
FORKS = 20


class Failed(Exception):
    """A command of the bench failed or did not do what it must; the text has its last lines."""


def ready_rivals() -> None:
    """Install the rivals into `.venv-bench` unless the locked ones are there."""
    lock = BENCH / "requirements.lock"
    stamp = VENV / ".requirements"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    stamp.write_text(wanted, "utf-8")


def environment() -> dict[str, str]:
    """Return the environment that all contenders share.

    The options of ssh are those of ansible.cfg plus one control path that every
    one of them understands: so Mitogen, which has none of its own, finds the
    same warm connections as the rest.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "ansible.cfg", "utf-8")
    SOCKETS.mkdir(parents=True, exist_ok=True, mode=0o700)
    shared = {
        "ANSIBLE_SSH_ARGS": f"{config['ssh_connection']['ssh_args']} -o ControlPath={SOCKETS}/%C",
        "ANSIBLE_FORKS": str(FORKS),
        "ANSIBLE_NOCOLOR": "1",
        "STATIONMASTER_ROLES": str(BENCH / "roles"),
        "BENCH_PLAN": str(RIVALS / "plan.json"),
    }
    return {**os.environ, **shared}


def commands() -> dict[str, list[str]]:
    """Return the command line of each contender, by name."""
    ansible = [sys.executable, "-m", "ansible"]
    theirs = VENV / "bin"
    own = ["-i", str(INVENTORY)]
    stock = ["-i", str(RIVALS / "hosts.yml"), str(BENCH / "stock" / "site.yml")]
    pyinfra = [str(BENCH / "pyinfra" / name) for name in ("inventory.py", "deploy.py")]
    return {
        "raw": [*ansible, "adhoc", *own, "all", "-m", "raw", "-a", "true"],
        "noop": [*ansible, "playbook", *own, "playbooks/apply.yml"],
        "site": [*ansible, "playbook", *own, "site.yml"],
        "pyinfra": [str(theirs / "pyinfra"), "-y", "--parallel", str(FORKS), *pyinfra],
        "mitogen": [str(theirs / "python"), "-m", "ansible", "playbook", *stock],
        "stock": [*ansible, "playbook", *stock],
    }


def extra_environment(name: str) -> dict[str, str]:
    """Return what a contender needs beyond the shared environment.

    The rivals go without the plugins of this project, which could only slow them down.
    """
    if name not in ("stock", "mitogen", "pyinfra"):
        return {}
    bare = {"ANSIBLE_CONFIG": str(BENCH / "stock" / "ansible.cfg")}
    if name == "mitogen":
        folders = VENV.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy")
        bare |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(next(folders))}
    return bare


def run(command: Sequence[str], env: Mapping[str, str], log: str) -> tuple[float, str]:
    """Run a command to its end.

    Args:
        command: with arguments; it runs in the repository's root.
        env: its environment.
        log: name of the log file that keeps its output.

    Returns:
        Seconds on the wall clock, and its output with errors.

    Raises:
        Failed: it did not exit with 0.
    """
    folder = BUILD / "log"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{log}.log").open("a+", encoding="utf-8") as file:
        print("$", *command, file=file, flush=True)
        start = file.tell()
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        seconds = time.perf_counter() - begin
        file.seek(start)
        output = file.read()
        print(f"({seconds:.2f} s, exit {done.returncode})\n", file=file)
    if done.returncode:
        raise Failed(f"{' '.join(command)} exited with {done.returncode}:\n{output[-3000:]}")
    return seconds, output


def disconnect() -> None:
    """Close the warm connections, which would outlive the bench."""
    for socket in SOCKETS.glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-S", str(socket), "any"], stderr=subprocess.DEVNULL)


RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
TOTAL = re.compile(r"Grand total[^\d-]+(\d+|-)[^\d-]+(\d+|-)[^\d-]+(\d+|-)[^\d-]+(\d+|-)")


def changed(name: str, output: str) -> tuple[int, int]:
    """Return how many stations a contender reached and in how many things it changed.

    For the playbooks that is the recap's sum of `changed=`; for pyinfra its
    table has no stations, so the first number is that of operations.

    Raises:
        Failed: the output has no such table, or a station failed.
    """
    if name == "pyinfra":
        total = TOTAL.search(output)
        if total is None:
            raise Failed("pyinfra printed no table of results:\n" + output[-2000:])
        every, done, errors, _ = (0 if text == "-" else int(text) for text in total.groups())
        if errors:
            raise Failed(f"pyinfra: {errors} operations failed:\n" + output[-2000:])
        return every, done
    rows = RECAP.findall(output)
    if not rows or any(int(row[2]) or int(row[3]) for row in rows):
        raise Failed(f"{name}: no recap, or stations failed:\n" + output[-2000:])
    return len(rows), sum(int(row[1]) for row in rows)
