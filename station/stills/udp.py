"""The old methods UDP_PUSH and UDP_PULL: words come as datagrams, pictures go as datagrams.

A client is known by the address and the port that its words come from. Pictures go to that very address, to the port
that it names. A sender's address can be forged, so only networks that the settings allow are answered, no faster than
the limits say; all others are counted and ignored.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Sequence

from station.stills import control, fragments, trace
from station.stills.datagrams import Address, Job, Outgoing, tell_errors
from station.stills.limits import Limits, plain
from station.stills.pictures import Picture
from station.stills.ports import bind
from station.stills.settings import Settings
from station.stills.stream import Leave, Stream
from station.stills.udp_client import WAITING, Client

log = logging.getLogger(__name__)
IDLE = 60.0
"""Seconds without any datagram after which a client of UDP_PUSH is gone; the original's."""
READ = 1024
"""Bytes of a datagram that are looked at; the original's."""
TURN, WORDS = 32, 200
"""Datagrams that are read, and words that are obeyed, before others in the process have their turn: a datagram may
hold 146 GETs, and 32 such ones take a fifth of a second [measured]."""
PATIENCE = 5.0
"""Seconds that a picture is waited for where a live source has to wake up first."""
CUT = 8
"""Pictures whose datagrams are kept: many clients ask for the same one in the same size."""


async def listen(stream: Stream, limits: Limits, settings: Settings) -> Listener:
    """Open the port of a stream of method udp_push or udp_pull.

    Returns:
        What to close in the end.

    Raises:
        OSError: the port is taken; the text says whose.
    """
    plugs = bind(settings.listen_address, stream.settings.port, socket.SOCK_DGRAM, f"stream {stream.key}")
    return Listener(stream, limits, plugs)


class Listener:
    """The port of one stream, and its clients."""

    def __init__(self, stream: Stream, limits: Limits, plugs: Sequence[socket.socket]) -> None:
        """Listen with sockets that are bound and do not block; `close` closes them."""
        self._stream = stream
        self._limits = limits
        self._push = stream.settings.method == "udp_push"
        self._tally = stream.tally(stream.settings.method or "udp")
        self._loop = asyncio.get_running_loop()
        self._clients: OrderedDict[Address, Client] = OrderedDict()  # who was heard last comes last
        self._receivers: dict[Address, Client] = {}
        self._cut: OrderedDict[tuple[int, int], tuple[bytes, list[bytes]]] = OrderedDict()
        self._leave: Leave | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugs = {plug: Outgoing(plug, self._undelivered) for plug in plugs}
        for plug in plugs:
            tell_errors(plug)
            self._loop.add_reader(plug, self._readable, plug)

    async def close(self) -> None:
        """Close the port and forget all clients; a second call does nothing."""
        for client in tuple(self._clients.values()):
            self._drop(client, "the stream ends")
        for task in self._tasks:
            task.cancel()
        for plug, outgoing in self._plugs.items():
            self._loop.remove_reader(plug)
            outgoing.close()
            plug.close()
        self._plugs.clear()

    def _readable(self, plug: socket.socket) -> None:
        words = 0
        for number in range(TURN):
            if words >= WORDS:
                return
            try:
                data, address = plug.recvfrom(READ)
            except BlockingIOError:
                if not number:  # woken by what could not be delivered
                    self._plugs[plug].errors()
                return
            except OSError:
                self._plugs[plug].errors()
                continue
            words += self._heard(plug, data, address)

    def _heard(self, plug: socket.socket, data: bytes, address: Address) -> int:
        """Obey a datagram; returns how many words it held."""
        if not self._limits.allowed(address[0]):
            return 0
        client = self._clients.get(address)
        if client is not None:
            client.heard = self._loop.time()
            self._clients.move_to_end(address)
        trace.received(self._stream.key, data)
        found = list(control.commands(data))
        for word, number in found:
            if client is None and word not in ("END", "ALIVE"):
                client = self._enter(plug, address)
            if client is None:
                continue
            if word == "END":
                self._drop(client, "it said END")
                break
            log.debug("stream %s: client %s: %s %d", self._stream.key, client.host, word, number)
            self._obey(client, word, number)
            if client.gone:
                break
        return len(found)

    def _enter(self, plug: socket.socket, address: Address) -> Client | None:
        host = plain(address[0])
        ticket = self._limits.enter(host, proven=False)
        if ticket is None and not self._push and self._clients:
            # Nobody says when such a client ends, so whoever has been silent longest makes place.
            same = (one for one in self._clients.values() if one.host == host)
            oldest = next(same, None) or next(iter(self._clients.values()))
            self._drop(oldest, "another one needs its place")
            ticket = self._limits.enter(host, proven=False)
        if ticket is None:
            return None
        client = self._clients[address] = Client(plug, address, host, ticket, self._loop.time())
        self._tally.clients += 1
        log.info("stream %s: client %s port %d", self._stream.key, host, address[1])
        if self._push and self._sweep is None:
            self._sweep = self._loop.call_later(IDLE, self._idle)
        return client

    def _obey(self, client: Client, word: str, number: int) -> None:
        if word == "LISTEN_PORT":
            if client.listen(number) and client.data is not None:
                self._receivers[client.data[:2]] = client
                self._watch()
        elif word == "FRAGMENT_SIZE":
            client.size = fragments.clamp(number)
        elif self._push and word in ("START", "PAUSE"):
            client.running = word == "START"
            self._watch()
        elif not self._push and word == "GET":
            self._get(client, number)

    def _drop(self, client: Client, why: str) -> None:
        del self._clients[client.control]
        if client.data is not None and self._receivers.get(client.data[:2]) is client:
            del self._receivers[client.data[:2]]
        for job in client.jobs:
            self._plugs[client.plug].forget(job)
        client.jobs.clear()
        client.gone = True
        client.ticket.leave()
        self._tally.clients -= 1
        log.info("stream %s: client %s port %d is gone: %s", self._stream.key, client.host, client.control[1], why)
        if not self._clients and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._watch()

    def _idle(self) -> None:
        """Drop who has said nothing for too long; look again when the next one may have."""
        self._sweep = None
        now = self._loop.time()
        while self._clients:
            oldest = next(iter(self._clients.values()))
            if oldest.heard + IDLE > now:
                self._sweep = self._loop.call_later(oldest.heard + IDLE - now, self._idle)
                return
            self._drop(oldest, f"silent for {IDLE:g} s")

    def _watch(self) -> None:
        """Have pictures come while somebody wants them."""
        wanted = any(one.running and one.data is not None for one in self._clients.values())
        if wanted and self._leave is None:
            self._leave = self._stream.attach(self._take)
        elif not wanted and self._leave is not None:
            self._leave()
            self._leave = None

    def _take(self, picture: Picture) -> None:
        count = self._stream.source.count
        for client in tuple(self._clients.values()):
            if not client.running or not client.ready or client.gone:
                continue
            own: Picture | None = picture
            if count is not None:
                own = self._stream.at(client.pointer)
                client.pointer = (client.pointer + 1) % count
            if client.jobs:
                self._tally.skipped += 1
            elif own is not None:
                self._send(client, own)

    def _get(self, client: Client, number: int) -> None:
        if not client.ready:
            return
        count = self._stream.source.count
        if count is None and number == -1:
            picture = self._stream.now()
            if picture is None:
                self._wake(client)
                return
            # it keeps a live source awake for the next request
            self._stream.hold()()
        else:
            number = client.pointer if number == -1 else number
            picture = self._stream.at(number) if number >= 0 else None
        if picture is not None and self._send(client, picture) and count is not None:
            client.pointer = (number + 1) % count

    def _wake(self, client: Client) -> None:
        if client.waking or len(self._tasks) >= self._limits.settings.clients:
            return
        client.waking = True

        async def wait() -> None:
            picture = await self._stream.latest(PATIENCE)
            client.waking = False
            if picture is not None and not client.gone:
                self._send(client, picture)

        task = self._loop.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, client: Client, picture: Picture) -> bool:
        """Send a picture; returns False if it has no place on the way, or the client has had its share."""
        if client.data is None or client.size is None:
            return False
        weight = fragments.weight(picture.number, len(picture.data), client.size)
        if len(client.jobs) >= WAITING or not self._limits.rate(client.host, weight):
            self._tally.skipped += 1
            return False
        datagrams = self._datagrams(picture, client.size)
        size = sum(map(len, datagrams))

        def done(error: OSError | None) -> None:
            client.jobs.discard(job)
            if error is None:
                self._tally.sent += 1
                self._tally.bytes += size
                if trace.level >= trace.SENDS:
                    trace.sent(self._stream.key, picture.number, picture.data)
            elif not client.gone:
                self._drop(client, f"nothing can be sent to it: {error.strerror}")

        job = Job(client.data, datagrams, done)
        client.jobs.add(job)
        self._plugs[client.plug].send(job)
        return True

    def _datagrams(self, picture: Picture, size: int) -> list[bytes]:
        key = picture.number, size
        data, datagrams = self._cut.get(key, (b"", []))
        if data is not picture.data:
            datagrams = fragments.split(picture.number, picture.data, size)
            self._cut[key] = picture.data, datagrams
            if len(self._cut) > CUT:
                self._cut.popitem(last=False)
        return datagrams

    def _undelivered(self, address: Address) -> None:
        client = self._receivers.get(address[:2])
        if client is not None and client.undelivered(self._loop.time()):
            self._drop(client, "nobody listens where it said")
