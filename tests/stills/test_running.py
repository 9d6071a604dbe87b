"""Running descriptors: written while a process lives, and no ghosts of those that ended otherwise."""

import json
import os
import subprocess
import sys

import pytest

from station.catalogues.board import Board
from station.catalogues.folder import Folder
from station.catalogues.rows import answer
from station.stills import descriptor, running
from tests.stills.kit_catalogue import ROOT, within

OURS = descriptor.Descriptor(3, "video1", "JPG", "127.0.0.1", 8081, "TCP_PUSH", 2.0, ("a.jpg", "b.jpg"))
OLD = (
    "ID: 7\r\nName: old\r\nType: BMP\r\nAddress: 127.0.0.1\r\nPort: 9000\r\nProtocol: UDP_PULL\r\nIPS: 0.5\r\nx.bmp\r\n"
)
HOLD = """
import sys
from pathlib import Path
from station.stills import running
made = running.Running(Path(sys.argv[1]))
made.add(sys.argv[2], 8070, "video1")
print("ready", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that has a running descriptor."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder, descriptor.text(OURS)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait(5)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def folder(tmp_path):
    """A folder as the original has it: with what is no stream."""
    made = tmp_path / "running"
    made.mkdir()
    (made / ".gitignore").write_text("*\n!.gitignore\n")
    (made / "notes").write_text("keep this folder\n")
    return made


def shown(folder):
    return [(row.id, row.name, row.protocol, row.ips) for row, _ in Folder(folder, Board()).look()]


def test_a_descriptor_is_there_while_it_runs_and_readers_of_the_original_understand_it(tmp_path):
    folder = tmp_path / "running"
    with running.Running(folder) as made:
        path = made.add(descriptor.text(OURS), 8070, "video1")
        assert descriptor.read(path) == descriptor.parse(descriptor.text(OURS))
        first = path.read_text().splitlines()[0]
        assert len(first.split(" ")) > 2, "old readers pass over lines of several words"
        assert running.find(folder) == [running.Found(path.name, path.read_text(), 8070, "video1")]
        plain = made.add(descriptor.text(OURS))
        assert {one.http_port for one in running.find(folder)} == {0, 8070}
        assert plain.read_text().splitlines()[1:] == path.read_text().splitlines()[1:]
        assert path.name.replace(".", "").isdigit() and path.name != plain.name
    assert list(folder.iterdir()) == []


def test_what_a_crash_left_is_neither_shown_nor_kept(folder):
    holder = Holder(folder)
    assert shown(folder) == [(3, "video1", "TCP_PUSH", 2.0)]
    assert running.clean(folder) == [], "it lives"
    holder.kill()
    assert shown(folder) == []
    assert len(list(folder.iterdir())) == 3
    assert len(running.clean(folder)) == 1
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "notes"]


def test_files_of_other_servers_are_shown_and_kept(folder):
    (folder / "1700000000.12345").write_text(OLD, newline="")
    with running.Running(folder) as made:
        made.add(descriptor.text(OURS))
        assert shown(folder) == [(7, "old", "UDP_PULL", 0.5), (3, "video1", "TCP_PUSH", 2.0)]
        assert running.clean(folder) == []
    assert shown(folder) == [(7, "old", "UDP_PULL", 0.5)]


def test_what_is_no_stream_is_no_row(folder, caplog):
    (folder / "no-protocol").write_text("ID: 1\nName: x\n")
    (folder / "broken").write_text("ID: one\nProtocol: TCP_PUSH\n")
    (folder / "big").write_bytes(b"a" * (running.LARGEST + 1))
    (folder / "bytes").write_bytes(os.urandom(2000))
    (folder / "below").mkdir()
    os.mkfifo(folder / "pipe")
    looks = Folder(folder, Board())
    assert looks.look() == looks.look() == []
    assert caplog.text.count("broken") == 1 and "line 1" in caplog.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("latin", b"Name: caf\xe9\nPort: 1\nProtocol: TCP_PUSH\n"),
        ("protocol", b"Name: x\nPort: 1\nProtocol: TCP\xff\0\tPUSH\n"),
        ("nan", b"Name: x\nPort: 1\nProtocol: TCP_PUSH\nIPS: nan\n"),
        ("inf", b"Name: x\nPort: 99999\nProtocol: TCP_PUSH\nIPS: inf\n"),
        ("large", b"Name: x\nProtocol: TCP_PUSH\nID: " + b"9" * 4000),
        ("name\udcff", b"Name: x\nProtocol: TCP_PUSH\n"),
    ],
    ids=["latin", "protocol", "nan", "inf", "large", "name"],
)
def test_odd_bytes_of_one_file_take_the_catalogue_from_nobody(folder, name, text):
    (folder / name).write_bytes(text)
    board = Board()
    board.files(Folder(folder, board).look())
    sent = answer("127.0.0.1", 8000, board.rows())
    assert sent.count(b"Object ID=") == 1 and sent.count(b"\r\n") == 5 and b"\0" not in sent

    def refused(word):
        raise AssertionError(f"{word} is no JSON")

    assert len(json.loads(board.answer().decode(), parse_constant=refused)["streams"]) == 1


def test_a_folder_that_is_not_there_is_told_once(tmp_path, caplog):
    looks = Folder(tmp_path / "none", Board())
    assert looks.look() == looks.look() == []
    assert caplog.text.count("cannot be listed") == 1
    assert running.clean(tmp_path / "none") == []


def test_a_folder_that_takes_nothing_is_told(tmp_path):
    (tmp_path / "running").write_text("a file")
    with pytest.raises(running.RunningError, match=r"running.*make it writable"):
        running.Running(tmp_path / "running").add("x")


def test_json_of_a_descriptor_leads_to_its_pictures(folder):
    holder = Holder(folder)
    (row, stream), *rest = Folder(folder, Board()).look()
    assert not rest and row.port == 8081
    assert stream["base"] == "http://127.0.0.1:8070" and stream["urls"] == {"latest": "/streams/video1/latest"}
    holder.kill()
    within(lambda: shown(folder) == [], 1)
