"""The session description (RFC 8866) of a stream's RTP: what a player opens."""

from __future__ import annotations

import zlib

from station.stills.rtp import CLOCK, JPEG
from station.stills.settings import StreamSettings

MEDIA_TYPE = "application/sdp"


def describe(stream: StreamSettings, address: str) -> str | None:
    """Return the description of a stream that a station of this address sends, None if it goes to no group."""
    if (rtp := stream.rtp) is None:
        return None
    name = stream.name or stream.key
    return text(name=name, address=address, group=rtp.group, port=rtp.port, ttl=rtp.ttl, ips=stream.ips)


def text(*, name: str, address: str, group: str, port: int, ttl: int = 1, ips: float = 0.0) -> str:
    """Return a session description that ffplay opens, and VLC where it is built with live555.

    Args:
        name: what players show.
        address: the sender's own, IPv4 or IPv6.
        group: the multicast group.
        port: of RTP; its reports come to the next one.
        ttl: networks that a datagram may pass; IPv6 has no word for it.
        ips: pictures per second; 0 leaves it open.
    """
    inet6 = ":" in group
    to = f"IN IP6 {group}" if inet6 else f"IN IP4 {group}/{ttl}"
    own = f"IN {'IP6' if ':' in address else 'IP4'} {address}"
    # One number for one session, the same after a restart: players that keep a description go on with it.
    number = zlib.crc32(f"{address} {group} {port}".encode())
    lines = [
        "v=0",
        f"o=- {number} 1 {own}",
        f"s={' '.join(name.split()) or '-'}",
        f"c={to}",
        "t=0 0",
        "a=recvonly",
        f"m=video {port} RTP/AVP {JPEG}",
        f"a=rtpmap:{JPEG} JPEG/{CLOCK}",
    ]
    if ips > 0:
        lines.append(f"a=framerate:{ips:g}")
    return "".join(f"{line}\r\n" for line in lines)
