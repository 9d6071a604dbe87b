"""The watchdog: the original's behaviours one by one, and what it does for several at once."""

import asyncio
import contextlib
import time

import pytest

from station.visuals import alone, conditional, message
from station.visuals.defaults import Listed
from station.visuals.directory import Local
from station.visuals.message import Message
from station.visuals.silence import Silence
from station.visuals.watchdog import Times
from tests.visuals.kit_bus import Reader, eventually
from tests.visuals.kit_fallback import BARE, BASE, ONE, TIMES, TWO, listing, watching

OTHER = "/topic/id/example.org/unlisted/"


def of(reader, topic):
    return [entry.message for entry in reader.entries if entry.message.topic == topic]


def defaults_of(reader, topic):
    return [found for found in of(reader, topic) if "expires" in found.headers]


def shown(reader):
    """What a subscriber would have got of a log: (topic, body)."""
    known, found = Silence(), []
    for entry in reader.entries:
        message = conditional.settle(entry.message, known.newest)
        if message is not None:
            known.note(message.topic, message.id, message.when, 0)
            found.append((message.topic, message.body))
    return found


async def say(bus, topic, body="TEXT real", **headers):
    await bus.publish(message.new(topic, body.encode(), headers))


def test_a_channel_is_silent_after_its_last_message_and_fm_counts_every_frequency():
    known = Silence()
    assert known.due([ONE], 60, 1000) == ([ONE], float("inf"))
    known.note(ONE + "text", "a", 0, 1000)
    assert known.due([ONE, TWO], 60, 1059) == ([TWO], 1060)
    assert known.due([ONE], 60, 1060) == ([ONE], float("inf"))
    wide = "/topic/fm/ce1/c221/*/"
    assert known.last(wide) == 1000
    known.note(wide + "image", "b", 0, 1100)
    assert known.last(ONE) == 1100
    assert known.newest(ONE + "image") == ("b", 0)
    other = "/topic/fm/ce1/c221/10470/"
    assert known.last(other) == 1100
    known.note(other + "text", "c", 0, 1200)
    assert (known.last(ONE), known.last(wide)) == (1100, 1200)
    known.alive(ONE, 900)
    assert known.last(ONE) == 1100
    known.keep([ONE], 1150)
    assert known.last(other) == 1200
    assert known.newest(ONE + "text") == ("a", 0)
    known.keep([], 5000)
    assert known.last(ONE) is None


def test_a_default_is_left_out_when_the_log_has_a_newer_message_before_it():
    def default(known, when=1000):
        headers = {"when": str(when), "message-id": "d", conditional.HEADER: conditional.condition(60, known)}
        return Message(ONE + "image", b"SHOW x", headers)

    text, image = ONE + "text", ONE + "image"
    last = {}.get
    assert conditional.settle(default({text: "", image: ""}), last).headers == {"when": "1000", "message-id": "d"}
    last = {text: ("t", 990.0), image: ("i", 900.0)}.get
    assert conditional.settle(default({text: "t", image: "i"}), last)
    assert conditional.settle(default({text: "older", image: "i"}), last) is None
    assert conditional.settle(default({text: "", image: "i"}), last) is None
    # What is older than the silence is no sign of life, whatever the sender remembered.
    assert conditional.settle(default({text: "older", image: "older"}, when=1060), last)
    plain = Message(ONE + "image", b"SHOW x", {"when": "1000", "message-id": "d"})
    assert conditional.settle(plain, last) is plain
    for odd in ("", "[", "3", "[60]", '["a", {"x": 1}]', "[60, []]"):
        found = conditional.settle(Message(image, b"", {"message-id": "d", conditional.HEADER: odd}), last)
        assert conditional.HEADER not in found.headers


@pytest.mark.media
def test_default_text_and_picture_are_those_of_the_reference(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        before = time.time()
        async with watching(bus, tmp_path / "a"):
            await reader.until(lambda r: of(r, TWO + "image") and of(r, ONE + "image"))
            bodies = {entry.message.topic: entry.message.body.decode() for entry in reader.entries}
            assert bodies == {
                ONE + "text": "TEXT This is One",
                ONE + "image": "SHOW https://example.org/one.png",
                TWO + "text": "TEXT Zwei für alle",
                TWO + "image": f"SHOW {BASE}two.png",
            }
            for topic, link in ((ONE, "https://one.example"), (TWO, None)):
                for kind in ("text", "image"):
                    headers = {k: v for k, v in of(reader, topic + kind)[0].headers.items() if k != conditional.HEADER}
                    assert headers.pop("link", None) == link
                    assert 0 < int(headers.pop("message-id")) < 2**128
                    assert before * 1000 <= int(headers.pop("timestamp")) <= time.time() * 1000
                    assert int(before) <= int(headers.pop("when")) <= time.time()
                    assert headers == {"trigger-time": "NOW", "expires": "0", "priority": "0"}
            assert len(shown(reader)) == len(reader.entries)
        await reader.stop()
        await bus.close()

    asyncio.run(main())


@pytest.mark.pace
@pytest.mark.media
def test_the_default_comes_after_the_silence_repeats_and_stops_when_a_real_message_comes(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        async with watching(bus, tmp_path / "a") as dog:
            await eventually(lambda: dog.active)
            await say(bus, ONE + "image", "SHOW https://example.org/real.png")
            said = time.monotonic()
            await reader.until(lambda r: defaults_of(r, ONE + "text"))
            assert TIMES.silence <= time.monotonic() - said < TIMES.silence + TIMES.check
            began = time.monotonic()
            await reader.until(lambda r: len(defaults_of(r, ONE + "text")) == 2)
            assert TIMES.silence * 0.9 <= time.monotonic() - began < TIMES.silence + TIMES.check
            count = len(defaults_of(reader, ONE + "text"))
            for _ in range(6):  # alive, on either topic, for longer than the silence
                await say(bus, ONE + "text")
                await asyncio.sleep(TIMES.silence / 4)
            assert len(defaults_of(reader, ONE + "text")) == count
            assert len(defaults_of(reader, TWO + "text")) >= 3
            assert not of(reader, BARE + "text")
            assert not of(reader, OTHER + "text")
        await reader.stop()
        await bus.close()

    asyncio.run(main())


@pytest.mark.pace
@pytest.mark.media
def test_the_next_look_is_when_the_next_channel_is_due(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        defaults = Listed(Local(listing({"1": {"channels": [{"topic": ONE, "text": "Default"}]}})))
        await say(bus, ONE + "text")
        said = time.monotonic()
        async with watching(bus, tmp_path / "a", defaults=defaults, times=Times(silence=2.0, check=30, refresh=30)):
            await reader.until(lambda r: defaults_of(r, ONE + "text"))
            # The message came before the watchdog did: its time is known to the second.
            assert 0.9 < time.monotonic() - said < 4
        await reader.stop()
        await bus.close()

    asyncio.run(main())


@pytest.mark.pace
@pytest.mark.media
def test_a_restart_overrides_no_live_channel(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        long = Times(silence=3.0, check=0.3, refresh=0.2)
        await say(bus, ONE + "text", "TEXT before any watchdog")
        async with watching(bus, tmp_path / "a", times=long) as dog:
            await reader.until(lambda r: of(r, TWO + "text"), 3)  # never seen: at once
            await eventually(lambda: len(list(dog.memory.waiting(9))) >= 3)
        await say(bus, TWO + "text", "TEXT while it was down")
        count = len(reader.entries)
        async with watching(bus, tmp_path / "a", times=long) as dog:
            await eventually(lambda: dog.active)
            await asyncio.sleep(0.7)
            assert not of(reader, ONE + "image")
            assert len(reader.entries) == count
        async with watching(bus, tmp_path / "b", times=long) as dog:  # one with an empty disk reads the log
            await eventually(lambda: dog.active)
            await asyncio.sleep(0.7)
            assert len(reader.entries) == count
            await reader.until(lambda r: defaults_of(r, ONE + "image"))
        await reader.stop()
        await bus.close()

    asyncio.run(main())


@pytest.mark.pace
@pytest.mark.media
def test_one_of_two_sends_and_the_other_takes_over_within_a_check(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        reader = Reader(bus)
        defaults = Listed(Local(listing({"1": {"channels": [{"topic": ONE, "text": "Default"}]}})))
        ended = contextlib.AsyncExitStack()
        first = await ended.enter_async_context(watching(bus, tmp_path / "b", defaults=defaults))
        await eventually(lambda: first.active)
        async with watching(bus, tmp_path / "a", defaults=defaults) as second:
            await reader.until(lambda r: len(of(r, ONE + "text")) == 2)
            assert not second.active
            assert second.sent == 0
            assert not of(reader, ONE + "image")
            await ended.aclose()
            last = time.monotonic()
            await eventually(lambda: second.active, TIMES.check)
            await reader.until(lambda r: len(of(r, ONE + "text")) == 3)
            # It knew the first one's defaults: no earlier than after the silence.
            assert 0.4 * TIMES.silence < time.monotonic() - last < TIMES.silence + TIMES.check
        await reader.stop()
        await bus.close()

    asyncio.run(main())


class Reach:
    """A bus that can be cut off: what is published waits, what comes is held back."""

    def __init__(self, bus):
        self._bus = bus
        self.there = asyncio.Event()
        self.there.set()
        self.published = []

    async def run(self, after, deliver):
        async def later(entry):
            await self.there.wait()
            await deliver(entry)

        await self._bus.run(after, later)

    def publish(self, message, *, refresh=False):
        self.published.append(message)
        return self._bus.publish(message, refresh=refresh)

    def lock(self, name):
        return self._bus.lock(name)

    def connected(self):
        return self.there.is_set()

    def caught_up(self):
        return self._bus.caught_up()


@pytest.mark.pace
@pytest.mark.media
def test_nothing_is_sent_while_the_bus_is_away_and_what_was_missed_comes_first(tmp_path):
    async def main():
        real = alone.Alone(tmp_path)
        bus, reader = Reach(real), Reader(real)
        async with watching(bus, tmp_path / "a") as dog:
            await eventually(lambda: len(bus.published) == 4)
            bus.there.clear()
            count = len(bus.published)
            await asyncio.sleep(TIMES.silence + 2 * TIMES.check)
            assert len(bus.published) == count
            await say(real, ONE + "text", "TEXT sent meanwhile")
            bus.there.set()
            back = time.monotonic()
            await eventually(lambda: any(m.topic == TWO + "text" for m in bus.published[count:]))
            assert [body for topic, body in shown(reader) if topic == ONE + "text"][-1] == b"TEXT sent meanwhile"
            await eventually(lambda: shown(reader)[-1] == (ONE + "image", b"SHOW https://example.org/one.png"))
            assert time.monotonic() - back >= TIMES.silence * 0.8
            assert dog.sent >= 4
        await reader.stop()
        await real.close()

    asyncio.run(main())


@pytest.mark.media
def test_a_real_message_that_comes_between_look_and_log_makes_the_default_void(tmp_path):
    async def main():
        bus = alone.Alone(tmp_path)
        long = Times(silence=3.0, check=0.3, refresh=0.2)
        slipped = []

        class Late(Reach):
            """Somebody else's message gets its place in the log just before our default does."""

            def publish(self, default, *, refresh=False):
                if default.topic == ONE + "text" and not slipped:
                    slipped.append(message.new(ONE + "image", b"SHOW https://example.org/real.png"))
                    bus.publish(slipped[0])
                return super().publish(default, refresh=refresh)

        reader = Reader(bus)
        async with watching(Late(bus), tmp_path / "a", times=long) as dog:
            await reader.until(lambda r: defaults_of(r, ONE + "image"))
            assert [body for topic, body in shown(reader) if topic.startswith(ONE)] == [slipped[0].body]
            await eventually(lambda: slipped[0].body in [row.body for row in dog.memory.waiting(99)])
            assert not any(row.topic == ONE + "text" for row in dog.memory.waiting(99))
        await reader.stop()
        await bus.close()

    asyncio.run(main())
