"""The old catalogue's text, and the rows in it.

The text is the original's to the byte, whose clients split it in their own ways: header lines that end with a bare
LF, an empty line of CRLF CRLF, and a space before each CRLF but the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PROTOCOLS = ("TCP_PUSH", "TCP_PULL", "UDP_PUSH", "UDP_PULL", "MCAST_PUSH")
_ROW = re.compile(
    r"Object ID=(?P<id>-?\d{1,18}) name=(?P<name>\S*) type=(?P<type>\S*) address=(?P<address>\S*)"
    r" port=(?P<port>\d{1,5}) protocol=(?P<protocol>\S*) ips=(?P<ips>[0-9.e+-]+)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A stream as the old catalogue tells it; `ips` is pictures per second."""

    id: int
    name: str
    type: str
    address: str
    port: int
    protocol: str
    ips: float

    def line(self) -> str:
        """Return its line, without an end."""
        name, kind, address, protocol = map(one_word, (self.name, self.type, self.address, self.protocol))
        return (
            f"Object ID={self.id} name={name} type={kind} address={address}"
            f" port={self.port} protocol={protocol} ips={float(self.ips)}"
        )


def one_word(text: str) -> str:
    """Return a text that cannot be taken for several words or lines."""
    return "".join(c if c.isprintable() and not c.isspace() else "_" for c in text)


def body(address: str, port: int, rows: Iterable[Row]) -> str:
    """Return the text without its header: where the catalogue itself is, then a line for each stream."""
    lines = " \r\n".join(row.line() for row in rows)
    return f"ServerAddress: {one_word(address)} \r\nServerPort: {port} \r\n{lines}\r\n"


def answer(address: str, port: int, rows: Iterable[Row]) -> bytes:
    """Return all that is sent to a client of the old catalogue.

    Args:
        address: of the catalogue, as the client is told it.
        port: of the catalogue.
        rows: the streams, in order.
    """
    content = body(address, port, rows).encode()
    header = (
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nConnection: Keep-Alive\nServer: TP_3IF_SERVER\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return header.encode() + content


def read(text: str) -> list[Row]:
    """Return the rows of a catalogue's text, ours or another's; what is no row is passed over."""
    found = []
    for match in _ROW.finditer(text):
        try:
            ips = float(match["ips"])
        except ValueError:
            continue
        name, kind, address = match["name"], match["type"], match["address"]
        found.append(Row(int(match["id"]), name, kind, address, int(match["port"]), match["protocol"], ips))
    return found
