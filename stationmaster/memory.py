"""What was found in order before, so that it is not judged again.

An apply mostly judges what the one before judged, and importing jsonschema for it takes
longer than everything else that is done for a station. Kept are digests with a key of
this checkout's own: from them nobody learns an option's value, secret or not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".state" / "cache"
LIMIT = 1_000_000
"""Bytes of the list beyond which it is begun anew: some 15,000 digests."""


class Memory:
    """A list of digests in a file; without a folder to write to it remembers nothing."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._list = folder / "in-order"
        self._key = self._read_key()
        self._known = self._read_list()

    def _read_key(self) -> bytes:
        path = self._folder / "key"
        with contextlib.suppress(OSError):
            return path.read_bytes()
        key = secrets.token_bytes(32)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
        except FileExistsError:
            return path.read_bytes()  # another run was faster
        except OSError:
            return key
        return key

    def _read_list(self) -> set[str]:
        try:
            if self._list.stat().st_size > LIMIT:
                self._list.unlink()
            return set(self._list.read_text("ascii").split())
        except OSError:
            return set()

    def digest(self, *parts: str | bytes) -> str:
        """Return the digest of some text that is judged, with all that the judgement depends on."""
        total = hashlib.blake2b(key=self._key[:32], digest_size=16)
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            total.update(len(data).to_bytes(8, "big") + data)
        return total.hexdigest()

    def __contains__(self, digest: str) -> bool:
        """Return whether this was found in order before."""
        return digest in self._known

    def add(self, digest: str) -> None:
        """Remember that this is in order, also for the next run."""
        self._known.add(digest)
        try:
            with self._list.open("a", encoding="ascii") as file:
                file.write(digest + "\n")
        except OSError:
            return  # judged again next time


@functools.cache
def memory() -> Memory:
    """Return the memory of this checkout."""
    return Memory()
