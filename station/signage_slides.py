"""Speakers' slides as a stream of pictures: the preview of an ingest that records them."""

from __future__ import annotations

import asyncio
import email.utils
import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from PIL import Image, ImageOps

from station.signage_draw import RADIO, small_jpeg
from station.signage_pictures import Pictures

log = logging.getLogger(__name__)
LARGEST = 4 << 20
"""Bytes of a preview; one of full HD has 0.5 MB."""
SIDE = 4096
"""Pixels of its longer side: what is larger is no preview, and would cost memory."""
PATIENCE = 5.0
"""Seconds for one fetch."""


class NoSlide(Exception):
    """There is no slide to show; the text says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """File names of one slide: for radios and for screens."""

    small: str
    large: str


class Slides:
    """Fetches the newest preview again and again, while somebody wants it.

    Args:
        url: of the preview.
        every: seconds between two fetches.
        stale: seconds after which a preview that did not change, or could not be had, is not shown any more.
        pictures: where the files go.
        wanted: whether slides would be shown now.
        wake: called when the slide changed.
    """

    def __init__(
        self,
        url: str,
        every: float,
        stale: float,
        pictures: Pictures,
        wanted: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        self._url = url
        self._every = every
        self._stale = stale
        self._pictures = pictures
        self._wanted = wanted
        self._wake = wake
        self._seen: tuple[bytes, Frame] | None = None
        self._good = float("-inf")
        self._told = ""
        self.frame: Frame | None = None

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
            while True:
                began = time.monotonic()
                if self._wanted():
                    await self._turn(session)
                else:
                    self._show(None)
                await asyncio.sleep(max(0.05, self._every - (time.monotonic() - began)))

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        try:
            frame = await self._fetch(session)
        except (NoSlide, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            if time.monotonic() - self._good > self._stale or isinstance(error, NoSlide):
                if why != self._told:
                    log.warning("no slides from %s: %s", self._url, why)
                    self._told = why
                self._show(None)
            return
        if self._told:
            log.info("slides from %s again", self._url)
            self._told = ""
        self._good = time.monotonic()
        self._show(frame)

    def _show(self, frame: Frame | None) -> None:
        if frame != self.frame:
            self.frame = frame
            self._wake()

    async def _fetch(self, session: aiohttp.ClientSession) -> Frame:
        async with session.get(self._url) as response:
            if response.status != 200:
                raise NoSlide(f"status {response.status}")
            _check_age(response.headers.get("Last-Modified"), response.headers.get("Date"), self._stale)
            data = bytearray()
            async for part in response.content.iter_chunked(1 << 16):
                data += part
                if len(data) > LARGEST:
                    raise NoSlide(f"it has more than {LARGEST} bytes")
        whole = bytes(data)
        if self._seen is not None and self._seen[0] == whole:
            return self._seen[1]
        small = await self._pictures.do(lambda: scaled(whole))
        frame = Frame(await self._pictures.slide(small), await self._pictures.slide(whole))
        self._seen = (whole, frame)
        return frame


def _check_age(modified: str | None, date: str | None, stale: float) -> None:
    """Raise NoSlide for a file that its server has had unchanged for long; both times are of the server's clock."""
    try:
        changed = email.utils.parsedate_to_datetime(modified or "")
        asked = email.utils.parsedate_to_datetime(date or "")
        age = (asked - changed).total_seconds()
    except (ValueError, TypeError):
        return  # a server that does not tell
    if age > stale:
        raise NoSlide(f"it is older than {stale:.0f} s")


def scaled(data: bytes) -> bytes:
    """Return a JPEG fitted into a radio's picture, at most LARGEST_RADIO bytes.

    Raises:
        NoSlide: it is no JPEG, broken, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if max(picture.size) > SIDE:
                raise NoSlide(f"it has {picture.width}x{picture.height} pixels")
            picture.draft("RGB", (RADIO.width * 2, RADIO.height * 2))
            whole = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NoSlide("it is no whole JPEG") from error
    fitted = ImageOps.contain(whole, (RADIO.width, RADIO.height))
    sheet = Image.new("RGB", (RADIO.width, RADIO.height))
    sheet.paste(fitted, ((RADIO.width - fitted.width) // 2, (RADIO.height - fitted.height) // 2))
    return small_jpeg(sheet)
