"""What the tests of datagrams and RTP share: streams of pictures without a program around them, and old clients."""

import asyncio
import contextlib
import functools
import io
import socket
import struct
from ipaddress import ip_network

from PIL import Image

from station.stills import multicast, udp
from station.stills.limits import Limits, LimitSettings
from station.stills.pictures import Picture
from station.stills.settings import LOOPBACK, Rtp, Settings, StreamSettings
from station.stills.sources import Images
from station.stills.stream import State, Stream
from tests.ports import free_port

LOCAL = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
ENOUGH = 5.0
"""Seconds for what should take none."""


def run(test):
    """Let a test be a coroutine; at its end nothing may be left running."""

    def sync(*args, **named):
        async def whole():
            await asyncio.wait_for(test(*args, **named), 20)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(whole())

    return functools.wraps(test)(sync)


def pictures(*sizes):
    """Return pictures of so many bytes, all different and none of them an image."""
    return [
        Picture(n, "JPG", bytes((n * 31 + at * 7 + (at >> 8)) % 256 for at in range(size)))
        for n, size in enumerate(sizes)
    ]


def image(width, height, colour="#204060", kind="PNG", **options):
    """Return an image: left half of one colour, right half white."""
    picture = Image.new("RGB", (width, height), colour)
    picture.paste("white", (width // 2, 0, width, height))
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


class Live:
    """A live source whose pictures the test gives."""

    count = None

    def __init__(self):
        self.state = State("waiting")
        self.wishes = []
        self.last = None
        self._calls = []

    @property
    def wanted(self):
        return self.wishes[-1:] == [True]

    def at(self, number):
        return self.last if self.last is not None and self.last.number == number else None

    def newest(self):
        return self.last

    async def run(self):
        await asyncio.get_running_loop().create_future()

    def want(self, wanted):
        self.wishes.append(wanted)

    def on_picture(self, call):
        self._calls.append(call)

    def give(self, picture):
        self.last = picture
        for call in self._calls:
            call(picture)


def stream(source, method=None, ips=20.0, limits=None, **options):
    """Return a stream of pictures, or of a source."""
    source = source if isinstance(source, Live) else Images(source)
    return Stream(StreamSettings("one", ips=ips, method=method, **options), source, limits)


def rtp_stream(source, group, port, ips=20.0, **options):
    """Return a stream that RTP sends."""
    return stream(source, ips=ips, rtp=Rtp(group, port, **options))


def settings(**options):
    return Settings(streams=(), **options)


@contextlib.asynccontextmanager
async def serving(source, method="udp_pull", ips=20.0, networks=LOOPBACK, **limits):
    """Listen on a free port of both families; yields the listener, with its stream and limits."""
    limits = Limits(LimitSettings(**limits), tuple(map(ip_network, networks)))
    served = stream(source, method, ips, limits, port=free_port(socket.SOCK_DGRAM))
    listener = await udp.listen(served, limits, settings())
    listener.stream, listener.limits, listener.port = served, limits, served.settings.port
    try:
        yield listener
    finally:
        await listener.close()
    assert served.viewers == 0 and limits.clients == 0


class Client:
    """An old client: words from one socket, pictures to another."""

    def __init__(self, port, family=socket.AF_INET):
        self.loop = asyncio.get_running_loop()
        self.words, self.data = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for plug in (self.words, self.data):
            plug.setblocking(False)
            plug.bind((LOCAL[family], 0))
        self.data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.server = LOCAL[family], port
        self.heard = []

    def say(self, *lines):
        """Send lines as one datagram, ended by a blank one as clients do."""
        self.words.sendto("".join(f"{line}\r\n" for line in (*lines, "")).encode(), self.server)

    def hello(self, size=512, *more):
        """Say what a client says first."""
        self.say("GET 1", f"LISTEN_PORT {self.data.getsockname()[1]}", f"FRAGMENT_SIZE {size}", *more)

    async def datagram(self, seconds=ENOUGH):
        """Return the next datagram of a picture, None if none comes in that time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.loop.sock_recv(self.data, 2048)
        except TimeoutError:
            return None

    async def picture(self, seconds=ENOUGH):
        """Return number, bytes and datagrams of the next picture, None if none comes in that time.

        Its datagrams must follow one another.
        """
        got, whole = [], b""
        while (one := await self.datagram(seconds)) is not None:
            number, total, offset, length, raw = one.split(b"\r\n", 4)
            assert len(raw) == int(length) and int(offset) == len(whole)
            got.append(one)
            whole += raw
            last = len(whole) == int(total) and (int(length) < len(got[0].split(b"\r\n", 4)[4]) or len(got) == 1)
            if last or not raw:
                return int(number), whole, got
        assert not got, f"the rest of picture {number} is missing"
        return None

    async def quiet(self, seconds=0.15):
        """Say whether nothing comes."""
        return await self.datagram(seconds) is None

    def close(self):
        self.words.close()
        self.data.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


async def until(condition, seconds=ENOUGH):
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def joined(group, address="127.0.0.1", port=0):
    """Return a socket that hears a group on the interface of an address."""
    inet6 = ":" in group
    plug = socket.socket(socket.AF_INET6 if inet6 else socket.AF_INET, socket.SOCK_DGRAM)
    plug.setblocking(False)
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    plug.bind((group, port))
    if inet6:
        number = struct.pack("@I", multicast.interface(address))
        plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + number)
    else:
        both = socket.inet_aton(group) + socket.inet_aton(address)
        plug.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, both)
    return plug


async def datagrams_of(plug, seconds=ENOUGH):
    """Return the datagrams of the next picture that a socket hears."""
    found, got = [], 0
    async with asyncio.timeout(seconds):
        while True:
            found.append(await asyncio.get_running_loop().sock_recv(plug, 2048))
            got += int(found[-1].split(b"\r\n", 4)[3])
            if got == int(found[-1].split(b"\r\n", 2)[1]):
                return found
