"""Cuts ffmpeg's MPEG-TS output into segments of whole frames.

The supervisor reads ffmpeg's stream from a pipe and cuts it itself, in place of
a muxer that writes files: then a full disk neither ends the encoder nor lists a
broken file, frames are counted where they are cut, and a restarted encoder
cannot overwrite anything.
"""

from __future__ import annotations

from dataclasses import dataclass

PACKET = 188
SYNC = 0x47
PAT_PID = 0x0000
PMT_PID = 0x1000
VIDEO_PID = 0x0100
"""The video is mapped first and `-mpegts_start_pid` counts from here; see `ffmpeg_args`."""
CLOCK = 90_000
WRAP = 1 << 33


class StreamError(Exception):
    """What came is no MPEG-TS as we asked for."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A segment in memory: whole frames from one keyframe up to the next.

    `pts` is the first frame's as written in the stream, `position` the same
    without the wrap at 2**33 / 90 kHz (26.5 hours), both in seconds.
    """

    data: bytes
    frames: int
    pts: float
    position: float


def _payload(packet: bytes) -> int:
    return 5 + packet[4] if packet[3] & 0x20 else 4


def _is_keyframe(packet: bytes) -> bool:
    return bool(packet[3] & 0x20 and packet[4] and packet[5] & 0x40)


def _pts(packet: bytes) -> int:
    """The PTS in the PES header that begins in this packet, in 90 kHz ticks."""
    start = _payload(packet)
    header = packet[start : start + 14]
    if len(header) < 14 or header[:3] != b"\0\0\1" or not header[7] & 0x80:
        raise StreamError("video frame without PTS")
    mark = header[9:14]
    return (mark[0] >> 1 & 7) << 30 | mark[1] << 22 | (mark[2] >> 1) << 15 | mark[3] << 7 | mark[4] >> 1


class Cutter:
    """Cuts one run of an encoder; a new run needs a new one."""

    def __init__(self) -> None:
        self.position = 0.0
        self._rest = b""
        self._body = bytearray()
        self._frames = 0
        self._first = 0
        self._last: int | None = None
        self._last_frame_at = 0
        self._tables: dict[int, bytes] = {}
        self._counters = {PAT_PID: 0, PMT_PID: 0}

    @property
    def begun(self) -> bool:
        """Whether a frame has come; `position` (s) is then that of the newest."""
        return self._last is not None

    def feed(self, data: bytes) -> list[Cut]:
        """Take the next bytes of the stream; returns the segments that they finish."""
        data = self._rest + data
        whole = len(data) - len(data) % PACKET
        data, self._rest = data[:whole], data[whole:]
        cuts = []
        kept = 0
        # Slices over the second header byte keep this loop off the packets that matter to nobody.
        for number, head in enumerate(data[1::PACKET]):
            if not head & 0x40:
                continue
            at = number * PACKET
            packet = data[at : at + PACKET]
            if packet[0] != SYNC:
                raise StreamError("packets out of step")
            pid = (packet[1] & 0x1F) << 8 | packet[2]
            if pid in self._counters:
                self._tables[pid] = packet
            if pid != VIDEO_PID:
                continue
            pts = self._unwrap(_pts(packet))
            self._body += data[kept:at]
            kept = at
            if _is_keyframe(packet) and self._frames:
                cuts.append(self._cut(len(self._body)))
            if not self._frames:
                self._first = pts
            self._frames += 1
            self._last_frame_at = len(self._body)
            self.position = pts / CLOCK
        self._body += data[kept:]
        return cuts

    def finish(self, *, clean: bool) -> Cut | None:
        """The stream has ended: the last segment, if it has a frame.

        After an end that was not `clean` its last frame may be torn and is left out.
        """
        if not clean and self._frames:
            del self._body[self._last_frame_at :]
            self._frames -= 1
        return self._cut(len(self._body)) if self._frames else None

    def _unwrap(self, pts: int) -> int:
        if self._last is not None:
            pts = self._last + (pts - self._last + WRAP // 2) % WRAP - WRAP // 2
        self._last = pts
        return pts

    def _cut(self, end: int) -> Cut:
        body = bytearray(self._tables.get(PAT_PID, b"") + self._tables.get(PMT_PID, b"") + self._body[:end])
        # Each segment begins with its tables; their continuity counters are set anew over all of them.
        for number, (high, low) in enumerate(zip(body[1::PACKET], body[2::PACKET], strict=True)):
            pid = (high & 0x1F) << 8 | low
            if pid in self._counters:
                at = number * PACKET + 3
                body[at] = body[at] & 0xF0 | self._counters[pid]
                self._counters[pid] = (self._counters[pid] + 1) & 0xF
        cut = Cut(bytes(body), self._frames, self._first % WRAP / CLOCK, self._first / CLOCK)
        del self._body[:end]
        self._frames = 0
        return cut
