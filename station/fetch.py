"""Fetches files of another station over HTTP, checked, and resumed where they were torn."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

SLOWEST = 32 << 10
"""Bytes a second below which a source counts as away: a segment every 2 s needs far more."""
PIECE = 1 << 18


class Away(Exception):
    """The source does not answer, or tore the connection: try again; what came is kept."""


class Refused(Exception):
    """The source has it not, or not as promised: trying again at once is of no use."""


def download(url: str, partial: Path, *, size: int, sha256: str, timeout: float) -> None:
    """Fetch `url` into `partial`, going on where an earlier try ended.

    On return the file has `size` bytes of checksum `sha256`; it is not synced.
    `timeout` (seconds) bounds each wait, and the whole is bounded by SLOWEST.
    Raises Away, Refused (the file is then deleted), or OSError of our own disk.
    """
    digest = hashlib.sha256()
    have = 0
    if partial.exists():
        data = partial.read_bytes()
        if len(data) <= size:
            digest.update(data)
            have = len(data)
        else:
            partial.unlink()
    if have < size:
        _receive(url, partial, have, size, digest, timeout)
    if digest.hexdigest() != sha256:
        partial.unlink(missing_ok=True)
        raise Refused(f"{url}: checksum differs from the index")


def _receive(url: str, partial: Path, have: int, size: int, digest: hashlib._Hash, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-{size}"} if have else {})  # noqa: S310 (the URL comes from our own inventory)
    deadline = time.monotonic() + timeout + size / SLOWEST
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer, partial.open("r+b" if have else "wb") as file:  # noqa: S310
            if have and answer.status != 206:
                raise Refused(f"{url}: the source cannot resume")
            file.seek(have)
            while True:
                piece = _read(answer, url)
                if not piece:
                    break
                have += len(piece)
                if have > size:
                    break
                # A local error must not be taken for the source's: it is raised outside of _read.
                file.write(piece)
                digest.update(piece)
                if time.monotonic() > deadline:
                    raise Away(f"{url}: too slow")
    except urllib.error.HTTPError as error:
        kind = Away if error.code >= 500 else Refused
        raise kind(f"{url}: HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise Away(f"{url}: {error.reason}") from error
    if have > size:
        partial.unlink(missing_ok=True)
        raise Refused(f"{url}: longer than the {size} bytes of the index")
    if have < size:
        raise Away(f"{url}: torn after {have} of {size} bytes")


def _read(answer: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return answer.read1(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise Away(f"{url}: {error or type(error).__name__}") from error
