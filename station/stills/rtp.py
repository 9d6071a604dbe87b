"""Pictures as video to a multicast group: RTP (RFC 3550) with JPEG as RFC 2435 carries it, and sender reports."""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
import time
from collections import OrderedDict
from collections.abc import Sequence

from station.stills import rtp_jpeg
from station.stills.aside import aside
from station.stills.multicast import Group, sender
from station.stills.pictures import Picture
from station.stills.rtp_jpeg import Scan, Unsendable
from station.stills.settings import Rtp, Settings
from station.stills.stream import Stream

log = logging.getLogger(__name__)

CLOCK = 90000
"""Hz of the timestamps, RFC 2435, 3."""
JPEG = 26
"""The payload type, RFC 3551, table 5."""
HEADER = 12
REPORT = 5.0
"""Seconds between two sender reports, RFC 3550, 6.2."""
AGAIN = 1.0
"""Seconds after which a picture that is still the current one is sent again, so that who comes late sees it soon."""
CACHE = 32 << 20
"""Bytes of a list's pictures that are kept as they are sent."""
_VERSION = 2 << 6
_MARK = 0x80
_SR, _SDES, _BYE, _CNAME = 200, 202, 203, 1
_NTP = 2208988800
"""Seconds from 1900 to 1970."""


def room(mtu: int, *, inet6: bool) -> int:
    """Return the bytes of RTP payload in an IP packet of so many bytes."""
    return mtu - (40 if inet6 else 20) - 8 - HEADER


class Session:
    """One sender of RTP: numbers and times of what it sends, and its reports."""

    def __init__(self) -> None:
        self.source = secrets.randbits(32)
        self.name = secrets.token_urlsafe(12)  # RFC 7022, 4.2: a name for this session only
        self._number = secrets.randbits(16)
        self._began = secrets.randbits(32)
        self.packets = self.octets = 0

    def stamp(self, when: float) -> int:
        """Return the timestamp of a moment, seconds of the monotonic clock."""
        return (self._began + round(when * CLOCK)) & 0xFFFFFFFF

    def frame(self, payloads: Sequence[bytes], when: float) -> list[bytes]:
        """Return the packets of a picture; the last one is marked.

        Args:
            payloads: as RFC 2435 has them.
            when: the moment of the picture, seconds of the monotonic clock.
        """
        stamp, last, found = self.stamp(when), len(payloads) - 1, []
        for index, payload in enumerate(payloads):
            kind = JPEG | (_MARK if index == last else 0)
            found.append(struct.pack(">BBHII", _VERSION, kind, self._number, stamp, self.source) + payload)
            self._number = (self._number + 1) & 0xFFFF
            self.octets += len(payload)
        self.packets += len(found)
        return found

    def report(self, when: float, clock: float | None = None) -> bytes:
        """Return a sender report with the session's name (RFC 3550, 6.4.1 and 6.5).

        Args:
            when: seconds of the monotonic clock.
            clock: the same moment as seconds since 1970; now by default.
        """
        clock = time.time() if clock is None else clock
        whole = int(clock)
        told = struct.pack(
            ">BBHIIIIII", _VERSION, _SR, 6, self.source, (whole + _NTP) & 0xFFFFFFFF,
            int((clock - whole) * 2**32) & 0xFFFFFFFF, self.stamp(when), self.packets & 0xFFFFFFFF,
            self.octets & 0xFFFFFFFF,
        )  # fmt: skip
        return told + self._named()

    def bye(self, when: float) -> bytes:
        """Return what tells receivers that nothing more comes: a last report and RFC 3550, 6.6."""
        return self.report(when) + struct.pack(">BBHI", _VERSION | 1, _BYE, 1, self.source)

    def _named(self) -> bytes:
        name = self.name.encode()
        item = struct.pack(">IBB", self.source, _CNAME, len(name)) + name
        item += bytes(4 - len(item) % 4)  # at least one zero ends the list
        return struct.pack(">BBH", _VERSION | 1, _SDES, len(item) // 4) + item


class Scans:
    """Pictures as RTP carries them; those of a list are kept, within bounds."""

    def __init__(self, keep: bool) -> None:
        """Keep them or not."""
        self._keep = keep
        self._kept: OrderedDict[int, tuple[bytes, Scan]] = OrderedDict()
        self._size = 0

    async def of(self, picture: Picture) -> Scan:
        """Return that of a picture. Raises Unsendable."""
        data, scan = self._kept.get(picture.number, (b"", None))
        if scan is not None and data is picture.data:
            self._kept.move_to_end(picture.number)
            return scan
        scan = await aside(rtp_jpeg.scan, picture.data)
        if self._keep:
            self._kept[picture.number] = picture.data, scan
            self._size += len(scan.data)
            while self._size > CACHE and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1][1].data)
        return scan


async def send(stream: Stream, settings: Settings) -> None:
    """Send a stream's pictures as video to the group of its settings, until cancelled.

    Raises:
        OSError: there is no such family of addresses here.
    """
    if stream.settings.rtp is not None:
        await _Sender(stream, stream.settings.rtp, settings.address).run()


class _Sender:
    def __init__(self, stream: Stream, rtp: Rtp, address: str) -> None:
        self._stream = stream
        self._rtp = rtp
        self._session = Session()
        self._scans = Scans(not stream.live)
        plug = sender(rtp.group, rtp.ttl, address)
        self._group = Group(plug, (rtp.group, rtp.port), stream.tally("rtp"), stream.key)
        self._room = room(rtp.mtu, inet6=":" in rtp.group)
        self._newest: tuple[Picture, float] | None = None
        self._coming = asyncio.Event()
        self._complained: set[int] = set()

    def _take(self, picture: Picture) -> None:
        if self._newest is not None:
            self._stream.tally("rtp").skipped += 1
        self._newest = picture, time.monotonic()
        self._coming.set()

    async def run(self) -> None:
        first = self._stream.now()
        leave = self._stream.attach(self._take)
        reports = asyncio.create_task(self._report())
        try:
            if first is not None:
                self._take(first)
            while True:
                picture, when = await self._next()
                try:
                    scan = await self._scans.of(picture)
                except Unsendable as error:
                    self._complain(picture, error)
                    continue
                # what is skipped must not be numbered, or receivers miss it
                frame = [] if self._group.busy else self._session.frame(scan.payloads(self._room), when)
                self._group.send(frame)
        finally:
            reports.cancel()
            leave()
            self._control(self._session.bye(time.monotonic()))
            self._group.close()

    async def _next(self) -> tuple[Picture, float]:
        """Wait for a picture; one that stays the current one for long comes again."""
        while self._newest is None:
            self._coming.clear()
            try:
                async with asyncio.timeout(AGAIN):
                    await self._coming.wait()
            except TimeoutError:
                if (picture := self._stream.now()) is not None:
                    return picture, time.monotonic()
        found, self._newest = self._newest, None
        return found

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT if self._session.packets else 0.1)
            if self._session.packets:
                self._control(self._session.report(time.monotonic()))

    def _control(self, packet: bytes) -> None:
        try:
            self._group.plug.sendto(packet, (self._rtp.group, self._rtp.port + 1))
        except OSError as error:
            log.debug("stream %s: no report to %s: %s", self._stream.key, self._rtp.group, error.strerror)

    def _complain(self, picture: Picture, error: Unsendable) -> None:
        """Say once of each picture of a list, and once of a live source, that it cannot be sent."""
        number = -1 if self._stream.live else picture.number
        if number not in self._complained:
            self._complained.add(number)
            log.warning("stream %s: picture %d is left out of RTP: %s", self._stream.key, picture.number, error)
