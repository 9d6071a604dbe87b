"""The bus over STOMP, against a small stand-in for an instance of visuals that is alone."""

import asyncio
import json

import pytest

from station.config import load
from station.visuals import feed, stomp_client
from station.visuals.stomp_client import Place
from tests.ports import free_port
from tests.visuals.kit_bus import TOPIC, Reader, eventually, text

TOKEN = "a token of the event"


class StandIn:
    """Answers the internal account as a server does, with a log in memory."""

    def __init__(self):
        self.port = free_port()
        self.log = []
        self.since = []
        self.sent = []
        self.mute = False
        self.connections = set()
        self.holder = None
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self):
        self.server.close()
        for writer in list(self.connections):
            writer.close()
        await eventually(lambda: not self.connections)
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while True:
                raw = (await reader.readuntil(b"\0")).lstrip(b"\n")
                head, _, body = raw.partition(b"\n\n")
                command, *lines = head.decode().split("\n")
                headers = dict(line.split(":", 1) for line in lines)
                while len(body) <= int(headers.get("content-length", 0)):
                    body += await reader.readuntil(b"\0")
                self._answer(writer, command, headers, body[:-1])
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            if self.holder is writer:
                self.holder = None
            self.connections.discard(writer)
            writer.close()

    def _answer(self, writer, command, headers, body):
        if command == "CONNECT":
            assert headers["accept-version"] == "1.2"
            right = (headers["login"], headers["passcode"]) == ("stationmaster", TOKEN)
            writer.write(b"CONNECTED\nversion:1.2\n\n\0\n" if right else b"ERROR\nmessage:Wrong credentials\n\n\0")
        elif command == "SUBSCRIBE" and headers["destination"] == "/feed":
            self.since.append(headers.get("since"))
            for offset, (sent, what) in enumerate(self.log):
                if offset > int(headers.get("since", -1)):
                    self._tell(writer, offset, sent, what)
            writer.feeds = True
        elif command == "SUBSCRIBE":
            asyncio.get_running_loop().create_task(self._lock(writer))
        elif command == "SEND" and not self.mute:
            self.sent.append((headers, body))
            self.log.append((headers, body))
            for other in self.connections:
                if getattr(other, "feeds", False):
                    self._tell(other, len(self.log) - 1, headers, body)
            writer.write(f"RECEIPT\nreceipt-id:{headers['receipt']}\n\n\0".encode())

    async def _lock(self, writer):
        await eventually(lambda: self.holder is None)
        self.holder = writer
        writer.write(b"MESSAGE\nsubscription:lock\ndestination:/lock/x\nmessage-id:1\n\n\0")

    def _tell(self, writer, offset, headers, body):
        lines = [f"{key}:{value}" for key, value in headers.items() if key not in ("receipt", "content-length")]
        lines += [f"offset:{offset}", "subscription:feed", f"content-length:{len(body)}", "destination:late"]
        writer.write(("MESSAGE\n" + "\n".join(lines) + "\n\n").encode() + body + b"\0\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(feed, "RETRY", 0.02)
    monkeypatch.setattr(feed, "QUIET", 0.05)


def place(port, token=TOKEN):
    return Place("127.0.0.1", port, token)


def test_messages_come_back_whole_and_what_waits_is_sent_in_order():
    async def main():
        server = StandIn()
        bus = feed.Feed([place(free_port()), place(server.port)])  # the first is away
        waits = [bus.publish(text(f"{n}")) for n in range(100)]
        reader = Reader(bus)
        await asyncio.sleep(0.05)
        assert not bus.connected()
        await server.start()
        await asyncio.gather(*waits)
        await reader.until(lambda r: len(r.bodies) == 100)
        assert reader.bodies == [f"{n}" for n in range(100)]
        odd = text("a\0b\n", TOPIC + "2", link="https://example.org/a:b\\c\n", timestamp="1")
        await bus.publish(odd, refresh=True)
        await reader.until(lambda r: len(r.entries) == 101)
        assert reader.entries[-1].message == odd
        assert reader.entries[-1].refresh
        assert [entry.offset for entry in reader.entries] == list(range(101))
        await eventually(bus.caught_up)
        assert bus.connected()

        await server.stop()
        await eventually(lambda: not bus.connected())
        late = bus.publish(text("late"))
        await server.start()
        await late
        await reader.until(lambda r: r.bodies[-1] == "late")
        assert server.since == [None, "100"]
        await reader.stop()
        await bus.close()
        await server.stop()

    asyncio.run(main())


def test_what_is_not_confirmed_is_sent_again(monkeypatch):
    async def main():
        server = StandIn()
        await server.start()
        bus = feed.Feed([place(server.port)])
        server.mute = True
        done = [bus.publish(text(body)) for body in ("first", "second")]
        await eventually(lambda: server.connections)
        await asyncio.sleep(0.05)
        server.mute = False
        for writer in list(server.connections):
            writer.close()
        await asyncio.gather(*done)
        assert [body for _, body in server.sent] == [b"first", b"second"]
        await bus.close()
        await server.stop()

    asyncio.run(main())


def test_a_lock_is_lost_with_the_connection(caplog):
    async def main():
        server = StandIn()
        await server.start()
        held = feed.Feed([place(server.port)]).lock("active")
        waits = feed.Feed([place(server.port)]).lock("active")
        assert await anext(held) is True
        taking = asyncio.create_task(anext(waits))
        await asyncio.sleep(0.05)
        assert not taking.done()
        server.holder.close()
        assert await asyncio.wait_for(anext(held), 5) is False
        assert await asyncio.wait_for(taking, 5) is True
        await held.aclose()
        await waits.aclose()
        await server.stop()

    asyncio.run(main())


def test_a_refused_login_and_a_silent_server_are_said_without_the_token(monkeypatch, caplog):
    monkeypatch.setattr(stomp_client, "SILENCE", 0.1)

    async def main():
        server = StandIn()
        await server.start()
        reader = Reader(feed.Feed([place(server.port, "a wrong token")]))
        await eventually(lambda: "Wrong credentials" in caplog.text)
        await reader.stop()
        reader = Reader(feed.Feed([place(server.port)]))
        await eventually(lambda: "was interrupted: silence" in caplog.text)
        await reader.stop()
        await server.stop()

    asyncio.run(main())
    assert "a wrong token" not in caplog.text + repr(place(1, "a wrong token"))


def test_places_come_from_what_the_instances_share(tmp_path):
    sources = {
        "vis/a": {"address": "192.0.2.1", "options": {"stomp_port": 6000, "token": "t"}},
        "vis/b": {"address": "192.0.2.2", "options": {"token": "t", "tls": {"certificate": "/c.pem"}}},
    }
    for source in sources.values():
        source["role"] = "visuals"
    (tmp_path / "c.json").write_text(json.dumps({"role": "fallback", "instance": "a", "sources": sources}))
    config = load(tmp_path / "c.json")
    assert stomp_client.places(config, ["vis/a", "vis/b"]) == [
        Place("192.0.2.1", 6000, "t"),
        Place("192.0.2.2", 61614, "t", "/c.pem"),
    ]
    with pytest.raises(stomp_client.ConfigError, match="'vis/c'"):
        stomp_client.places(config, ["vis/c"])
    with pytest.raises(ValueError, match="one place at least"):
        feed.Feed([])
