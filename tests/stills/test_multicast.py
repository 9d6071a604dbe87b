"""The old MCAST_PUSH over real sockets, IPv4 on loopback and IPv6 in a network of its own."""

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from station.stills import fragments, multicast
from tests.stills.kit_net import Live, datagrams_of, joined, pictures, settings, stream
from tests.stills.kit_net import run as coroutine

pytestmark = pytest.mark.media
ROOT = Path(__file__).resolve().parents[2]
GROUP, GROUP6 = "239.255.41.1", "ff15::41:1"
TWO = pictures(1000, 970)


@pytest.mark.pace
@coroutine
async def test_one_picture_at_once_and_one_each_period_without_a_burst():
    with joined(GROUP) as plug:
        sent = stream(TWO, "mcast_push", ips=4, address=GROUP, port=plug.getsockname()[1])
        task = asyncio.create_task(multicast.send(sent, settings()))
        began = asyncio.get_running_loop().time()
        first = await datagrams_of(plug)
        assert asyncio.get_running_loop().time() - began < 0.2
        number = int(first[0].split(b"\r\n")[0])
        assert first == fragments.split(number, TWO[number].data, 1024)
        second = await datagrams_of(plug)
        assert second == fragments.split(1 - number, TWO[1 - number].data, 1024) or second == first
        third = await datagrams_of(plug)
        assert third[0].split(b"\r\n")[0] != second[0].split(b"\r\n")[0]
        assert 0.25 < asyncio.get_running_loop().time() - began < 0.9
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert sent.viewers == 0
        assert sent.tally("mcast_push").sent == 3
        assert sent.tally("mcast_push").bytes == sum(map(len, first + second + third))


@coroutine
async def test_a_network_that_is_away_ends_nothing(caplog, monkeypatch):
    live = Live()
    sent = stream(live, "mcast_push", address=GROUP, port=9)
    failing = []
    monkeypatch.setattr(multicast, "sender", lambda *_: Broken(failing))
    task = asyncio.create_task(multicast.send(sent, settings()))
    await asyncio.sleep(0)
    for picture in pictures(100, 100, 100):
        live.give(picture)
    assert len(failing) == 6 and sent.tally("mcast_push").skipped == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"stream one: nothing can be sent to {GROUP}: Network is unreachable"
    ]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    sent._linger.cancel()


class Broken(socket.socket):
    """A socket whose network is away."""

    def __init__(self, calls):
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.calls = calls

    def sendto(self, *_):
        self.calls.append(1)
        raise OSError(101, "Network is unreachable")


def test_sockets_have_the_interface_and_the_reach_that_they_should(tmp_path):
    assert multicast.interface("127.0.0.1") == multicast.interface("::1") == socket.if_nametoindex("lo")
    assert multicast.interface("192.0.2.77") == multicast.interface("2001:db8::77") == multicast.interface("") == 0
    assert multicast.interface("::1", tmp_path / "none") == 0
    with multicast.sender(GROUP, 32, "127.0.0.1") as plug:
        assert plug.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == multicast.TTL == 32
        own = plug.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
        assert socket.inet_ntoa(own) == "127.0.0.1"
    for address in ("127.0.0.1", "::1"):
        with multicast.sender(GROUP6, 7, address) as plug:
            assert plug.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 7
            chosen = struct.unpack("@i", plug.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, 4))[0]
            assert chosen == socket.if_nametoindex("lo")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root for a network of its own")
def test_ipv6_groups_are_served_too():
    """Loopback carries no IPv6 groups: the test makes itself a network that does, and a station's address in it."""
    script = (
        "ip link set lo up && ip link add card type veth peer name other && ip link set other up && "
        "ip addr add fd00:41::1/64 dev card nodad && ip link set card up && "
        f"exec {sys.executable} -m tests.stills.kit_group {GROUP6} fd00:41::1"
    )
    network = ["unshare", "--net", "sh", "-c"]
    done = subprocess.run([*network, script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found = [one.encode("latin-1") for one in json.loads(done.stdout)]
    number = int(found[0].split(b"\r\n")[0])
    assert found == fragments.split(number, TWO[number].data, 1024)
