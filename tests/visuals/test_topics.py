"""Countries and frequencies of FM topics, and who gets what in the hub."""

import asyncio

import pytest

from station.visuals import topics
from station.visuals.bus import Entry
from station.visuals.hub import Hub, Subscription
from station.visuals.message import Message


async def nobody(country, pi):
    return None


async def known():
    return {"/topic/fm/ce1/c221/09580/", "/topic/fm/fe1/f201/*/"}


@pytest.mark.parametrize(
    ("country", "pi", "code"),
    [("ch", "4222", "4e1"), ("GB", "C221", "ce1"), ("de", "d318", "de0"), ("nl", "8001", "8e3"), ("xx", "1234", None)],
)
def test_the_global_country_code(country, pi, code):
    assert topics.gcc(country, pi) == code


@pytest.mark.parametrize(
    ("topic", "converted"),
    [
        ("/topic/fm/ch/c221/09580/text", "/topic/fm/ce1/c221/09580/text"),
        ("/topic/fm/ch/c221/", "/topic/fm/ce1/c221/"),
        ("/topic/fm/ce1/c221/09580/text", "/topic/fm/ce1/c221/09580/text"),
        ("/topic/fm/xx/c221/09580/text", "/topic/fm/xx/c221/09580/text"),
        ("/topic/fm/ch/", "/topic/fm/ch/"),
        ("/topic/fm/ch", "/topic/fm/ch"),
        ("/topic/fm/ch//09580/text", "/topic/fm/ch//09580/text"),
        ("/topic/dab/ch/c221/", "/topic/dab/ch/c221/"),
        ("", ""),
    ],
)
def test_conversion(topic, converted):
    assert asyncio.run(topics.convert(topic, nobody)) == converted


def test_the_directory_knows_better():
    async def gcc(country, pi):
        return "abc"

    assert asyncio.run(topics.convert("/topic/fm/ch/c221/09580/text", gcc)) == "/topic/fm/abc/c221/09580/text"


@pytest.mark.parametrize(
    ("destination", "topic"),
    [
        ("/topic/fm/ch/c221/09580/text", "/topic/fm/ce1/c221/09580/text"),
        ("/topic/fm/ce1/c221/09580/image", "/topic/fm/ce1/c221/09580/image"),
        ("/topic/fm/ce1/c221/09590/image", "/topic/fm/ce1/c221/*/image"),
        ("/topic/fm/ch/c221/09590/image", "/topic/fm/ce1/c221/*/image"),
        ("/topic/fm/fr/f201/*/image", "/topic/fm/fe1/f201/*/image"),
        ("/topic/fm/ce1/c221", None),
        ("/topic/fm/ce1/c221/09580/text/more", None),
        ("/topic/fm/", None),
        ("/topic/dab/anything at all", "/topic/dab/anything at all"),
        ("x", "x"),
    ],
)
def test_what_a_subscription_stands_for(destination, topic):
    assert asyncio.run(topics.resolve(destination, known, nobody)) == topic


class Ear:
    def __init__(self, hub, topic):
        self.got = []
        self.subscription = Subscription(topic, topic, None, self)
        self.last = hub.subscribe(self.subscription)

    def take(self, message, subscription):
        assert subscription is self.subscription
        self.got.append(message.id)


def deliver(hub, *entries):
    async def run():
        for number, (topic, name, *refresh) in enumerate(entries):
            message = Message(topic, b"", {"message-id": name, "when": str(number)})
            await hub.deliver(Entry(number, message, bool(refresh)))

    asyncio.run(run())


FM = "/topic/fm/ce1/c221/"


def test_who_gets_what():
    hub = Hub()
    exact, other, wild, plain = (Ear(hub, name) for name in (FM + "09580/t", FM + "09590/t", FM + "*/t", "/x"))
    deliver(hub, (FM + "09580/t", "1"), (FM + "*/t", "2"), (FM + "09580/u", "3"), ("/x", "4"), ("/x/t", "5"))
    assert (exact.got, other.got, wild.got, plain.got) == (["1", "2"], ["2"], ["1", "2"], ["4"])
    assert hub.delivered == 6 and hub.subscriptions == 4
    for ear in (exact, wild):
        hub.unsubscribe(ear.subscription)
        hub.unsubscribe(ear.subscription)
    deliver(hub, (FM + "*/t", "6"))
    assert (exact.got, other.got, wild.got) == (["1", "2"], ["2", "6"], ["1", "2"])


def test_no_message_id_twice_to_one_subscription():
    hub = Hub()
    exact, wild = Ear(hub, FM + "09580/t"), Ear(hub, FM + "*/t")
    both = [(FM + "09580/t", "1"), (FM + "09590/t", "1"), (FM + "*/t", "1")]
    deliver(hub, *both, *both)
    deliver(hub, *((topic, "2") for topic, _ in reversed(both)))
    assert exact.got == ["1", "2"] and wild.got == ["1", "2"]


def test_the_last_value_is_that_of_whoever_would_have_got_it():
    hub = Hub()
    deliver(hub, (FM + "09580/t", "1"), (FM + "09590/t", "2"), ("/x", "3"))
    assert [Ear(hub, topic).last.id for topic in (FM + "09580/t", FM + "09590/t", FM + "*/t", "/x")] == list("1223")
    assert Ear(hub, FM + "09600/t").last is None
    deliver(hub, (FM + "*/t", "4"))
    assert [Ear(hub, topic).last.id for topic in (FM + "09580/t", FM + "09600/t", FM + "*/t")] == ["4", "4", "4"]
    deliver(hub, (FM + "09580/t", "5"))
    assert [hub.last(topic).id for topic in (FM + "09580/t", FM + "09590/t", FM + "*/t")] == ["5", "4", "5"]


def test_a_refresh_fills_what_is_missing_only():
    hub = Hub()
    ear = Ear(hub, "/x")
    deliver(hub, ("/x", "1"), ("/x", "old", True), ("/y", "2", True), ("/y", "2"))
    assert ear.got == ["1"] and hub.last("/x").id == "1" and hub.last("/y").id == "2"


def test_what_was_stored_is_known_again():
    hub = Hub()
    stored = [Message(FM + "09580/t", b"", {"message-id": str(n), "when": str(n)}) for n in (2,)]
    hub.restore(stored, [(FM + "09580/t", "1"), (FM + "09580/t", "2"), ("/x", "9")])
    ears = [Ear(hub, topic) for topic in (FM + "09580/t", FM + "*/t", "/x")]
    assert [ear.last and ear.last.id for ear in ears] == ["2", "2", None]
    deliver(hub, (FM + "09580/t", "1"), (FM + "09580/t", "2"), ("/x", "9"), (FM + "09580/t", "3"))
    assert [ear.got for ear in ears] == [["3"], ["3"], []]


def test_what_is_remembered_has_a_bound():
    hub = Hub(seen=10)
    deliver(hub, *((FM + "09580/t", str(number)) for number in range(100)))
    assert len(hub._seen) == 10 and len(hub._reached) == 10
