"""What goes over the connection: the applier, a request, and contents.

One stream on the standard input of one command: a line with the engine's hash and
length, the engine, a line with the request's length, the request, the contents. All
but the lines are packed. `station.applier.main` reads the rest of what this writes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from station.applier.main import MARK

STATION = Path(__file__).resolve().parent.parent / "station"
BOOTSTRAP = """\
import sys
i=sys.stdin.buffer
s,n=i.readline().decode().split()
z=i.read(int(n))
r=sys.argv[1]
p=r+'/var/lib/stationmaster/engine/'+s
t={}
try:
 open(p+'/__main__.py').close()
 sys.path.insert(0,p)
except OSError:
 import zlib
 exec(zlib.decompress(z),t)
sys.dont_write_bytecode=True
from station.applier.main import serve
serve(i,s,t.get('SOURCES',{}),r)
"""
"""Runs the station's own compiled copy of this very engine, or else the one that came along."""


class Engine(NamedTuple):
    """The applier, packed: its hash names the station's copy."""

    sha256: str
    packed: bytes


@functools.cache
def engine() -> Engine:
    """Return the applier of this checkout."""
    sources = {"station/__init__.py": (STATION / "__init__.py").read_text(encoding="utf-8")}
    for path in sorted((STATION / "applier").glob("*.py")):
        name = "__main__.py" if path.name == "__main__.py" else f"station/applier/{path.name}"
        sources[name] = path.read_text(encoding="utf-8")
    loader = sources.pop("station/applier/carried.py")
    text = loader.replace('SOURCES: dict[str, str] = globals().get("SOURCES", {})', f"SOURCES = {sources!r}")
    data = text.encode()
    return Engine(hashlib.sha256(data).hexdigest()[:16], zlib.compress(data))


def command(root: str = "") -> str:
    """Return the shell command that takes a payload on its standard input.

    `root` is where the station's files lie; only tests give one.
    """
    return shlex.join(["/usr/bin/python3", "-IS", "-c", BOOTSTRAP, root])


LARGE = 256 * 1024
"""Bytes of a content, such as an intro video, beyond which it travels only to a station that asks for it."""


class Packer:
    """Packs payloads; what several stations get is packed once."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    def pack(self, request: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> bytes:
        """Return the payload of a request with the contents (by SHA-256) that it may need."""
        index, parts, offset = {}, [], 0
        for sha256, data in (blobs or {}).items():
            packed = self._packed.get(sha256)
            if packed is None:
                packed = self._packed[sha256] = zlib.compress(data)
            index[sha256] = [offset, len(packed)]
            parts.append(packed)
            offset += len(packed)
        body = zlib.compress(json.dumps({**request, "blobs": index}).encode())
        carrier = engine()
        head = f"{carrier.sha256} {len(carrier.packed)}\n".encode()
        return b"".join([head, carrier.packed, f"{len(body)}\n".encode(), body, *parts])


def complete(payload: bytes, contents: Mapping[str, bytes]) -> bytes:
    """Return a payload with further contents, by SHA-256: those that the station asked for."""
    head, _, rest = payload.partition(b"\n")
    length = int(head.split()[1])
    carrier, rest = rest[:length], rest[length:]
    size, _, rest = rest.partition(b"\n")
    request = json.loads(zlib.decompress(rest[: int(size)]))
    parts = [rest[int(size) :]]
    offset = len(parts[0])
    for sha256, data in contents.items():
        packed = zlib.compress(data, 0)  # large contents are videos and pictures, which nothing makes smaller
        request["blobs"][sha256] = [offset, len(packed)]
        parts.append(packed)
        offset += len(packed)
    body = zlib.compress(json.dumps(request).encode())
    return b"".join([head, b"\n", carrier, f"{len(body)}\n".encode(), body, *parts])


def parse(lines: Iterable[str]) -> dict[str, Any] | None:
    """Return the result among the lines that a station printed, None if there is none."""
    for line in lines:
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line[len(MARK) :])
            return result
    return None
