"""Pictures to a multicast group: the old method MCAST_PUSH, and the sockets that RTP uses too."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from station.stills import fragments, trace
from station.stills.datagrams import Address, Job, Outgoing
from station.stills.limits import Tally
from station.stills.pictures import Picture
from station.stills.settings import Settings
from station.stills.stream import Stream

log = logging.getLogger(__name__)
TTL = 32
"""The original's."""
SIOCGIFADDR = 0x8915
"""netdevice(7)"""
INET6 = Path("/proc/net/if_inet6")


def interface(address: str, inet6: Path = INET6) -> int:
    """Return the number of the network interface that has an address, 0 if none has it (the system then chooses)."""
    with contextlib.suppress(ValueError):
        wanted = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(wanted, ipaddress.IPv4Address):
            return _interface4(str(wanted))
        for line in inet6.read_text().splitlines() if inet6.exists() else ():
            words = line.split()
            if len(words) == 6 and bytes.fromhex(words[0]) == wanted.packed:
                return int(words[1], 16)
    return 0


def _interface4(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for number, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(channel, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return number
    return 0


def sender(group: str, ttl: int, address: str) -> socket.socket:
    """Return a socket that sends to a group from the interface of the station's own address.

    What it sends is heard on the station itself too.

    Args:
        group: IPv4 or IPv6.
        ttl: networks that a datagram may pass.
        address: the station's own; one that no interface has leaves the choice to the system's routes.

    Raises:
        OSError: there is no such family or interface here.
    """
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    plug = socket.socket(family, socket.SOCK_DGRAM)
    try:
        plug.setblocking(False)
        number = interface(address)
        if number == 0 and address:
            log.info("no network interface has the address %s: the system chooses one for %s", address, group)
        if family == socket.AF_INET:
            plug.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            plug.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            if number:
                own = socket.inet_aton(address) if ":" not in address else bytes(4)
                choice = struct.pack("@4s4si", bytes(4), own, number)  # struct ip_mreqn, ip(7)
                plug.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
        else:
            plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
            plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            if number:
                plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
    except OSError:
        plug.close()
        raise
    return plug


class Group:
    """Sends to one group, a picture at a time."""

    def __init__(self, plug: socket.socket, to: Address, tally: Tally, name: str) -> None:
        """Send with a socket, which `close` closes; `name` is the stream's, for the log."""
        self.plug = plug
        self._to = to
        self._tally = tally
        self._name = name
        self._job: Job | None = None
        self._failed = 0
        self._outgoing = Outgoing(plug)

    @property
    def busy(self) -> bool:
        """Whether a picture is on its way."""
        return self._job is not None

    def send(self, datagrams: Sequence[bytes]) -> bool:
        """Send a picture; one that comes before the last has gone is skipped."""
        if self.busy:
            self._tally.skipped += 1
            return False
        size = sum(map(len, datagrams))

        def done(error: OSError | None) -> None:
            self._job = None
            if error is None:
                self._failed = 0
                self._tally.sent += 1
                self._tally.bytes += size
                return
            self._tally.skipped += 1
            if not self._failed:
                # A cable that is out is no reason to end; it is said once.
                log.warning("stream %s: nothing can be sent to %s: %s", self._name, self._to[0], error.strerror)
            self._failed += 1

        self._job = Job(self._to, datagrams, done)
        self._outgoing.send(self._job)
        return True

    def close(self) -> None:
        """Send nothing more."""
        self._outgoing.close()
        self.plug.close()


async def send(stream: Stream, settings: Settings) -> None:
    """Send a stream's pictures to its group in the old form, until cancelled: one at once, then one each period.

    Raises:
        OSError: there is no such family of addresses here.
    """
    own = stream.settings
    group = Group(
        sender(own.address, TTL, settings.address), (own.address, own.port), stream.tally("mcast_push"), stream.key
    )

    def take(picture: Picture) -> None:
        went = group.send(fragments.split(picture.number, picture.data, fragments.MULTICAST))
        if went and trace.level >= trace.SENDS:
            trace.sent(stream.key, picture.number, picture.data)

    first = stream.now()
    leave = stream.attach(take)
    try:
        if first is not None:
            take(first)
        await asyncio.get_running_loop().create_future()
    finally:
        leave()
        group.close()
