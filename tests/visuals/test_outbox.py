"""Queues of clients: bursts wait for those who read, those who do not are dropped, and nobody is delayed for long."""

import asyncio
import time

import pytest

from station.visuals import outbox
from station.visuals.bus import Entry
from station.visuals.frames import REFERENCE, Shapes
from station.visuals.hub import Hub, Subscription
from station.visuals.message import Message
from station.visuals.outbox import BLOCKED, READING, Flusher, Limits, Outbox


class Pipe:
    """An outlet whose other side takes `size` bytes and has them read after `pause` seconds; None for never."""

    def __init__(self, flusher, size=1 << 30, pause=0.001):
        self.size, self.pause_between = size, pause
        self.got, self.left, self.writes, self.state = bytearray(), b"", 0, []
        self.dropped = []
        self.box = Outbox(self, flusher, self.dropped.append)

    def write(self, data):
        self.writes += 1
        self.got += data[: self.size]
        self.left = data[self.size :]
        if self.left:
            self._again()
        return not self.left

    def _again(self):
        if self.pause_between is not None:
            asyncio.get_running_loop().call_later(self.pause_between, self._read)

    def _read(self):
        self.got += self.left[: self.size]
        self.left = self.left[self.size :]
        if self.left:
            self._again()
        else:
            self.box.resume()

    def unsent(self):
        return len(self.left)

    def pause(self, paused):
        self.state.append(paused)

    def finish(self):
        self.state.append("finished")

    def abort(self):
        self.state.append("aborted")
        self.left = b""


class Client:
    def __init__(self, hub, shapes, pipe):
        self.pipe, self.shapes = pipe, shapes
        subscription = Subscription("/x", "/x", None, self)
        subscription.shape = shapes.acquire(REFERENCE, "/x", None)
        hub.subscribe(subscription)

    def take(self, message, subscription):
        shape = subscription.shape
        kept = shape.message is message
        self.pipe.box.add(shape.frame if kept else self.shapes.render(shape, message))


def run(pipes, count, gap=None, limits=None, body=b"x" * 100):
    """Deliver messages to clients; returns the pipes and the longest time that one delivery took."""

    async def main():
        flusher = Flusher(limits or Limits())
        hub, shapes = Hub(flusher.pace), Shapes()
        made = [Pipe(flusher, *arguments) for arguments in pipes]
        for pipe in made:
            Client(hub, shapes, pipe)
        longest = 0.0
        for number in range(count):
            message = Message("/x", body, {"message-id": str(number), "when": "0"})
            began = time.monotonic()
            await hub.deliver(Entry(number, message))
            longest = max(longest, time.monotonic() - began)
            if gap is not None:
                await asyncio.sleep(gap)
        await asyncio.sleep(0.05)
        return made, longest

    return asyncio.run(main())


@pytest.mark.pace
def test_a_burst_waits_for_whoever_reads():
    made, _ = run([(), (16384, 0.001)], 3000)
    assert [pipe.dropped for pipe in made] == [[], []]
    assert [pipe.got.count(b"\0") for pipe in made] == [3000, 3000]


def test_many_messages_go_with_one_write():
    (pipe,), _ = run([()], 640)
    assert pipe.got.count(b"\0") == 640 and pipe.writes <= 25


@pytest.mark.pace
def test_one_that_takes_nothing_is_dropped_and_delays_the_burst_once():
    (fast, stalled), longest = run([(), (100, None)], 2000)
    assert fast.dropped == [] and fast.got.count(b"\0") == 2000
    assert stalled.dropped == ["queue full"] and stalled.state[-1] == "aborted"
    assert longest < 0.3


@pytest.mark.pace
def test_one_that_takes_nothing_for_long_delays_nobody():
    (fast, stalled), longest = run([(), (100, None)], 60, gap=0.004, limits=Limits(40, 1 << 20))
    assert stalled.dropped == ["queue full"] and fast.got.count(b"\0") == 60
    assert longest < 0.09  # to wait for one takes 0.1


@pytest.mark.pace
def test_what_all_may_delay_is_granted_anew_slowly(monkeypatch):
    async def main():
        flusher = Flusher(Limits(10, 1 << 20))
        spent = []
        for _ in range(6):
            pipe = Pipe(flusher, 1, None)
            pipe.unsent = iter(range(1 << 30, 0, -outbox.STEP)).__next__  # it always takes something, and is never done
            pipe.box.add(b"yy")
            await asyncio.sleep(0)
            for _ in range(8):
                pipe.box.add(b"y")
            began = time.monotonic()
            await flusher.pace()
            spent.append(time.monotonic() - began)
            pipe.box.drop("over")
        return spent

    monkeypatch.setattr(outbox, "PATIENCE", 0.2)
    monkeypatch.setattr(outbox, "HELD_UP", 0.15)
    spent = asyncio.run(main())
    assert spent[0] > 0.08, "nobody is waited for"
    assert sum(spent) < 0.3


def test_a_queue_holds_what_it_may_and_no_more():
    async def main(limits, size, most):
        flusher = Flusher(limits)
        pipe = Pipe(flusher, 1, None)
        pipe.box.add(b"y" * 10)
        await asyncio.sleep(0)
        assert pipe.box.blocked and pipe.box.count == 1 and pipe.state == [True]
        for _ in range(most - 1):
            pipe.box.add(b"y" * size)
            assert not pipe.dropped
        pipe.box.add(b"y" * size)
        assert pipe.dropped == ["queue full"] and pipe.box.size == 0 and not flusher.lagging
        pipe.box.add(b"z")
        assert pipe.box.size == 0

    asyncio.run(main(Limits(20, 1 << 20), 10, 20))
    asyncio.run(main(Limits(250, 4096), 1000, 5))


def test_replies_take_no_place_of_a_message():
    async def main():
        pipe = Pipe(Flusher(Limits(10, 1 << 20)))
        for _ in range(100):
            pipe.box.reply(b"RECEIPT")
        await asyncio.sleep(0)
        assert not pipe.dropped and pipe.got == b"RECEIPT" * 100 and pipe.writes == 1

    asyncio.run(main())


@pytest.mark.parametrize("size", [1 << 20, 3])
def test_what_waits_goes_out_before_the_end(size):
    async def main():
        pipe = Pipe(Flusher(Limits()), size)
        pipe.box.add(b"0123456789")
        pipe.box.finish()
        pipe.box.add(b"late")
        await asyncio.sleep(0.05)
        assert pipe.got == b"0123456789" and pipe.state[-1] == "finished" and pipe.state.count("finished") == 1

    asyncio.run(main())


def test_reading_stops_for_two_reasons_and_goes_on_without_both():
    async def main():
        pipe = Pipe(Flusher(Limits()))
        for reason, on in ((BLOCKED, True), (READING, True), (BLOCKED, False), (READING, False), (READING, False)):
            pipe.box.hold(reason, on)
        assert pipe.state == [True, False]

    asyncio.run(main())


def test_a_frame_is_kept_only_while_its_message_is_handed_out():
    shapes = Shapes()
    first, second = (shapes.acquire(REFERENCE, "/x", None) for _ in range(2))
    assert first is second
    one, two = (Message("/x", body, {"message-id": body.decode()}) for body in (b"1", b"2"))
    assert shapes.render(first, one) == b"MESSAGE\ndestination:/x\nmessage-id:1\n\n1\0"
    assert first.message is one
    alone = shapes.acquire(REFERENCE, "/x", "5")
    assert shapes.render(alone, two) == b"MESSAGE\ndestination:/x\nmessage-id:2\nsubscription:5\n\n2\0"
    assert first.message is None and first.frame == b"" and alone.message is None
    for shape in (first, second, alone):
        shapes.release(shape)
    assert not shapes._shapes
