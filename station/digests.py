"""Checksums of a file, all in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """Size in bytes and checksums in hexadecimal: manifests state SHA-256, targets one of the others."""

    size: int
    sha256: str
    sha1: str
    md5: str


def digests(path: Path, tick: Callable[[], object] = lambda: None) -> Digests:
    """Read a file once and return its checksums; `tick` is called for each MiB. Raises OSError."""
    sha256, sha1, md5 = (hashlib.new(name, usedforsecurity=False) for name in ("sha256", "sha1", "md5"))
    size = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for total in (sha256, sha1, md5):
                total.update(block)
            size += len(block)
            tick()
    return Digests(size, sha256.hexdigest(), sha1.hexdigest(), md5.hexdigest())
