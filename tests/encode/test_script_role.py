"""The role `script`: the crew's program, kept running and ended with the unit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.encode.kit import TOP


def gone(pid):
    """Whether a process is no more; one that nobody collected counts as gone."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


class Keeper:
    """An instance of the role, with a socket that hears what it tells systemd."""

    def __init__(self, root, body, **options):
        self.root = root
        self.program = root / "program"
        self.program.write_text("#!/bin/sh\n" + body)
        options = {"program": str(self.program), **options}
        value = {"schema": 1, "role": "script", "instance": "x", "options": options}
        (root / "config.json").write_text(json.dumps(value))
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.bind(str(root / "notify"))
        self.heard.settimeout(10)
        credentials = root / "credentials"
        credentials.mkdir()
        (credentials / "secrets.json").write_text('{"options": {"secrets": {"key": "hunter2"}}}')
        added = {"NOTIFY_SOCKET": str(root / "notify"), "CREDENTIALS_DIRECTORY": str(credentials)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "station.script", "--config", str(root / "config.json")],
            env={**os.environ, "PYTHONPATH": str(TOP), **added},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def hears(self, text, seconds=10):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self.heard.recv(65536).decode()
            if text in message:
                return message
        raise AssertionError(f"{text} not heard")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.heard.close()


@pytest.fixture
def keep(tmp_path):
    made = []

    def make(body, **options):
        made.append(Keeper(tmp_path, body, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_it_gets_its_options_and_finds_its_secrets(keep):
    one = keep(
        'echo "$1"; cat "$STATIONMASTER_SECRETS"; echo; echo "$NOTIFY_SOCKET"; pwd; sleep 100',
        options={"rate": "5 % $HOME 'x'"},
    )
    one.hears("READY=1")
    assert json.loads(one.process.stdout.readline()) == {"rate": "5 % $HOME 'x'"}
    assert json.loads(one.process.stdout.readline())["options"]["secrets"] == {"key": "hunter2"}
    assert one.process.stdout.readline() == "\n", "it must not speak to systemd in our name"
    assert one.process.stdout.readline().strip() == str(one.root / "data")
    arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "hunter2" not in arguments
    assert "running" in one.hears("STATUS=running")
    text = (one.root / "run" / "metrics.prom").read_text()
    assert 'stationmaster_script_running{instance="x",role="script"} 1' in text


@pytest.mark.slow
def test_it_is_started_again_ever_more_slowly(keep):
    one = keep("date +%s.%N; exit 3")
    times = [float(one.process.stdout.readline()) for _ in range(3)]
    assert times[1] - times[0] > 0.9 and times[2] - times[1] > 1.9
    one.hears("ended with 3; starts again in 4 s")


@pytest.mark.slow
def test_repeat_runs_it_again_and_again(keep):
    one = keep("date +%s.%N", repeat=0.3)
    times = [float(one.process.stdout.readline()) for _ in range(7)]
    # With pauses as after failures it would be 1 + 2 + 4 + 8 + 16 + 32 seconds.
    assert times[-1] - times[0] < 20


def test_stopping_ends_it_with_its_children(keep):
    one = keep("sleep 1000 & echo $!; wait")
    child = int(one.process.stdout.readline())
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0
    time.sleep(0.2)
    assert gone(child)


def test_a_program_that_is_not_there_is_said_and_does_not_end_the_unit(keep):
    one = keep("exit 0")
    one.hears("READY=1")
    one.program.unlink()
    one.hears("no such program")
    assert one.process.poll() is None
