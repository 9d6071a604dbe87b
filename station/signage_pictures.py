"""The pictures folder: each file is named by the hash of its bytes and never changes.

Screens and radios fetch a picture after its message came, and a screen without network shows what its programme
named: so what any message still names stays, and all else for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from station import files
from station.signage_draw import Notice, Style, draw
from station.signage_layout import Fonts
from station.signage_view import View

log = logging.getLogger(__name__)
FOLDER = "pictures"
NAMED = re.compile(rb"/pictures/([a-z0-9.-]+)")
KEPT = 86_400.0
"""Seconds for which a picture stays after nothing named it any more."""
SLIDE = "slide-"
"""What names of speakers' slides begin with."""
SLIDE_KEPT = 600.0
"""The same for slides: one comes every few seconds, a day of them would take gigabytes."""
KNOWN = 4096
"""Pictures whose names are remembered: a day of 20 rooms."""
Result = TypeVar("Result")


class Pictures:
    """Draws pictures in one thread, so that the clock is never late for them, and keeps their files."""

    def __init__(self, folder: Path, fonts: Fonts) -> None:
        """Make the folder. Raises OSError."""
        self._folder = folder
        self._fonts = fonts
        self._names: dict[tuple[View | Notice, Style], str] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self.drawn = 0
        folder.mkdir(parents=True, exist_ok=True)

    async def name(self, content: View | Notice, style: Style) -> str:
        """Return the file name of a picture, drawn unless it is there. Raises OSError."""
        key = (content, style)
        known = self._names.get(key)
        if known is not None and (self._folder / known).exists():
            return known
        name = await self.do(lambda: self._keep(draw(content, style, self._fonts), "", ".png"))
        self.drawn += 1
        self._names.pop(key, None)
        while len(self._names) >= KNOWN:
            self._names.pop(next(iter(self._names)))
        self._names[key] = name
        return name

    def known(self, content: View | Notice, style: Style) -> str | None:
        """Return the file name of a picture that was drawn already."""
        return self._names.get((content, style))

    async def slide(self, data: bytes) -> str:
        """Keep a speaker's slide, a JPEG; return its file name. Raises OSError."""
        return await self.do(lambda: self._keep(data, SLIDE, ".jpg"))

    async def do(self, work: Callable[[], Result]) -> Result:
        """Do something about pictures in their thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def prune(self, messages: Iterable[bytes]) -> int:
        """Remove what no message has named for a while; return how many files are left.

        Args:
            messages: bodies of all messages that may still be shown.
        """
        named = {match.decode() for body in messages for match in NAMED.findall(body)}
        return await self.do(lambda: _prune(self._folder, named, time.time()))

    def close(self) -> None:
        """End the thread; what it draws is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _keep(self, data: bytes, begin: str, end: str) -> str:
        suffix = ".jpg" if data.startswith(b"\xff\xd8") else end
        name = f"{begin}{hashlib.sha256(data).hexdigest()[:24]}{suffix}"
        path = self._folder / name
        if path.exists() and path.stat().st_size == len(data):
            os.utime(path)
        else:
            files.write(path, data)
        return name


def _prune(folder: Path, named: Collection[str], now: float) -> int:
    left = 0
    for path in folder.iterdir():
        try:
            if path.name in named:
                os.utime(path)
                left += 1
            elif now - path.stat().st_mtime > (SLIDE_KEPT if path.name.startswith(SLIDE) else KEPT):
                path.unlink()
            else:
                left += 1
        except OSError as error:
            log.warning("%s stays: %s", path, error)
    return left
