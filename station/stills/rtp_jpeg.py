"""JPEG as RTP carries it (RFC 2435): the scan without its headers, which a receiver makes again.

A receiver knows the standard Huffman tables (ITU-T T.81, annex K) and two ways of sampling. A picture that keeps to
them goes as it is, any other is encoded again.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass

from PIL import Image

from station.stills.pictures import eight_bits

LARGEST = 2040
"""Pixels of a side: RFC 2435 counts blocks of 8 in one byte."""
QUALITY = 85
"""Of what is encoded again; Pillow's scale."""
IN_BAND = 255
"""RFC 2435, 4.2: the quantisation tables come with each picture and may differ each time."""
MOST = 1 << 24
"""Bytes of a scan: the fragment offset has three bytes."""
HEADER = 8
_END = re.compile(rb"\xff+([\x01-\xfe])")
_EOI, _SOS, _DQT, _DHT, _DRI, _SOF0, _APP14 = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xC0, 0xEE
_SAMPLING = {(0x21, 0x11, 0x11): 0, (0x22, 0x11, 0x11): 1}
"""Horizontal and vertical factors of the three components, to the type of RFC 2435, 4.1."""


class Unsendable(Exception):
    """A picture that RTP cannot carry; the text says why."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What of a JPEG goes over the wire.

    `width` and `height` are in blocks of 8 pixels, rounded up: the last block is there anyway. `tables` are the two
    quantisation tables in zigzag order, brightness first, 64 bytes each.
    """

    kind: int
    width: int
    height: int
    tables: bytes
    data: bytes

    def payloads(self, size: int) -> list[bytes]:
        """Return the picture as RTP payloads.

        Args:
            size: bytes that one may have, headers of RFC 2435 included.
        """
        found, offset = [], 0
        while offset < len(self.data):
            head = struct.pack(">IBBBB", offset, self.kind, IN_BAND, self.width, self.height)
            if not offset:
                head += struct.pack(">BBH", 0, 0, len(self.tables)) + self.tables
            part = self.data[offset : offset + size - len(head)]
            found.append(head + part)
            offset += len(part)
        return found


def scan(data: bytes) -> Scan:
    """Return a picture as RTP carries it, encoded again where it has to be.

    Takes tens of milliseconds for a large one: call it in a thread.

    Raises:
        Unsendable: Pillow cannot read it, or it is too large however it is encoded.
    """
    found = taken_apart(data) or taken_apart(encoded(data))
    if found is None:
        raise Unsendable("the picture is too large for RTP")
    return found


def encoded(data: bytes) -> bytes:
    """Return any picture as a JPEG that RTP can carry. Raises Unsendable if Pillow cannot read it."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            image = eight_bits(file)
            image.thumbnail((LARGEST, LARGEST))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                clear = image.convert("RGBA")
                whole = Image.new("RGB", clear.size, "white")
                whole.paste(clear, mask=clear.getchannel("A"))
            else:
                whole = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unsendable(f"the picture cannot be sent by RTP: {error}") from error
    out = io.BytesIO()
    whole.save(out, "JPEG", quality=QUALITY, subsampling=2)
    return out.getvalue()


def taken_apart(data: bytes) -> Scan | None:
    """Return the scan of a JPEG, None if it is none that RTP can carry as it is."""
    try:
        return _read(data)
    except (IndexError, struct.error, KeyError):
        return None


def _read(data: bytes) -> Scan | None:
    if data[:2] != b"\xff\xd8":
        return None
    at, tables, frame, sampling = 2, dict[int, bytes](), b"", -1
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            return None
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == _DQT:
            while body:
                if body[0] >> 4:  # of 16 bits
                    return None
                tables[body[0] & 15], body = body[1:65], body[65:]
        elif marker == _SOF0:
            frame = body
            sampling = _SAMPLING.get((body[7], body[10], body[13]), -1) if body[0] == 8 and body[5] == 3 else -1
            if sampling < 0 or body[11 + 3] != body[8 + 3] or (body[6], body[9], body[12]) == tuple(b"RGB"):
                return None
        elif marker == _DHT:
            if not _standard(body):
                return None
        elif marker == _DRI and any(body):
            return None
        elif marker == _APP14 and body[:5] == b"Adobe" and body[11] != 1:
            return None  # no YCbCr
        elif marker == _SOS:
            break
    # without a frame of that marker it is progressive, lossless or arithmetic
    if not frame or body[0] != 3 or body[1:] != bytes((frame[6], 0x00, frame[9], 0x11, frame[12], 0x11, 0, 63, 0)):
        return None
    end = _END.search(data, at)
    if end is None or end[1][0] != _EOI:
        return None
    height, width = struct.unpack_from(">HH", frame, 1)
    both = tables[frame[8]] + tables[frame[11]]
    if not (0 < width <= LARGEST and 0 < height <= LARGEST) or len(both) != 128 or end.start() - at >= MOST:
        return None
    return Scan(sampling, -(-width // 8), -(-height // 8), both, data[at : end.start()])


def _standard(body: bytes) -> bool:
    """Return whether a DHT segment holds only standard tables, each in its usual place."""
    while body:
        count = sum(body[1:17])
        if _HUFFMAN[body[0]] != body[1 : 17 + count]:
            return False
        body = body[17 + count :]
    return True


def _tables() -> dict[int, bytes]:
    """Return the standard Huffman tables by class and place: what Pillow writes when it is not to optimise them."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", subsampling=2)
    data, at, found = out.getvalue(), 2, dict[int, bytes]()
    while (marker := data[at + 1]) != _SOS:
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        while marker == _DHT and body:
            count = sum(body[1:17])
            found[body[0]], body = body[1 : 17 + count], body[17 + count :]
    return found


_HUFFMAN = _tables()
