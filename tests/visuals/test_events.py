"""Monitoring events: their shape, their bounds, and a real RabbitMQ that takes them."""

import asyncio
import contextlib
import json
import time

import aiormq
import pytest

from station.config import ConfigError
from station.visuals import events
from station.visuals.events import Events, Target, make_target
from tests.visuals.kit_broker import PASSWORD, Broker
from tests.visuals.kit_bus import eventually


def waiting(one):
    return [json.loads(body) for body in one._waiting]


def test_an_event_has_the_shape_of_the_original():
    async def note():
        one = Events(Target(server=("a", "b")))
        one.note("messages", {"session_id": "s", "ip": "192.0.2.1:5", "topic": "/topic/x/text", "body": "x" * 1000})
        (event,) = waiting(one)
        assert set(event) == {"type", "label", "timestamp", "server", "metadata"}
        assert (event["type"], event["label"], event["server"]) == ("log", "radiovis.global.messages", ["a", "b"])
        assert abs(event["timestamp"] - time.time()) < 5
        assert event["metadata"]["ip"] == "192.0.2.1:5"
        assert len(event["metadata"]["body"]) == events.BODY and event["metadata"]["body"].endswith("…")

    asyncio.run(note())


def test_the_oldest_are_dropped_and_counted():
    async def note():
        one = Events(Target(), waiting=3)
        for number in range(10):
            one.note("connections", {"session_id": str(number)})
        assert [event["metadata"]["session_id"] for event in waiting(one)] == ["7", "8", "9"]
        assert one.dropped == 7
        off = Events(None)
        off.note("connections", {})
        await off.run()
        assert waiting(off) == []

    asyncio.run(note())


def test_options_become_a_target_and_errors_name_their_key():
    assert make_target({"host": "h", "server": ["a"]}) == Target(host="h", server=("a",))
    assert "secret" not in repr(make_target({"password": "secret"}))
    for bad in ({"hots": "x"}, {"port": "x"}, {"server": [1]}, {"tls": True}):
        with pytest.raises(ConfigError, match=f"options.events.{next(iter(bad))}"):
            make_target(bad)


@pytest.mark.media
def test_a_broker_gets_what_waited_and_what_came_after_it_was_away(tmp_path):
    broker = Broker(tmp_path / "broker")

    async def follow():
        target = Target(port=broker.port, user="tester", password=PASSWORD, exchange="monitoring", queue="radiovis")
        one = Events(target, pause=0.2)
        one.note("servers", {})
        running = asyncio.create_task(one.run())
        await asyncio.to_thread(lambda: broker.start().wait())
        await eventually(lambda: one.sent == 1)
        assert await took() == ["servers"]
        await asyncio.to_thread(broker.kill)
        for number in range(250):
            one.note("connections", {"session_id": str(number)})
        await asyncio.to_thread(lambda: broker.start().wait())
        await eventually(lambda: one.sent == 251)
        assert (await took()).count("connections") == 250
        # an installation that has declared them in its own way is used as it is
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        again = Events(target, pause=0.2)
        running = asyncio.create_task(again.run())
        again.note("disconnections", {})
        await eventually(lambda: again.sent == 1)
        assert await took() == ["disconnections"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def took():
        async with contextlib.AsyncExitStack() as stack:
            connection = await aiormq.connect(broker.url())
            stack.push_async_callback(connection.close)
            channel = await connection.channel()
            found = []
            while (got := await channel.basic_get("radiovis", no_ack=True)).body:
                found.append(json.loads(got.body)["label"].removeprefix("radiovis.global."))
            return found

    try:
        asyncio.run(follow())
    finally:
        broker.stop()
