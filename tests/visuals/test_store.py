"""What an instance knows after a restart."""

import sqlite3
import subprocess
import sys

import pytest

from station.visuals import store, writer
from station.visuals.bus import Entry
from tests.visuals.kit_bus import TOPIC, text


def test_a_restart_finds_values_position_and_ids_again(tmp_path):
    first = store.Store(tmp_path)
    assert first.load() == store.State()
    old, new, other = text("old", link="https://example.org/"), text("ü \0"), text("other", TOPIC + "2")
    for offset, message in enumerate((old, new, other), start=7):
        first.note(Entry(offset, message))
    first.close()
    second = store.Store(tmp_path)
    state = second.load()
    second.close()
    assert (state.offset, state.last_id) == (9, other.id)
    assert {m.topic: m for m in state.values} == {new.topic: new, other.topic: other}
    assert state.seen == [(m.topic, m.id) for m in (old, new, other)]


def test_a_refresh_fills_only_a_topic_without_a_value(tmp_path):
    here, there = text("here"), text("there", TOPIC + "2")
    first = store.Store(tmp_path)
    first.note(Entry(1, here))
    first.close()
    second = store.Store(tmp_path)  # knows the topics of the file
    second.note(Entry(2, text("stale"), refresh=True))
    second.note(Entry(3, there, refresh=True))
    second.close()
    state = store.Store(tmp_path).load()
    assert {m.body for m in state.values} == {b"here", b"there"}
    assert state.offset == 3
    assert state.seen == [(here.topic, here.id)]  # a refresh was delivered to nobody


def test_only_so_many_ids_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SEEN", 5)
    first = store.Store(tmp_path)
    for offset in range(12):
        first.note(Entry(offset, text(str(offset), **{"message-id": str(offset)})))
    first.close()
    assert [key for _, key in store.Store(tmp_path).load().seen] == ["7", "8", "9", "10", "11"]


@pytest.mark.media
def test_a_kill_leaves_values_and_position_of_the_same_entry(tmp_path):
    script = """
import sys, pathlib
from station.visuals import message, store
from station.visuals.bus import Entry
s = store.Store(pathlib.Path(sys.argv[1]))
for n in range(10**9):
    s.note(Entry(n, message.new("/topic/t/text", str(n).encode(), {"message-id": str(n)})))
    if n % 1000 == 0:
        print(n, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        while not (tmp_path / "last.sqlite").exists() or store.Store(tmp_path).load().offset is None:
            process.stdout.readline()
        process.kill()
    state = store.Store(tmp_path).load()
    assert state.values[0].body.decode() == state.last_id == str(state.offset)
    assert state.seen[-1][1] == state.last_id


def test_a_full_disk_delays_and_a_broken_file_is_set_aside(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(writer, "RETRY", 0.01)
    first = store.Store(tmp_path)
    whole, failing = first._commit, [2]

    def commit(*arguments):
        if failing[0]:
            failing[0] -= 1
            raise sqlite3.OperationalError("database or disk is full")
        whole(*arguments)

    first._commit = commit
    message = text("kept")
    first.note(Entry(1, message))
    while failing[0]:
        pass
    first.close()
    assert store.Store(tmp_path).load().values == [message]
    assert caplog.text.count("disk is full") == 1
    for path in tmp_path.iterdir():
        path.write_bytes(b"no database at all" * 100)
    assert store.Store(tmp_path).load() == store.State()
    assert "set aside" in caplog.text
    assert len(list(tmp_path.glob("last.sqlite.broken-*"))) == 1
