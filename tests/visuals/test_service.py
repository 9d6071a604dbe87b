"""What clients may do, whichever door they come through, and what is told of it."""

import asyncio

import pytest

from station.visuals.bus import Entry, Full
from station.visuals.directory import Local
from station.visuals.service import NotAllowed, Principal, Refused, Service
from station.visuals.session import Session
from station.visuals.settings import by_hand, read
from tests.visuals import kit_core as kit
from tests.visuals.test_outbox import Pipe


class Echo:
    """A bus in memory: what is published comes back at once."""

    def __init__(self):
        self.sent, self.full, self.service = [], False, None

    def publish(self, message, *, refresh=False):
        if self.full:
            raise Full("7 messages wait for the broker")
        self.sent.append((message, refresh))
        return asyncio.ensure_future(self.service.deliver(Entry(len(self.sent), message, refresh)))


def serve(tmp_path, work, **options):
    async def main():
        settings = read(by_hand(tmp_path, {**kit.OPTIONS, **options}), {})
        bus = Echo()
        bus.service = Service(settings, bus, Local(settings.listing))
        return await work(bus.service, bus)

    return asyncio.run(main())


STUDIO = Principal("1.studio", "1")


@pytest.mark.parametrize(
    ("principal", "destination", "topics"),
    [
        (STUDIO, kit.ONE + "text", [kit.ONE + "text"]),
        (STUDIO, "/topic/fm/ch/c221/09580/text", [kit.ONE + "text"]),
        (STUDIO, "/topic/id/example.org/two/text", None),
        (STUDIO, "/topic/", None),
        (Principal("2.studio", "2"), "/topic/*/text", ["/topic/id/example.org/two/text"]),
        (Principal("3.studio", "3"), "/topic/*/text", []),
        (Principal("stationmaster", None, True), "/anything", ["/anything"]),
        (None, kit.ONE + "text", None),
    ],
)
def test_who_may_send_where(tmp_path, principal, destination, topics):
    async def work(service, bus):
        try:
            sent = await service.publish(principal, destination, {"link": "l", "x": "y", "receipt": "1"}, b"")
        except NotAllowed:
            return None
        await sent.done
        for message, _ in bus.sent:
            assert message.id == sent.id and message.headers["link"] == "l" and "receipt" not in message.headers
            assert ("x" in message.headers) == principal.internal
        return [message.topic for message, _ in bus.sent]

    assert serve(tmp_path, work) == topics


def test_only_our_own_programs_may_refresh(tmp_path):
    async def work(service, bus):
        for principal in (STUDIO, Principal("stationmaster", None, True)):
            await (await service.publish(principal, kit.ONE + "text", {"refresh": "1"}, b"")).done
        return [refresh for _, refresh in bus.sent]

    assert serve(tmp_path, work) == [False, True]


def test_logins(tmp_path):
    async def work(service, bus):
        assert await service.login("", "", "127.0.0.1", encrypted=False) is None
        assert await service.login("1.studio", "secret-of-one", "127.0.0.1", encrypted=False) == STUDIO
        for login, passcode in (("1.studio", "x"), ("stationmaster", "x"), ("", "x")):
            with pytest.raises(Refused):
                await service.login(login, passcode, "127.0.0.1", encrypted=False)
        return service.counters.refused["login"]

    assert serve(tmp_path, work) == 3


def test_what_is_told_and_counted(tmp_path):
    told = []

    async def work(service, bus):
        service.listeners.append(lambda label, data: 1 / 0)
        service.listeners.append(lambda label, data: told.append((label, dict(data))))
        pipe = Pipe(service.flusher)
        session = Session(service, pipe, "127.0.0.1", 7, encrypted=False)
        pipe.box = session.outbox
        assert service.admit(session) is None
        topic = kit.ONE + "text"
        destination = b"destination:%s\n\n" % topic.encode()
        session.feed(b"CONNECT\nlogin:1.studio\npasscode:secret-of-one\n\n\0SUBSCRIBE\n%s\0" % destination)
        session.feed(b"SEND\n%sTEXT x\0UNSUBSCRIBE\n%s\0" % (destination, destination))
        await asyncio.sleep(0.02)
        bus.full = True
        session.feed(b"SEND\nreceipt:1\n%s\0" % destination)
        await asyncio.sleep(0.02)
        assert pipe.got.endswith(b"ERROR\nmessage:7 messages wait for the broker\n\n\0") and b"RECEIPT" not in pipe.got
        session.lost()
        session.lost()
        assert not service.connections and service.hub.subscriptions == 0
        counters = service.counters
        assert (counters.connections, counters.disconnections, counters.published) == (1, 1, 1)
        assert (counters.subscriptions, counters.unsubscriptions, counters.messages[topic]) == (1, 1, 1)
        return session.session_id

    identity = serve(tmp_path, work)
    base = {"session_id": identity, "ip": "127.0.0.1:7"}
    topic = {"topic": kit.ONE + "text"}
    assert told == [
        ("connections", base),
        ("subscriptions", {**base, **topic}),
        ("messages", {**base, **topic, "body": "TEXT x"}),
        ("unsubscriptions", {**base, **topic}),
        ("disconnections", base),
    ]


def test_places_are_counted(tmp_path):
    async def work(service, bus):
        clients = [Session(service, Pipe(service.flusher), "a" if n < 3 else "b", n, encrypted=False) for n in range(6)]
        reasons = []
        for client in clients:
            reasons.append(service.admit(client))
        service.leave(clients[0])
        service.leave(clients[0])
        reasons.append(service.admit(clients[2]))
        return reasons

    reasons = serve(tmp_path, work, connections={"total": 4, "per_address": 2})
    assert reasons == [None, None, "per_address", None, None, "total", None]
