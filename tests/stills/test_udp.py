"""UDP_PUSH and UDP_PULL over real sockets: every row of the reference, and who is not served."""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import time

import pytest

from station.stills import fragments, udp, udp_client
from station.stills.datagrams import Job, Outgoing
from station.stills.limits import Limits
from station.stills.pictures import Picture
from tests.stills.kit_net import Client, Live, pictures, run, serving, settings, stream, until

pytestmark = pytest.mark.media
BOTH = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
THREE = pictures(1000, 974, 20)


@BOTH
@run
async def test_pull_gives_what_is_asked_for_to_the_byte(family):
    async with serving(THREE) as server:
        with Client(server.port, family) as client:
            client.hello(512)
            for number in (0, 1, 2, 0):  # the pointer begins at 0, whatever GET stood before LISTEN_PORT, and wraps
                client.say("GET -1")
                assert (await client.picture())[2] == fragments.split(number, THREE[number].data, 512)
            client.say("GET 2")
            assert (await client.picture())[:2] == (2, THREE[2].data)
            client.say("GET -1")
            assert (await client.picture())[0] == 0
        tally = server.stream.tally("udp_pull")
        assert (tally.sent, tally.clients) == (6, 1)


@run
async def test_out_of_range_sends_nothing_and_the_pointer_stays():
    async with serving(THREE) as server:
        with Client(server.port) as client:
            client.hello(512, "GET 1")
            assert (await client.picture())[0] == 1
            client.say("GET 3", "GET 999999999", "GET -2", "GET", "GET x", "GET 1e1")
            client.say("GET -1")
            assert (await client.picture())[0] == 2


@run
async def test_nothing_is_sent_before_the_size_is_told():
    async with serving(THREE) as server:
        with Client(server.port) as client:
            client.say("GET 0", f"LISTEN_PORT {client.data.getsockname()[1]}")
            client.say("GET -1")
            assert await client.quiet()
            client.say("FRAGMENT_SIZE 100", "GET -1")
            assert (await client.picture())[2] == fragments.split(0, THREE[0].data, 100)


@run
async def test_each_client_has_a_size_of_its_own():
    async with serving(THREE, "udp_push") as server:
        with Client(server.port) as small, Client(server.port) as large:
            small.hello(64, "START")
            large.hello(100000, "START")
            for _ in range(3):
                number, _, datagrams = await small.picture()
                assert datagrams == fragments.split(number, THREE[number].data, 64)
                number, _, datagrams = await large.picture()
                assert datagrams == fragments.split(number, THREE[number].data, 65535)
            small.say("FRAGMENT_SIZE 1")  # from the next picture on
            await until(lambda: [one.size for one in server._clients.values()] == [64, 65535])


@pytest.mark.pace
@BOTH
@run
async def test_push_sends_in_order_at_its_rate_until_paused(family):
    async with serving(THREE, "udp_push", ips=40) as server:
        with Client(server.port, family) as client:
            client.hello(512)
            client.say("GET 2")  # nothing to a push server
            assert await client.quiet()
            client.say("START")
            began = time.monotonic()
            assert [(await client.picture())[0] for _ in range(9)] == [0, 1, 2] * 3
            assert 0.19 < time.monotonic() - began < 2
            client.say("PAUSE", "ALIVE 7", "what is this")
            last = 2
            while (found := await client.picture(0.1)) is not None:
                last = found[0]
            client.say("START")
            assert (await client.picture())[0] == (last + 1) % 3


@run
async def test_a_second_start_changes_nothing():
    async with serving(THREE, "udp_push", ips=20) as server:
        with Client(server.port) as client:
            client.hello(512, "START", "START")
            client.say("START")
            assert (await client.picture())[0] == 0
            began = time.monotonic()
            assert [(await client.picture())[0] for _ in range(6)] == [1, 2, 0, 1, 2, 0]
            assert time.monotonic() - began > 0.22


@run
async def test_a_second_listen_port_is_ignored():
    async with serving(THREE) as server:
        with Client(server.port) as client, Client(server.port) as victim:
            client.hello(512, "GET 0")
            assert (await client.picture())[0] == 0
            client.say(f"LISTEN_PORT {victim.data.getsockname()[1]}", "GET -1")
            assert (await client.picture())[0] == 1
            assert await victim.quiet(0.05)


@run
async def test_end_forgets_the_client():
    async with serving(THREE, "udp_push", ips=50) as server:
        with Client(server.port) as client:
            client.hello(512, "START")
            assert await client.picture()
            client.say("END", "START")
            await until(lambda: server.limits.clients == 0)
            while await client.datagram(0.05):
                pass
            assert server.stream.viewers == 0
            client.say("START")  # is another client, who has not said where pictures go
            assert await client.quiet()


@run
async def test_requests_in_one_datagram_are_all_done_and_in_order():
    async with serving(THREE) as server:
        with Client(server.port) as client:
            client.hello(512, "GET 2", "GET 1", "GET 0")
            assert [(await client.picture())[0] for _ in range(3)] == [2, 1, 0]


@run
async def test_pictures_on_their_way_to_one_client_are_bounded():
    async with serving(pictures(100000), "udp_pull", udp_rate=10**9, udp_total=10**9) as server:
        with Client(server.port) as client:
            client.hello(512, *["GET 0"] * 40)
            await until(lambda: server.stream.tally("udp_pull").skipped)
            for _ in range(udp_client.WAITING):
                assert (await client.picture())[0] == 0
            assert await client.quiet()
            assert server.stream.tally("udp_pull").skipped == 40 - udp_client.WAITING


@run
async def test_push_skips_for_who_still_has_a_picture_on_its_way_and_nobody_waits(monkeypatch):
    sent, whole = [], Outgoing._burst

    def stuck(self, job):
        if len(job.datagrams[0]) < 100:  # nothing goes to the one with small datagrams
            raise BlockingIOError
        sent.append(job)
        return whole(self, job)

    monkeypatch.setattr(Outgoing, "_burst", stuck)
    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.add_writer", lambda *_: None)
    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.remove_writer", lambda *_: None)
    async with serving(THREE, "udp_push", ips=50) as server:
        with Client(server.port) as client:
            client.hello(64, "START")
            await until(lambda: server.stream.tally("udp_push").skipped > 3)
            assert [len(one.jobs) for one in server._clients.values()] == [1]
    assert not sent


@pytest.mark.pace
@run
async def test_silent_push_clients_are_dropped_and_any_datagram_counts(monkeypatch):
    monkeypatch.setattr(udp, "IDLE", 0.4)
    async with serving(THREE, "udp_push", ips=50) as server:
        with Client(server.port) as silent, Client(server.port) as alive:
            silent.hello(512, "START")
            alive.hello(512, "START")
            for word in (b"ALIVE 1\r\n\r\n", b"", b"nonsense") * 3:
                alive.words.sendto(word, alive.server)
                await asyncio.sleep(0.1)
            assert [one.control for one in server._clients.values()] == [alive.words.getsockname()]
            assert server.limits.clients == 1
            await until(lambda: server.limits.clients == 0, 10)
    assert udp.IDLE == 0.4


def test_push_clients_have_a_minute():
    assert udp.IDLE == 60


@run
async def test_pull_clients_never_idle_out_and_the_longest_silent_makes_place(monkeypatch):
    monkeypatch.setattr(udp, "IDLE", 0.05)
    async with serving(THREE, clients=6) as server:
        with Client(server.port) as one, Client(server.port) as two, Client(server.port) as three:
            for client in (one, two, three):
                client.hello()
            await until(lambda: server.limits.clients == 3)
            await asyncio.sleep(0.1)
            one.say("GET 0")
            assert await one.picture()
            with Client(server.port) as four:
                four.hello(512, "GET 1")
                assert (await four.picture())[0] == 1
                assert server.limits.clients == 3
                two.say("GET 0")  # it was forgotten, and three had to go for it
                assert await two.quiet(0.05)
                one.say("GET -1")
                assert (await one.picture())[0] == 1


@run
async def test_forged_addresses_have_half_of_the_places_only():
    async with serving(THREE, clients=6) as server:
        with contextlib.ExitStack() as opened:
            for _ in range(5):
                opened.enter_context(Client(server.port)).hello()
            await until(lambda: server.limits.refused["clients"] >= 2)
            assert server.limits.unproven == server.limits.clients == 3
            tickets = [server.limits.enter("192.0.2.1") for _ in range(4)]
            assert [ticket is not None for ticket in tickets] == [True, True, True, False]
            for ticket in tickets[:3]:
                ticket.leave()


@run
async def test_datagrams_full_of_words_leave_others_their_turn():
    async with serving(THREE) as server:
        obeyed, turns = [], []
        real = server._obey
        server._obey = lambda client, *told: obeyed.append(told) or real(client, *told)
        with Client(server.port) as flood:
            for _ in range(20):
                flood.words.sendto(b"GET 0\r\n" * 140, flood.server)
            while len(obeyed) < 2800:
                before = len(obeyed)
                await asyncio.sleep(0)
                turns.append(len(obeyed) - before)
        assert max(turns) < 400


@run
async def test_nothing_is_cut_for_who_has_had_his_share(monkeypatch):
    cut = []
    real = fragments.split
    monkeypatch.setattr(fragments, "split", lambda *told: cut.append(told[2]) or real(*told))
    async with serving(pictures(10000), udp_rate=20000) as server:
        with Client(server.port) as greedy:
            greedy.hello(512)
            greedy.say(*(word for size in range(64, 94) for word in (f"FRAGMENT_SIZE {size}", "GET 0")))
            await until(lambda: server.limits.refused["rate"] >= 20)
            assert 1 <= len(cut) <= 3


@run
async def test_push_has_no_place_for_more():
    async with serving(THREE, "udp_push", clients=1) as server:
        with Client(server.port) as first, Client(server.port) as second:
            first.hello(512, "START")
            assert await first.picture()
            second.hello(512, "START")
            assert await second.quiet()
            assert await first.picture()
            assert server.limits.refused["clients"] >= 1


@BOTH
@run
async def test_other_networks_are_counted_and_ignored(family):
    async with serving(THREE, networks=["192.0.2.0/24", "2001:db8::/32"]) as server:
        with Client(server.port, family) as client:
            client.hello(512, "GET 0")
            assert await client.quiet()
            assert server.limits.refused["network"] == 1 and server.limits.clients == 0


@run
async def test_pictures_go_to_nobody_but_the_sender_itself():
    """Loopback has many addresses; a victim at another one hears nothing, whatever the words say."""
    async with serving(THREE) as server:
        with Client(server.port) as client:
            victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            victim.setblocking(False)
            victim.bind(("127.0.0.2", client.data.getsockname()[1]))
            client.words.close()
            client.words = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.words.bind(("127.0.0.3", 0))
            client.say("LISTEN_PORT 0", "LISTEN_PORT 65536", "LISTEN_PORT -1", "LISTEN_PORT 127.0.0.2")
            client.hello(512, "GET 0")
            assert await client.quiet()
            with victim, pytest.raises(BlockingIOError):
                victim.recv(10)
            assert [one.data[0] for one in server._clients.values()] == ["127.0.0.3"]


@run
async def test_a_client_gets_no_more_than_its_rate():
    async with serving(pictures(10000), udp_rate=50000) as server:
        with Client(server.port) as greedy:
            greedy.hello(512)
            began, count = time.monotonic(), 0
            while time.monotonic() - began < 1:
                greedy.say("GET 0")
                count += await greedy.picture(0.05) is not None
            # a second's worth at once, and one second's more
            assert 7 <= count <= 10
            assert server.stream.tally("udp_pull").bytes <= 105000
            assert server.limits.refused["rate"] > 0


@run
async def test_all_together_get_no_more_than_the_total():
    async with serving(pictures(10000), udp_rate=10**6, udp_total=40000) as server:
        with Client(server.port) as one, Client(server.port) as two:
            one.hello(512, "GET 0", "GET 0")
            two.hello(512, "GET 0", "GET 0")
            await until(lambda: server.stream.tally("udp_pull").skipped)
            assert server.stream.tally("udp_pull").sent + len(server._clients) <= 5


@pytest.mark.pace
@run
async def test_who_floods_takes_nothing_from_others():
    async with serving(THREE, "udp_push", ips=50) as server:
        with Client(server.port) as flood, Client(server.port) as client:
            client.hello(512, "START")
            assert await client.picture()
            dice, ended = random.Random(7), time.monotonic() + 1.5  # noqa: S311 - the same flood each time
            words = [
                b"START\r\n",
                b"PAUSE\r\n",
                b"FRAGMENT_SIZE 0\r\n",
                b"LISTEN_PORT 9\r\n",
                b"\r\n" * 500,
                b"\0" * 9000,
            ]

            def storm():
                plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with plug:
                    plug.bind(("127.0.0.1", 0))
                    while time.monotonic() < ended:
                        plug.sendto(dice.choice(words) * dice.randrange(1, 3), flood.server)

            storms = asyncio.get_running_loop().run_in_executor(None, storm)
            last, gaps, seen = time.monotonic(), [], 0
            while time.monotonic() < ended:
                seen += await client.picture() is not None
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
            await storms
            assert seen > 40 and max(gaps) < 0.3


@BOTH
@run
async def test_who_has_no_ear_at_its_port_is_dropped_and_the_others_go_on(family, monkeypatch):
    monkeypatch.setattr(udp_client, "GONE", 0.3)
    async with serving(THREE, "udp_push", ips=50) as server:
        with Client(server.port, family) as gone, Client(server.port, family) as client:
            gone.hello(512, "START")
            client.hello(512, "START")
            assert await client.picture() and await gone.picture()
            gone.data.close()
            await until(lambda: server.limits.clients == 1)
            before = (await client.picture())[0]
            for step in range(1, 6):
                assert (await client.picture())[0] == (before + step) % 3


def test_a_port_that_opens_late_costs_pictures_only():
    client = udp_client.Client(None, ("127.0.0.1", 1), "127.0.0.1", None, 0.0)
    assert not any(client.undelivered(when) for when in (10.0, 11.0, 12.9))
    assert not client.undelivered(18.0)  # long after: it counts anew
    assert client.undelivered(21.0)


@BOTH
@run
async def test_a_taken_port_is_an_error(family):
    with socket.socket(family, socket.SOCK_DGRAM) as plug:
        plug.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        with pytest.raises(OSError, match=r"stream one: UDP port [0-9]+ is taken by another program"):
            await udp.listen(stream(THREE, "udp_pull", port=plug.getsockname()[1]), None, settings())


@run
async def test_one_address_only_if_told():
    server = await udp.listen(stream(THREE, "udp_pull"), Limits(), settings(listen_address="::1"))
    assert [plug.getsockname()[0] for plug in server._plugs] == ["::1"]
    await server.close()
    await server.close()


@run
async def test_live_pictures_are_pulled_and_a_sleeping_source_is_woken():
    live = Live()
    async with serving(live) as server:
        with Client(server.port) as client:
            client.hello()
            assert not live.wanted
            client.say("GET -1", "GET -1")
            await until(lambda: live.wanted)
            live.give(Picture(41, "JPG", b"forty-one", 1.0))
            assert (await client.picture())[:2] == (41, b"forty-one")
            client.say("GET 40", "GET 41", "GET -1")
            assert [(await client.picture())[0] for _ in range(2)] == [41, 41]
            assert await client.quiet(0.05)
            server.stream._linger.cancel()
            server.stream._linger = None


@run
async def test_live_pictures_are_pushed_as_they_come_while_somebody_wants_them():
    live = Live()
    async with serving(live, "udp_push") as server:
        with Client(server.port) as client:
            client.hello()
            assert await client.quiet(0.05) and not live.wanted
            client.say("START")
            await until(lambda: live.wanted)
            for number in (7, 9):
                live.give(Picture(number, "JPG", b"live", 1.0))
                assert (await client.picture())[:2] == (number, b"live")
            client.say("PAUSE")
            await until(lambda: not server.stream.viewers)
            live.give(Picture(10, "JPG", b"live", 1.0))
            assert await client.quiet(0.05)
            server.stream._linger.cancel()
            server.stream._linger = None


@run
async def test_no_words_whatever_harm_the_server():
    """Bounded noise of words, numbers and bytes, from many clients; who behaves is served throughout."""
    dice = random.Random(5)  # noqa: S311 - the same attack each time
    pieces = [
        b"GET ", b"START", b"PAUSE", b"END", b"ALIVE ", b"LISTEN_PORT ", b"FRAGMENT_SIZE ", b"\r\n", b"\n", b"\r", b" ",
        b"-1", b"0", b"1", b"9" * 30, b"64", b"1e5", b"\xff\xfe", b"\0", "é".encode(), b"x" * 1500,
    ]  # fmt: skip
    for method in ("udp_push", "udp_pull"):
        async with serving(pictures(300, 400), method, ips=100, clients=50) as server:
            plugs = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
            for plug in plugs:
                plug.bind(("127.0.0.1", 0))
            for turn in range(600):
                own = b"LISTEN_PORT %d\r\n" % dice.choice(plugs).getsockname()[1]
                noise = b"".join(dice.choice([*pieces, own]) for _ in range(dice.randrange(20)))
                dice.choice(plugs).sendto(noise, ("127.0.0.1", server.port))
                if turn % 20 == 0:
                    await asyncio.sleep(0)
            with Client(server.port) as client:
                await until(lambda: server.limits.clients < 50)
                client.hello(512, "START", "GET 0")
                assert await client.picture()
            for plug in plugs:
                plug.close()


def test_errors_of_others_do_not_stop_a_picture():
    """What became of a datagram to somebody else is told to whoever sends next; both families know whose it was."""
    from station.stills.datagrams import tell_errors, undelivered

    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as plug, socket.socket(family, socket.SOCK_DGRAM) as gone:
            gone.bind((host, 0))
            port = gone.getsockname()[1]
            gone.close()
            tell_errors(plug)
            plug.sendto(b"x", (host, port))
            with pytest.raises(ConnectionRefusedError):
                plug.sendto(b"x", (host, port))
            assert {address[:2] for address in undelivered(plug)} == {(host, port)}
            assert struct.calcsize("@IBBBBII") == 16


@run
async def test_receivers_take_turns_and_each_has_its_pictures_in_order():
    sent, ended = [], []

    class Plug:
        def sendto(self, datagram, address):
            sent.append((address, datagram))

    outgoing = Outgoing(Plug())
    for number, address in enumerate(["one", "two", "one"]):
        parts = [b"%d" % number * 500] * 80
        outgoing.send(Job(address, parts, lambda error, number=number: ended.append((number, error))))
    await until(lambda: len(ended) == 3)
    assert len(sent) == 240 and ended == [(0, None), (1, None), (2, None)]
    turns = [(address, len(list(group))) for address, group in itertools.groupby(sent, lambda one: one[0])]
    # 16 KiB and the datagram that exceeds them; the first one began before the others were there
    assert turns[:3] == [("one", 66), ("two", 33), ("one", 14)]
    assert [datagram[:1] for address, datagram in sent if address == "one"] == [b"0"] * 80 + [b"2"] * 80
