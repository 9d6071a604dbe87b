"""The clock of a stream: one timer for all, none for nobody, and a live source that is read while it is watched."""

import asyncio
import subprocess
import sys
import time

import pytest

from station.stills import conversions, sources
from station.stills import stream as streams
from station.stills.aside import aside
from station.stills.pictures import Picture
from station.stills.sources import Converting, Images
from station.stills.stream import Stream
from station.stills.stream_settings import StreamSettings
from station.stills.stream_settings import Testcard as Card
from tests.stills.kit_core import ROOT, in_turn
from tests.stills.kit_net import Live

LIST = [Picture(number, "JPG", b"%d" % number) for number in range(5)]


def of_list(ips=100.0, pictures=LIST):
    return Stream(StreamSettings("a", ips=ips), Images(pictures))


def numbers_during(stream, seconds):
    got = []

    async def main():
        leave = stream.attach(lambda picture: got.append(picture.number))
        await asyncio.sleep(seconds)
        leave()
        leave()
        assert stream._timer is None
        await asyncio.sleep(0.02)

    asyncio.run(main())
    return got


@pytest.mark.pace
def test_each_period_the_next_picture():
    got = numbers_during(of_list(20.0), 0.5)
    assert 6 <= len(got) <= 11
    assert in_turn(got, 5), got


@pytest.mark.pace
def test_what_a_busy_loop_missed_is_left_out():
    stream, got = of_list(), []

    async def main():
        stream.attach(lambda picture: got.append(picture.number))
        await asyncio.sleep(0.03)
        time.sleep(0.1)
        before, began = len(got), time.monotonic()
        await asyncio.sleep(0.03)
        assert len(got) - before <= (time.monotonic() - began) * 100 + 2
        assert abs(got[-1] - stream.now().number) % 5 in (0, 1, 4), "it lags behind its clock"

    asyncio.run(main())


def test_one_who_fails_harms_nobody(caplog):
    stream, got = of_list(), []

    async def main():
        stream.attach(lambda _: 1 / 0)
        stream.attach(lambda picture: got.append(picture))
        await asyncio.sleep(0.2)

    asyncio.run(main())
    assert got
    assert "ZeroDivisionError" in caplog.text


def test_the_next_one_after_a_known_one():
    stream = of_list(20.0)

    async def main():
        now = stream.now()
        assert await stream.latest(1) == now
        assert (await stream.following((now.number + 3) % 5, 1)).number in (now.number, (now.number + 1) % 5)
        after = await stream.following(stream.now().number, 1)
        assert after == stream.now()
        assert await stream.following(None, 0.001) is None
        assert stream.viewers == 0

    asyncio.run(main())


def test_a_live_source_is_read_while_it_is_watched(monkeypatch):
    monkeypatch.setattr(streams, "LINGER", 0.03)
    source = Live()
    stream = Stream(StreamSettings("a"), source)

    async def main():
        waiting = asyncio.create_task(stream.latest(1))
        await asyncio.sleep(0)
        assert source.wishes == [True]
        source.give(Picture(7, "JPG", b"7", 1.0))
        assert (await waiting).number == 7
        leave = stream.hold()
        await asyncio.sleep(0.05)
        assert source.wishes == [True]
        leave()
        leave()
        assert (await stream.following(6, 1)).number == 7
        assert await stream.following(7, 0.01) is None
        await asyncio.sleep(0.05)
        assert source.wishes == [True, False]
        stream.attach(lambda _: None)
        assert source.wishes == [True, False, True]

    asyncio.run(main())


def test_who_asks_for_the_same_kind_shares_the_work(monkeypatch):
    made = []
    real = conversions.pictures.convert
    monkeypatch.setattr(conversions.pictures, "convert", lambda *told: made.append(told) or real(*told))
    card = sources.testcards(Card(32, 32, 3), "JPG")
    stream = of_list(pictures=card)
    monkeypatch.setattr(conversions, "CACHE", 3000)

    async def main():
        first, second = await asyncio.gather(stream.as_kind(card[0], "PNG"), stream.as_kind(card[0], "PNG"))
        assert first is second
        assert len(made) == 1
        assert await stream.as_kind(card[0], "PNG") is first
        assert await stream.as_kind(card[0], "JPG") is card[0]
        for one in card:
            await stream.as_kind(one, "BMP")
        assert stream._kinds.size <= 3200, "what was converted is kept for ever"

    asyncio.run(main())


def test_work_aside_tells_its_result_its_error_and_holds_up_no_end():
    async def main():
        assert await aside(divmod, 7, 4) == (1, 3)
        with pytest.raises(ZeroDivisionError):
            await aside(divmod, 7, 0)
        waits = asyncio.ensure_future(aside(time.sleep, 0.01))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await asyncio.sleep(0.03)  # what is done for nobody harms nobody

    asyncio.run(main())
    program = """
import asyncio, time
from station.stills.aside import aside
async def main():
    asyncio.ensure_future(aside(time.sleep, 60))
    await asyncio.sleep(0.01)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_live_pictures_of_another_kind():
    source, got = Live(), []
    card = sources.testcards(Card(32, 32, 3), "JPG")

    async def main():
        stream = Stream(StreamSettings("a", type="PNG"), Converting(source, "PNG"))
        stream.attach(got.append)
        for one in card:  # they come faster than they are made
            source.give(one)
        async with asyncio.timeout(5):
            while not got or got[-1].number != 2:
                await asyncio.sleep(0.005)
        assert stream.now() is got[-1]
        assert stream.at(2) is got[-1]
        source.last = None
        assert stream.now() is None

    asyncio.run(main())
    assert {one.kind for one in got} == {"PNG"}


@pytest.mark.parametrize("kind", ["JPG", "PNG"])
def test_testcards_differ(kind):
    made = sources.testcards(Card(64, 48, 4), kind, "word")
    assert [one.number for one in made] == [0, 1, 2, 3]
    assert len({one.data for one in made}) == 4
