"""The log of several instances: a stream of a real RabbitMQ."""

import asyncio
import contextlib
import json
import subprocess
import time
import uuid

import pytest
from aiormq import spec

from station.visuals import amqp, amqp_link, store
from station.visuals.bus import Full
from station.visuals.waiting import Waiting
from tests.visuals.kit_broker import Broker, off
from tests.visuals.kit_bus import TOPIC, Reader, eventually, text

pytestmark = pytest.mark.media


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker")).start().wait()
    yield broker
    broker.stop()


@pytest.fixture
def stream():
    """A log of its own for each test."""
    return f"log.{uuid.uuid4()}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(amqp, "RETRY", 0.2)
    monkeypatch.setattr(amqp, "LOOK", 0.1)
    monkeypatch.setattr(amqp, "JITTER_MISSING", 0.2)
    monkeypatch.setattr(amqp_link, "TAIL_EMPTY", 0.5)


class Instance(Reader):
    """A bus, a reader and a store, as an instance of visuals has them."""

    def __init__(self, broker, stream, folder):
        folder.mkdir(exist_ok=True)
        self.store = store.Store(folder)
        self.state = self.store.load()
        # An exchange of its own: amq.fanout would bring the messages of other tests.
        self.bus = amqp.Broker([broker.node()], exchange=stream, stream=stream, state=self.state)
        super().__init__(self.bus, self.state.offset)

    async def deliver(self, entry):
        await super().deliver(entry)
        self.store.note(entry)

    async def ready(self):
        await self.until(lambda _: self.bus.caught_up() and self.bus.connected())
        return self

    async def end(self):
        await self.stop()
        await self.bus.close()
        self.store.close()


def test_instances_see_one_order_and_go_on_where_they_were(broker, stream, tmp_path):
    async def main():
        one = await Instance(broker, stream, tmp_path / "1").ready()
        two = await Instance(broker, stream, tmp_path / "2").ready()
        await asyncio.gather(
            *[(one, two)[n % 2].bus.publish(text(f"{n}", link="https://example.org/ü")) for n in range(500)]
        )
        for instance in (one, two):
            await instance.until(lambda r: len(r.entries) == 500)
        assert one.bodies == two.bodies
        assert [e.message for e in one.entries] == [e.message for e in two.entries]
        for parity in (0, 1):  # of one sender in the order in which it sent
            own = [int(body) for body in one.bodies if int(body) % 2 == parity]
            assert own == sorted(own)
        assert one.entries[0].message.headers["link"] == "https://example.org/ü"
        await one.end()
        await two.bus.publish(text("meanwhile"))
        again = await Instance(broker, stream, tmp_path / "1").ready()
        assert again.bodies == ["meanwhile"]
        third = await Instance(broker, stream, tmp_path / "3").ready()
        await third.until(lambda r: r.bodies == [*one.bodies, "meanwhile"])
        for instance in (two, again, third):
            await instance.end()

    asyncio.run(main())


def test_the_originals_instances_take_part(broker, stream, tmp_path, caplog):
    async def main():
        one = await Instance(broker, stream, tmp_path / "1").ready()
        async with contextlib.AsyncExitStack() as stack:
            channel = await broker.channel(stack)
            queue = (await channel.queue_declare(exclusive=True)).queue
            await channel.queue_bind(queue, stream)
            got = asyncio.Queue()

            async def put(delivery):
                await got.put(delivery)

            await channel.basic_consume(queue, put, no_ack=True)
            ours = text("TEXT ours", link="https://example.org/")
            await one.bus.publish(ours)
            await one.bus.publish(text("TEXT repeated"), refresh=True)  # is not for them
            delivery = await asyncio.wait_for(got.get(), 20)
            assert delivery.body == b"TEXT ours"
            assert delivery.header.properties.headers == {
                "topic": TOPIC,
                "message-id": ours.id,
                "when": int(ours.headers["when"]),
                "link": "https://example.org/",
            }
            for body, headers in (
                (b"lost", {"message-id": "1"}),
                (b"theirs", {"topic": TOPIC, "message-id": 7, "when": 1.5, "priority": "0", "link": "a\r\nb"}),
            ):
                await channel.basic_publish(body, exchange=stream, properties=spec.Basic.Properties(headers=headers))
            await one.until(lambda r: r.bodies[-1] == "theirs")
            assert got.qsize() == 2
        theirs = one.entries[-1].message
        assert dict(theirs.headers) == {"message-id": "7", "when": "1.5", "priority": "0", "link": "a  b"}
        assert "without a topic" in caplog.text
        await one.end()

    asyncio.run(main())


def test_a_kill_of_the_broker_loses_nothing_and_what_waits_is_sent_on_its_return(
    broker, stream, tmp_path, caplog, monkeypatch
):
    async def main():
        one = await Instance(broker, stream, tmp_path / "1").ready()
        two = await Instance(broker, stream, tmp_path / "2").ready()
        lock = two.bus.lock("active")
        assert await anext(lock) is True
        lost = asyncio.create_task(anext(lock))
        confirmed = []

        async def send(n):
            message = text(f"{n}")
            await one.bus.publish(message)
            confirmed.append(f"{n}")

        sending = [asyncio.create_task(send(n)) for n in range(200)]
        await eventually(lambda: len(confirmed) > 20)
        await off(broker.kill)
        sending += [asyncio.create_task(send(n)) for n in range(200, 400)]
        await eventually(lambda: not one.bus.connected())
        waiting = one.bus._waiting
        await eventually(lambda: len(confirmed) + len(waiting) == 400)
        with monkeypatch.context() as patch:
            patch.setattr(waiting, "_limits", (len(waiting), 1 << 20))
            with pytest.raises(Full, match="wait already"):
                one.bus.publish(text("too many"))
        assert await asyncio.wait_for(lost, 5) is False
        broker.start()
        await off(broker.wait)
        await asyncio.gather(*sending)
        assert await asyncio.wait_for(anext(lock), 20) is True
        await lock.aclose()
        for instance in (one, two):
            await instance.until(lambda r: len(r.bodies) == 400)
            assert instance.bodies == [f"{n}" for n in range(400)]
            assert instance.bus.connected()
            await instance.end()

    asyncio.run(main())
    assert broker.options["password"] not in caplog.text
    assert caplog.text.count("cannot be reached") <= 6  # once for each connection, not with each attempt


def test_a_log_that_was_made_anew_gets_the_last_values_and_delivers_nothing_twice(broker, stream, tmp_path):
    async def main():
        one = await Instance(broker, stream, tmp_path / "1").ready()
        two = await Instance(broker, stream, tmp_path / "2").ready()
        old, only_one = text("old"), text("both", TOPIC + "2")
        for message in (old, only_one):
            await one.bus.publish(message)
        await two.until(lambda r: len(r.entries) == 2)
        await two.end()
        newest = text("newest", when=str(int(time.time()) + 1))
        await one.bus.publish(newest)
        await one.until(lambda r: len(r.entries) == 3)
        await broker.delete(stream)
        await one.until(lambda r: len([e for e in r.entries if e.refresh]) == 2)
        assert one.bodies == ["old", "both", "newest"]  # its own repetitions are no messages
        # One that was away when the newest was sent gets it as a message, for its subscribers missed it.
        away = await Instance(broker, stream, tmp_path / "2").ready()
        await away.until(lambda r: r.bodies == ["newest"])
        # One that knows nothing gets them to fill its last values.
        new = await Instance(broker, stream, tmp_path / "3").ready()
        await new.until(lambda r: len(r.entries) >= 2)
        assert {e.message.body for e in new.entries if e.refresh} == {b"newest", b"both"}
        assert new.bodies == []
        await one.bus.publish(text("after"))
        for instance in (one, away, new):
            await instance.until(lambda r: r.bodies[-1:] == ["after"])
            await instance.end()

    asyncio.run(main())


def test_a_log_that_was_cut_short_is_read_again(broker, stream, tmp_path):
    """As after a power cut of the broker: our offset is beyond its end, or is another message's."""

    async def main():
        one = await Instance(broker, stream, tmp_path / "1").ready()
        for n in range(3):
            await one.bus.publish(text(f"{n}"))
        await one.until(lambda r: len(r.entries) == 3)
        await one.end()
        folder = tmp_path / "1" / "last.sqlite"
        for change in ("offset = 50", "offset = 1, id = 'another'"):
            with contextlib.closing(store.database.sqlite3.connect(folder)) as file, file:
                file.execute(f"UPDATE position SET {change}")
            again = await Instance(broker, stream, tmp_path / "1").ready()
            await again.until(lambda r: [e.offset for e in r.entries if not e.refresh] == [0, 1, 2])
            await again.end()

    asyncio.run(main())


def test_values_are_repeated_before_the_log_loses_them(broker, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(amqp, "REPEAT_LOOK", 0.1)
    monkeypatch.setattr(amqp, "JITTER_OLD", 0.3)

    async def main():
        old = text("old", when=str(int(time.time()) - 7 * 3600))
        one = await Instance(broker, stream, tmp_path / "1").ready()
        await one.bus.publish(old)
        await one.bus.publish(text("new", TOPIC + "2"))
        await one.until(lambda r: len(r.entries) == 2)
        await one.end()
        again = await Instance(broker, stream, tmp_path / "1").ready()
        also = await Instance(broker, stream, tmp_path / "2").ready()
        await again.until(lambda r: any(e.refresh for e in r.entries))
        await asyncio.sleep(0.5)
        repeated = [e.message for e in also.entries if e.refresh]
        assert repeated == [old]  # once, by one of them, and the new value not at all
        await again.end()
        await also.end()

    asyncio.run(main())


def test_a_lock_is_held_by_one_and_taken_over(broker, stream):
    async def main():
        first, second = (amqp.Broker([broker.node()], stream=stream) for _ in range(2))
        held, waits = first.lock("active"), second.lock("active")
        assert await anext(held) is True
        taking = asyncio.create_task(anext(waits))
        await asyncio.sleep(0.6)
        assert not taking.done()
        other = second.lock("another")
        assert await asyncio.wait_for(anext(other), 5) is True
        await held.aclose()
        assert await asyncio.wait_for(taking, 5) is True
        await waits.aclose()
        await other.aclose()

    asyncio.run(main())


def test_a_killed_instance_loses_nothing_that_was_confirmed(broker, stream, tmp_path):
    """Killed between delivery and store: on its return it reads on, and nobody missed what it had sent."""
    script = f"""
import asyncio, json, sys
from station.visuals import amqp, message
from station.visuals.amqp_link import Node
async def main():
    bus = amqp.Broker([Node(**json.loads(sys.argv[1]))], exchange={stream!r}, stream={stream!r})
    async def one(n):
        await bus.publish(message.new({TOPIC!r}, str(n).encode()))
        print(n, flush=True)
    for n in range(0, 10**9, 50):
        await asyncio.gather(*[one(n + k) for k in range(50)])
asyncio.run(main())
"""
    node = {"host": "127.0.0.1", "port": broker.port, "user": "tester", "password": broker.options["password"]}

    async def main():
        survivor = await Instance(broker, stream, tmp_path / "1").ready()
        command = ["/usr/bin/python3", "-c", script, json.dumps(node)]  # with its older aiormq
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            confirmed = [await off(process.stdout.readline) for _ in range(100)]
            process.kill()
            confirmed += process.stdout.readlines()
        told = {line.decode().strip() for line in confirmed if line.endswith(b"\n")}
        await survivor.until(lambda r: told <= set(r.bodies))
        assert len(survivor.bodies) == len({e.message.id for e in survivor.entries})
        await survivor.end()

    asyncio.run(main())


def test_a_wrong_password_is_said_without_the_password(broker, stream, caplog):
    async def main():
        wrong = amqp_link.Node("127.0.0.1", broker.port, "tester", "a wrong password")
        assert "a wrong password" not in repr(wrong)
        bus = amqp.Broker([wrong], stream=stream)
        reader = Reader(bus)
        await eventually(lambda: "cannot be reached" in caplog.text)
        assert not bus.connected()
        assert not bus.caught_up()
        await reader.stop()

    asyncio.run(main())
    assert "a wrong password" not in caplog.text


def test_waiting_takes_back_in_order():
    async def main():
        waiting = Waiting(messages=3)
        futures = [waiting.add(text(f"{n}"), False) for n in range(3)]
        taken = waiting.take(2)
        waiting.confirmed(taken[0])
        waiting.back(taken[1:])
        assert [item.message.body for item in waiting.take(5)] == [b"1", b"2"]
        assert [future.done() for future in futures] == [True, False, False]
        assert len(waiting) == 2
        small = Waiting(size=200)
        small.add(text("x" * 300), False)  # a single one may be as large as it likes
        with pytest.raises(Full):
            small.add(text("x"), False)

    asyncio.run(main())


def test_an_end_is_never_swallowed_by_a_delivery_at_the_same_moment():
    class Channel:
        is_closed = False

    async def main():
        for steps in range(6):
            inbox = asyncio.Queue()
            task = asyncio.create_task(amqp._next(inbox, Channel(), "reader"))
            await asyncio.sleep(0.01)
            inbox.put_nowait("a delivery")
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.cancel():
                await asyncio.wait({task})
                assert task.cancelled()

    asyncio.run(main())
