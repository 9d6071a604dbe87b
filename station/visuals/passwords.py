"""Passwords: hashes made by scrypt, and their verification without holding up the loop.

A hash is `$scrypt$n=16384,r=8,p=1$<salt>$<hash>`, salt and hash in base64. Thousands of clients that reconnect with
the same password cost one scrypt: what was right is remembered by a keyed digest, the key of which dies with us.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

N, R, P = 16384, 8, 1
"""Cost of new hashes: 16 MiB and about 50 ms (RFC 7914, section 2)."""
PREFIX = "$scrypt$"
REMEMBERED = 4096
WORKERS = 2
_FORM = re.compile(
    r"\$scrypt\$n=(\d{1,8}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/=]{8,})\$([A-Za-z0-9+/=]{16,})", re.ASCII
)
_MOST = 256 << 20
"""Bytes that one verification may take."""


def is_hash(text: str) -> bool:
    """Return whether a stored password is a hash (a damaged one is, too)."""
    return text.startswith(PREFIX)


def hashed(password: str) -> str:
    """Return the hash of a password."""
    salt = os.urandom(16)
    digest = _scrypt(password, salt, N, R, P, 32)
    return f"{PREFIX}n={N},r={R},p={P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def fault(text: str) -> str | None:
    """Return what is wrong with a hash, or None; never says what it holds."""
    match = _FORM.fullmatch(text)
    if not match:
        return "is no hash of the form $scrypt$n=…,r=…,p=…$<salt>$<hash>; make one by --hash-password"
    n, r, p = (int(match[i]) for i in (1, 2, 3))
    if n < 2 or n & (n - 1) or not r or not p or 128 * n * r * p > _MOST:
        return "has an n that is no power of 2, or takes too much memory; make one by --hash-password"
    try:
        base64.b64decode(match[4], validate=True), base64.b64decode(match[5], validate=True)
    except (binascii.Error, ValueError):
        return "has a salt or hash that is no base64; make one by --hash-password"
    return None


def verify(password: str, stored: str) -> bool:
    """Return whether a password is that of a hash, or is equal to one stored in clear; in constant time."""
    if not is_hash(stored):
        return hmac.compare_digest(password.encode(), stored.encode())
    match = _FORM.fullmatch(stored)
    if not match or fault(stored):
        return False
    wanted = base64.b64decode(match[5])
    digest = _scrypt(password, base64.b64decode(match[4]), int(match[1]), int(match[2]), int(match[3]), len(wanted))
    return hmac.compare_digest(digest, wanted)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST, dklen=length)


class Checker:
    """Verifies passwords in a few threads and remembers those that were right."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._pool: ThreadPoolExecutor | None = None

    async def check(self, password: str, stored: str) -> bool:
        """Return whether a password is right. The same question asked meanwhile is not computed twice."""
        if not is_hash(stored):
            return verify(password, stored)
        text = f"{len(stored)}:{stored}{password}".encode("utf-8", "surrogateescape")
        digest = hmac.digest(self._key, text, "sha256")
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        running = self._running.get(digest)
        if running is None:
            self._pool = self._pool or ThreadPoolExecutor(WORKERS, "passwords")
            running = asyncio.get_running_loop().run_in_executor(self._pool, verify, password, stored)
            self._running[digest] = running
            running.add_done_callback(lambda _: self._running.pop(digest, None))
        right = await asyncio.shield(running)
        if right:
            self._right[digest] = None
            if len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return right
