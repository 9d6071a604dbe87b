"""Sends pictures as datagrams: to many in turns, never faster than receivers and the kernel take them.

A picture is tens or hundreds of datagrams. Sent at once they overflow the buffer of whoever reads them (208 KiB by
default on Linux, of which each small datagram takes 1.3 kB), so they go in bursts with a pause between.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger(__name__)
Address = tuple[Any, ...]
BURST = 16 << 10
"""Bytes that one receiver is sent at once."""
PAUSE = 0.001
"""Seconds between two bursts, so at most 16 MB/s to one receiver."""
TURN = 8
"""Receivers that are sent a burst before others in the process have their turn."""
IP_RECVERR, IPV6_RECVERR = 11, 25
"""linux/in.h and linux/in6.h; Python 3.11 does not know them."""
_GONE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}
_ERROR = struct.Struct("@IBBBBII")  # struct sock_extended_err, linux/errqueue.h


def tell_errors(plug: socket.socket) -> None:
    """Ask the kernel to tell which datagrams of a socket could not be delivered (ICMP)."""
    if plug.family == socket.AF_INET6:
        plug.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        plug.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def undelivered(plug: socket.socket) -> list[Address]:
    """Take from a socket to whom its datagrams could not be delivered; see tell_errors."""
    found: list[Address] = []
    while True:
        try:
            _data, told, _flags, address = plug.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return found
        for _level, _kind, raw in told:
            if len(raw) >= _ERROR.size and _ERROR.unpack_from(raw)[0] in _GONE and address:
                found.append(address)


class Job:
    """The datagrams of one picture on their way to one receiver (an address as sendto wants it).

    `done` is told once: None when the last one has gone, or the error for which one could not be sent.
    """

    __slots__ = ("address", "datagrams", "done", "dropped", "next")

    def __init__(self, address: Address, datagrams: Sequence[bytes], done: Callable[[OSError | None], None]) -> None:
        self.address = address
        self.datagrams = datagrams
        self.done = done
        self.dropped = False
        self.next = 0


class Outgoing:
    """Sends from one socket, which must not block. Who still has a picture on its way gets the next one after it."""

    def __init__(self, plug: socket.socket, on_undelivered: Callable[[Address], None] | None = None) -> None:
        self._plug = plug
        self._undelivered = on_undelivered
        self._jobs: OrderedDict[Address, deque[Job]] = OrderedDict()  # whose turn is next comes first
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = self._turning = False

    def send(self, job: Job) -> None:
        """Send a picture, after those to the same receiver; at once, if nobody else has any on their way."""
        self._jobs.setdefault(job.address, deque()).append(job)
        if self._timer is None and not self._waiting and not self._turning:
            self._turn()

    def forget(self, job: Job) -> None:
        """Send no more of a picture; nobody is told."""
        job.dropped = True
        own = self._jobs.get(job.address)
        if own is not None and job in own:
            own.remove(job)
            if not own:
                del self._jobs[job.address]

    def close(self) -> None:
        """Forget all pictures. The socket stays open."""
        for job in [job for own in self._jobs.values() for job in own]:
            self.forget(job)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            asyncio.get_running_loop().remove_writer(self._plug)
            self._waiting = False

    def errors(self) -> None:
        """Tell of whom the kernel says that nothing reaches them; to be called when the socket has something."""
        for address in undelivered(self._plug):
            if self._undelivered is not None:
                self._undelivered(address)

    def _turn(self) -> None:
        self._timer = None
        self._turning = True  # who is told that a picture has gone may send the next one
        try:
            for _ in range(min(TURN, len(self._jobs))):
                if not self._jobs or self._waiting:
                    break
                self._serve(next(iter(self._jobs.values()))[0])
        finally:
            self._turning = False
        if self._jobs and not self._waiting:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._turn)

    def _serve(self, job: Job) -> None:
        self._jobs.move_to_end(job.address)
        try:
            over, error = self._burst(job), None
        except BlockingIOError:
            if not self._waiting and not job.dropped:
                self._jobs.move_to_end(job.address, last=False)
                self._waiting = True
                asyncio.get_running_loop().add_writer(self._plug, self._writable)
            return
        except OSError as found:
            over, error = True, found
        if over and not job.dropped:
            self.forget(job)
            job.done(error)

    def _burst(self, job: Job) -> bool:
        """Send the next datagrams of a picture; returns whether these were the last."""
        sent = 0
        while job.next < len(job.datagrams) and not job.dropped:
            if sent >= BURST:
                return False
            datagram = job.datagrams[job.next]
            try:
                self._plug.sendto(datagram, job.address)
            except BlockingIOError:
                raise
            except OSError:
                # It may be what became of somebody else's datagram: a socket with several receivers tells it to
                # whoever calls next.
                self.errors()
                self._plug.sendto(datagram, job.address)
            job.next += 1
            sent += len(datagram)
        return True

    def _writable(self) -> None:
        asyncio.get_running_loop().remove_writer(self._plug)
        self._waiting = False
        self._turn()
