"""Journals on their way from a station to the collector: real systemd-journal-upload and -remote, cut now and then."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from station.collector import Store, size_of
from tests.api.conftest import CHECKOUT
from tests.api.test_logs import MAIN, receive
from tests.labkit import until


class Program:
    """A program of `station/` with a configuration of its own."""

    def __init__(self, folder, role, options, *arguments):
        self.folder = folder
        folder.mkdir()
        (folder / "data").mkdir()
        (folder / "run").mkdir()
        (folder / "config.json").write_text(json.dumps({"role": role, "instance": "main", "options": options}))
        self.command = [sys.executable, "-m", f"station.{role}", "--config", str(folder / "config.json"), *arguments]
        self.process = None

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=CHECKOUT, stdout=log, stderr=log)

    def stop(self, how=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            return self.process.wait(20)
        return None


@pytest.fixture
def collector(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Program(tmp_path / "collector", "collector", {"port": port, "max_size": "1G"})
    made.port = port
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def sender(tmp_path, collector):
    (tmp_path / "source").mkdir()
    more = [f"--directory={tmp_path / 'source'}", f"http://127.0.0.1:{collector.port}"]
    made = Program(tmp_path / "journal", "journal", {"to": "boss/main"}, *more)
    yield made
    made.stop(signal.SIGKILL)


def write(tmp_path, *numbers):
    receive(tmp_path / "source", "own", [("cam", number, MAIN, f"line {number}") for number in numbers])


def arrived(collector) -> list[str]:
    command = ["journalctl", "--quiet", f"--directory={collector.folder / 'data'}", "--output=cat", "_HOSTNAME=cam"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]


def all_of(collector, count) -> bool:
    return set(arrived(collector)) == {f"line {number}" for number in range(count)}


def test_what_is_written_while_the_collector_is_away_arrives_afterwards(tmp_path, collector, sender):
    write(tmp_path, 0, 1)
    sender.start()
    assert until(lambda: "stationmaster_journal_connected" in _metrics(sender), 20)
    assert sender.process.poll() is None
    collector.start()
    assert until(lambda: all_of(collector, 2), 40), (collector.folder / "log").read_text()
    write(tmp_path, 2)
    assert until(lambda: all_of(collector, 3), 20)

    collector.stop(signal.SIGKILL)
    write(tmp_path, 3, 4)
    time.sleep(1.5)
    collector.start()
    assert until(lambda: all_of(collector, 5), 60), (sender.folder / "log").read_text()

    # a sender that was killed goes on after what was confirmed
    sender.stop(signal.SIGKILL)
    write(tmp_path, 5)
    sender.start()
    assert until(lambda: all_of(collector, 6), 40)
    lines = arrived(collector)
    assert len(lines) - len(set(lines)) <= 2  # at least once: one more at most for each cut
    assert sender.stop() == 0
    assert collector.stop() == 0


def test_a_collector_whose_port_is_taken_ends_and_says_so(collector):
    with socket.create_server(("", collector.port)):
        collector.start()
        assert collector.process.wait(20) == 1
    assert "ended by itself" in (collector.folder / "log").read_text()


def fill(folder, name, size, age):
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)


def test_the_oldest_files_go_first_and_those_in_use_stay(tmp_path):
    store = Store(tmp_path, 100 * 1024)
    fill(tmp_path, "remote-a.journal", 40_960, 900)
    fill(tmp_path, "remote-a@1.journal", 40_960, 800)
    fill(tmp_path, "remote-b.journal~", 40_960, 700)
    fill(tmp_path, "remote-b@2.journal", 20_480, 600)
    (tmp_path / "other").write_bytes(b"x" * 1_000_000)
    assert store.prune() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other", "remote-a.journal", "remote-b.journal~", "remote-b@2.journal",
    ]  # fmt: skip
    assert store.prune() == 0
    assert store.size() == 102_400


def test_files_in_use_that_take_too_much_become_old_ones(tmp_path):
    store = Store(tmp_path, 100 * 1024)
    fill(tmp_path, "remote-a.journal", 40_960, 1)
    assert not store.crowded()
    fill(tmp_path, "remote-b.journal", 40_960, 2)
    assert store.crowded()
    store.rotate()
    assert not store.crowded()
    assert store.size() == 81_920
    fill(tmp_path, "remote-a.journal", 40_960, 0)
    assert store.prune() == 1
    assert [path.name[:9] for path in sorted(tmp_path.iterdir())] == ["remote-a.", "remote-a@"]


def test_a_crowded_collector_starts_anew_and_loses_nothing_that_is_sent_then(tmp_path, collector, sender):
    tree = json.loads((collector.folder / "config.json").read_text())
    tree["options"]["max_size"] = "12M"  # one file takes 8 MB
    (collector.folder / "config.json").write_text(json.dumps(tree))
    write(tmp_path, 0, 1)
    collector.start()
    assert until(lambda: "bytes" in _metrics(collector), 20)
    sender.start()
    assert until(lambda: all_of(collector, 2), 40)
    collector.stop()
    collector.start()  # its first look finds the file that is in use too large
    assert until(lambda: list((collector.folder / "data").glob("*@*.journal")), 20)
    write(tmp_path, 2)
    assert until(lambda: "line 2" in arrived(collector), 60)


def _metrics(program) -> str:
    path = program.folder / "run/metrics.prom"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(("text", "size"), [("4G", 4 << 30), ("512M", 512 << 20), ("1K", 1024), ("77", 77)])
def test_sizes(text, size):
    assert size_of(text) == size
