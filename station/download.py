"""Files of another station over HTTP: resumed, checked, never waited for without end."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from station.deliver import Item
from station.digests import digests
from station.times import INPUT_TIMEOUT

BLOCK = 1 << 20


class SourceAway(Exception):
    """The station that has the file does not answer now; try again later."""


class ContentDiffers(SourceAway):
    """What the station sends is not what its manifest or index states."""


class SourceGone(SourceAway):
    """The station answers that there is no such file."""


def join(base: str, *parts: str) -> str:
    """Return the URL of a path below a base URL; the parts are quoted."""
    return "/".join([base.rstrip("/"), *(urllib.parse.quote(part) for part in parts)])


def get(url: str, *, tag: str = "", limit: int, timeout: float = INPUT_TIMEOUT) -> tuple[bytes | None, str]:
    """Read a small file.

    Args:
        url: its URL.
        tag: ETag of the version that is known.
        limit: bytes it may have.
        timeout: seconds without a byte.

    Returns:
        Content (None: it is still the known version) and ETag.

    Raises:
        SourceGone: it does not exist; SourceAway: any other failure.
    """
    request = urllib.request.Request(url, headers={"If-None-Match": tag} if tag else {})  # noqa: S310 - a URL of our own inventory
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - see above
            content = answer.read(limit + 1)
            if len(content) > limit:
                raise SourceAway(f"{url}: longer than {limit} bytes")
            return content, answer.headers.get("ETag", "")
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return None, tag
        raise (SourceGone if error.code == 404 else SourceAway)(f"{url}: HTTP {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceAway(f"{url}: {error}") from error


def fetch(url: str, path: Path, item: Item, tick: Callable[[], object], timeout: float = INPUT_TIMEOUT) -> None:
    """Fetch one file; goes on where an earlier fetch was cut off.

    Args:
        url: its URL.
        path: where it goes; until it is whole and checked it lies beside that as `….part`.
        item: size and checksum that it must have.
        tick: called for each MiB.
        timeout: seconds without a byte.

    Raises:
        SourceGone, SourceAway: the source; also when the content is not what was stated. OSError: the disk.
    """
    if path.exists() and path.stat().st_size == item.size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    if have < item.size or item.size == 0:
        _append(url, part, have, tick, timeout)
    found = digests(part, tick)
    if found.size < item.size:
        raise SourceAway(f"{url}: ended after {found.size} of {item.size} bytes")
    if (found.size, found.sha256) != (item.size, item.sha256):
        part.unlink()
        raise ContentDiffers(f"{url}: its content is not what its manifest or index states; it is fetched anew")
    part.replace(path)


def _append(url: str, part: Path, have: int, tick: Callable[[], object], timeout: float) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - see `get`
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310 - see `get`
        with answer, part.open("ab" if answer.status == 206 else "wb") as file:
            # read1 returns what is there: on a slow link a whole block could take longer than the watchdog waits.
            while block := answer.read1(BLOCK):
                file.write(block)
                tick()
    except urllib.error.HTTPError as error:
        raise (SourceGone if error.code == 404 else SourceAway)(f"{url}: HTTP {error.code}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise SourceAway(f"{url}: {error}") from error


def need_space(folder: Path, size: int, reserve: int) -> None:
    """Raise OSError (ENOSPC) unless `size` bytes fit on the folder's disk with `reserve` bytes left over."""
    free = shutil.disk_usage(folder).free
    if free < size + reserve:
        raise OSError(
            28, f"{size} bytes are to be fetched and {reserve} must stay free, but {free} are free", str(folder)
        )
