"""The log of an instance without a broker."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading

import pytest

from station.visuals import alone
from station.visuals.bus import Full
from station.visuals.waiting import Waiting
from tests.visuals.kit_bus import TOPIC, Reader, eventually, text


@pytest.mark.media
def test_all_readers_get_all_in_one_order_and_a_restart_goes_on(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        early = Reader(bus)
        await eventually(bus.caught_up)
        sent = [text(f"{n}") for n in range(600)]
        await asyncio.gather(*[bus.publish(message) for message in sent[:300]])
        late = Reader(bus)
        await asyncio.gather(*[bus.publish(message) for message in sent[300:]])
        for reader in (early, late):
            await reader.until(lambda r: len(r.entries) == 600)
            assert [entry.message for entry in reader.entries] == sent
            await reader.stop()
        known = early.entries[450].offset
        await bus.close()

        bus = alone.Alone(tmp_path)
        assert not bus.caught_up()
        again, all_of_it = Reader(bus, known), Reader(bus, 10**15)  # an offset of a log that was lost
        await bus.publish(text("new"))
        await again.until(lambda r: r.bodies[-1:] == ["new"])
        await all_of_it.until(lambda r: r.bodies[-1:] == ["new"])
        assert again.bodies == [f"{n}" for n in range(451, 600)] + ["new"]
        assert all_of_it.bodies == [f"{n}" for n in range(600)] + ["new"]
        offsets = [entry.offset for entry in all_of_it.entries]
        assert offsets == sorted(set(offsets))
        assert bus.caught_up()
        assert bus.connected()
        await again.stop()
        await all_of_it.stop()
        await bus.close()

    asyncio.run(main())


def test_a_log_that_is_lost_begins_above_the_old_offsets(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        await bus.publish(text("old"))
        await reader.until(lambda r: r.entries)
        await reader.stop()
        await bus.close()
        for path in tmp_path.iterdir():
            path.unlink()
        await asyncio.sleep(0.002)
        bus = alone.Alone(tmp_path)
        await bus.publish(text("new"))
        after = Reader(bus, reader.entries[-1].offset)
        await after.until(lambda r: r.bodies == ["new"])
        await after.stop()
        await bus.close()

    asyncio.run(main())


def test_old_entries_go_but_the_last_of_each_topic_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "PRUNE", 0.0)

    async def bodies(**limits):
        bus = alone.Alone(tmp_path, **limits)
        await bus.publish(text("now"))
        await bus.close()
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        await reader.until(lambda r: r.bodies[-1:] == ["now"])
        await reader.stop()
        await bus.close()
        return reader.bodies

    async def main():
        bus = alone.Alone(tmp_path)
        await bus.publish(text("quiet", TOPIC + "2"))
        for n in range(5):
            await bus.publish(text(str(n)))
        await bus.close()
        assert await bodies(count=3) == ["quiet", "3", "4", "now"]
        assert await bodies(age=0.0) == ["quiet", "now"]

    asyncio.run(main())


def test_while_the_disk_takes_nothing_messages_wait_in_order(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(alone, "RETRY", 0.02)

    async def main():
        bus = alone.Alone(tmp_path)
        bus._waiting = Waiting(messages=4)
        bus._database.execute("PRAGMA query_only=ON")
        waiting = [bus.publish(text(str(n))) for n in range(4)]
        with pytest.raises(Full, match="4 messages of"):
            bus.publish(text("too many"))
        await eventually(lambda: not bus.connected())
        assert not any(done.done() for done in waiting)
        bus._database.execute("PRAGMA query_only=OFF")
        reader = Reader(bus)
        await asyncio.gather(*waiting)
        await reader.until(lambda r: r.bodies == ["0", "1", "2", "3"])
        assert bus.connected()
        await reader.stop()
        await bus.close()

    asyncio.run(main())
    assert caplog.text.count("cannot write the log") == 1


def test_what_is_confirmed_was_committed_and_synced(tmp_path, monkeypatch):
    """The power cut itself is not played here: a commit of SQLite with WAL and FULL is an fsync (sqlite.org/pragma)."""

    async def main():
        bus = alone.Alone(tmp_path)
        assert bus._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert bus._database.execute("PRAGMA synchronous").fetchone() == (2,)
        begun, go_on = threading.Event(), threading.Event()
        commit = bus._commit

        def slow(entries):
            begun.set()
            go_on.wait(5)
            commit(entries)

        monkeypatch.setattr(bus, "_commit", slow)
        reader = Reader(bus)
        done = bus.publish(text("1"))
        await asyncio.to_thread(begun.wait, 20)
        assert not done.done()
        assert not reader.entries  # nobody sees what a power cut could undo
        go_on.set()
        await done
        with contextlib.closing(sqlite3.connect(tmp_path / "log.sqlite")) as other:
            assert other.execute("SELECT body FROM log").fetchall() == [(b"1",)]
        await reader.until(lambda r: r.bodies == ["1"])
        await reader.stop()
        await bus.close()

    asyncio.run(main())


@pytest.mark.media
def test_a_kill_loses_nothing_that_was_confirmed(tmp_path):
    script = """
import asyncio, pathlib, sys
from station.visuals import alone, message
async def main():
    bus = alone.Alone(pathlib.Path(sys.argv[1]))
    async def one(n):
        await bus.publish(message.new("/topic/t/text", str(n).encode()))
        print(n, flush=True)
    for n in range(0, 10**9, 20):
        await asyncio.gather(*[one(n + k) for k in range(20)])
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        confirmed = [process.stdout.readline() for _ in range(200)]
        process.kill()
        confirmed += process.stdout.readlines()
    confirmed = [int(line) for line in confirmed if line.endswith(b"\n")]

    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        await reader.until(lambda r: len(r.bodies) >= len(confirmed))
        await reader.stop()
        await bus.close()
        assert [int(body) for body in reader.bodies][: len(confirmed)] == sorted(confirmed)

    asyncio.run(main())


def test_a_lock_goes_from_one_to_the_next(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        first, second = bus.lock("one"), bus.lock("one")
        assert await anext(first) is True
        other = bus.lock("another")
        assert await anext(other) is True
        waits = asyncio.create_task(anext(second))
        await asyncio.sleep(0.01)
        assert not waits.done()
        await first.aclose()
        assert await waits is True
        await second.aclose()
        await other.aclose()
        await bus.close()

    asyncio.run(main())
