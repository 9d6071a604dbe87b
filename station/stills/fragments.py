"""The old form of a picture in datagrams: how it is cut, and what each piece says of itself.

`<image number>\\r\\n<total bytes>\\r\\n<fragment offset>\\r\\n<fragment bytes>\\r\\n<raw bytes>`, one a datagram.
"""

from __future__ import annotations

CAP = 512
"""Bytes that a datagram is held below, whatever a client asks for; the original's."""
LEAST, MOST = 64, 0xFFFF
"""Fragment sizes that are taken as they are: the original divides by zero or sends nothing below the first; no
datagram is larger than the second."""
MULTICAST = 1024
"""The fragment size of the original's multicast."""
_MARGIN = 10
"""What the original keeps free for offset and length."""


def clamp(size: int) -> int:
    """Return the fragment size that is used for one that a client asks for."""
    return min(max(size, LEAST), MOST)


def payload(number: int, total: int, size: int) -> int:
    """Return how many bytes of a picture one datagram carries.

    The original's formula, which old clients may count on: 486 for picture 0 of 1000 bytes and size 512 [measured],
    485 for its multicast of size 1024.

    Args:
        number: the picture's.
        total: its bytes.
        size: the fragment size, clamped.
    """
    return min(CAP, size) - len(f"{number}\r\n{total}\r\n") - len(f"\r\n\r\n{size}") - _MARGIN


def weight(number: int, total: int, size: int) -> int:
    """Return how many bytes a picture's datagrams have together, never less than that; without cutting it.

    A client may ask again and again in another size each time, and cutting is most of the work.
    """
    head = len(f"{number}\r\n{total}\r\n{total}\r\n{CAP}\r\n")
    return total + (total // payload(number, total, clamp(size)) + 1) * head


def split(number: int, data: bytes, size: int) -> list[bytes]:
    """Return a picture's datagrams.

    Where its bytes divide exactly, an empty one comes last, as in the original.

    Args:
        number: the picture's.
        data: its bytes.
        size: the fragment size; one out of range counts as the nearest in it.
    """
    size, total = clamp(size), len(data)
    step = payload(number, total, size)
    found = []
    for offset in range(0, total + 1, step):
        part = data[offset : offset + step]
        found.append(b"%d\r\n%d\r\n%d\r\n%d\r\n" % (number, total, offset, len(part)) + part)
    return found
