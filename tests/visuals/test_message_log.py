"""The message log: kept over restarts and full disks, within age and size, and brought to the manager."""

import asyncio
import contextlib
import sqlite3
import time

import pytest

from station.manager_link import ManagerLink
from station.visuals import database, message, message_log, writer
from station.visuals.bus import Entry
from station.visuals.directory_legacy import Legacy
from station.visuals.log_sender import LegacyTaker, LogSender, ManagerTaker
from station.visuals.message_log import MessageLog
from tests.visuals.kit_bus import eventually
from tests.visuals.kit_fallback import ONE, TWO, Manager, Original


def entry(number, body="TEXT x", topic=ONE + "text", **headers):
    return Entry(number, message.new(topic, body.encode(), headers))


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_survives_a_restart_and_prints_the_newest_first(tmp_path):
    log = MessageLog(tmp_path)
    assert (log.known().offset, log.known().last) == (None, [])
    now = time.time()
    first, last = entry(7, "TEXT Grüße\nzwei", link="https://x"), entry(9, "SHOW y", ONE + "image")
    log.add(first, now - 5)
    log.add(Entry(8, message.new(TWO + "text", b"again"), refresh=True), now - 4)
    log.add(last, now)
    log.add(entry(10, "TEXT other", TWO + "text"), now - 1)
    log.add(Entry(11, last.message), now)  # what the bus repeats is there once
    log.close()

    log = MessageLog(tmp_path)
    known = log.known()
    assert known.offset == 11
    assert known.mark == last.message.id
    assert known.at == pytest.approx(time.time(), abs=5)
    assert (ONE + "image", last.message.id, now) in known.last
    assert [row.body for row in log.waiting(9)] == [b"TEXT Gr\xc3\xbc\xc3\x9fe\nzwei", b"SHOW y", b"TEXT other"]
    rows = list(message_log.newest(tmp_path))
    assert [row.body for row in rows] == [b"SHOW y", b"TEXT other", b"TEXT Gr\xc3\xbc\xc3\x9fe\nzwei"]
    assert rows[2].headers == first.message.headers
    assert [row.topic for row in message_log.newest(tmp_path, ONE)] == [ONE + "image", ONE + "text"]
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - 5))
    assert message_log.line(rows[2]) == f"{stamp}Z {ONE}text {first.message.id} TEXT Grüße\\nzwei"
    log.close()
    with pytest.raises(sqlite3.Error):
        next(message_log.newest(tmp_path / "nothing"))


@pytest.mark.media
def test_age_and_size_bound_it_and_the_last_of_each_topic_is_remembered(tmp_path):
    log = MessageLog(tmp_path, size=300_000)
    now = time.time()
    log.add(entry(1, topic=TWO + "text"), now - 100)
    log.add(entry(2), now - 10)
    until(lambda: log.backlog() == 2)
    assert log.clean(now - 50) == 1
    assert [row.topic for row in log.waiting(9)] == [ONE + "text"]
    assert {row[0] for row in log.known().last} == {ONE + "text", TWO + "text"}
    log.presume_taken(now - 5)
    assert log.backlog() == 0
    for number in range(3, 1003):
        log.add(entry(number, "x" * 1000), now)
    until(lambda: log.known().offset == 1002)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_500_000
    kept = [row.number for row in message_log.newest(tmp_path)]
    assert 50 < len(kept) < 300
    assert kept == sorted(kept, reverse=True)


@pytest.mark.media
def test_a_full_disk_ends_nothing_and_what_fits_in_memory_is_not_lost(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(writer, "RETRY", 0.05)
    monkeypatch.setattr(message_log, "WAITING", 100)
    log = MessageLog(tmp_path)
    log._database.execute(f"PRAGMA max_page_count = {log._database.execute('PRAGMA page_count').fetchone()[0]}")
    for number in range(1, 151):
        log.add(entry(number, f"{number}" + "x" * 2000), 1000 + number)
    until(lambda: log.failing)
    log.add(entry(151, "newest"), 2000)
    until(lambda: log.lost == 51)
    assert sum("cannot be written" in line for line in caplog.messages) == 1
    log._database.execute("PRAGMA max_page_count = 100000")
    until(lambda: not log.failing)
    assert len(log.waiting(999)) == 100
    assert log.waiting(999)[-1].body == b"newest"
    log.close()


def test_a_disk_that_takes_no_file_leaves_a_log_in_memory(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "connect", full)
    log = MessageLog(tmp_path)
    assert "in memory" in caplog.text
    log.add(entry(1), time.time())
    until(lambda: log.backlog() == 1)
    log.close()
    assert not list(tmp_path.iterdir())


def test_a_broken_file_is_set_aside(tmp_path):
    (tmp_path / message_log.FILE).write_bytes(b"no database at all " * 500)
    log = MessageLog(tmp_path)
    log.add(entry(1), time.time())
    log.close()
    assert len(list(message_log.newest(tmp_path))) == 1


@contextlib.asynccontextmanager
async def sending(log, taker, **more):
    task = asyncio.create_task(LogSender(log, taker, **more).run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def quick(monkeypatch):
    monkeypatch.setattr("station.visuals.log_sender.LOOK", 0.02)
    monkeypatch.setattr("station.manager_link.PAUSES", (0.05,))


@pytest.mark.media
def test_the_manager_gets_all_in_batches_and_again_after_an_absence(tmp_path, monkeypatch, caplog):
    quick(monkeypatch)

    async def main():
        log = MessageLog(tmp_path)
        for number in range(1, 1201):
            log.add(entry(number, f"TEXT {number}"), 1000.5 + number)
        async with Manager() as manager:
            manager.away = True
            link = ManagerLink(manager.url, manager.TOKEN)
            async with sending(log, ManagerTaker(link, "hall-a/main")):
                await eventually(lambda: log.backlog() == 1200)
                await asyncio.sleep(0.3)
                assert not manager.messages
                manager.away = False
                await eventually(lambda: log.backlog() == 0)
                assert manager.batches == [500, 500, 200]
                rows = list(manager.messages.values())
                assert [row["body"] for row in rows] == [f"TEXT {number}" for number in range(1, 1201)]
                assert rows[0]["when"] == 1001.5
                assert rows[0]["source"] == "hall-a/main"
                # One that it does not take holds up none of the others.
                manager.refuses = {"TEXT bad"}
                for number, body in enumerate(("TEXT good", "TEXT bad", "TEXT fine"), start=1201):
                    log.add(entry(number, body), 5000)
                await eventually(lambda: log.backlog() == 0 and len(manager.messages) == 1202)
                assert sum("does not take message" in line for line in caplog.messages) == 1
            await link.close()
        assert sum("waits for the manager" in line for line in caplog.messages) == 1
        assert manager.TOKEN not in caplog.text
        await asyncio.to_thread(log.close)

    asyncio.run(main())


@pytest.mark.media
def test_a_wrong_token_is_no_messages_fault(tmp_path, monkeypatch, caplog):
    quick(monkeypatch)

    async def main():
        log = MessageLog(tmp_path)
        log.add(entry(1), time.time())
        async with Manager() as manager:
            link = ManagerLink(manager.url, "smt_wrong_token")
            async with sending(log, ManagerTaker(link, "hall-a/main")):
                await eventually(lambda: "no such token" in caplog.text)
                assert log.backlog() == 1
            await link.close()
        assert "smt_wrong" not in caplog.text
        await asyncio.to_thread(log.close)

    asyncio.run(main())


@pytest.mark.media
def test_the_originals_manager_gets_each_message_once_from_the_active_one(tmp_path, monkeypatch):
    quick(monkeypatch)

    async def main():
        log, active = MessageLog(tmp_path), False
        async with Original() as api:
            legacy = Legacy(api.api, tmp_path)
            async with sending(log, LegacyTaker(legacy), mine=lambda: active, overlap=50):
                log.add(entry(1, "TEXT long ago"), time.time() - 60)
                log.add(entry(2, "TEXT Größe", link="https://x"), 1 + int(time.time()))
                await eventually(lambda: [row.body for row in log.waiting(9)] == ["TEXT Größe".encode()])
                assert not api.calls("add_log")
                active = True
                await eventually(lambda: log.backlog() == 0)
                (form,) = api.calls("add_log")
                assert form["topic"] == ONE + "text"
                assert form["message"] == "TEXT Größe"
                assert '"link": "https://x"' in form["headers"]
                assert float(form["timestamp"]) == pytest.approx(time.time(), abs=5)
                api.away = True
                log.add(entry(3, "TEXT late"), time.time())
                await asyncio.sleep(0.2)
                api.away = False
                await eventually(lambda: log.backlog() == 0)
                assert [form["message"] for form in api.calls("add_log")] == ["TEXT Größe", "TEXT late"]
            await legacy.close()
        await asyncio.to_thread(log.close)

    asyncio.run(main())
