"""Where the pictures of a stream come from: files, numbered test cards, or a live ingest."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from station.config import ConfigError
from station.stills import pictures
from station.stills.aside import aside
from station.stills.pictures import Picture, Unreadable
from station.stills.settings import StreamSettings, Testcard
from station.stills.stream import Source, State, Take

log = logging.getLogger(__name__)
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"
LIVE_KIND = "JPG"
"""What a live source gives."""
COLOURS = ("#1f4e79", "#7a1f4e", "#1f7a4e", "#7a4e1f", "#4e1f7a", "#4e7a1f")
"""Neighbours differ, so that one sees the pictures change from afar; all dark enough for white digits."""


class Images:
    """A list of pictures, all in memory."""

    def __init__(self, images: Sequence[Picture]) -> None:
        self._images = tuple(images)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._images)

    @property
    def state(self) -> State:
        """Always ready."""
        return State("ready")

    def at(self, number: int) -> Picture | None:
        """Return the picture of a number from 0, None beyond the last."""
        return self._images[number] if 0 <= number < len(self._images) else None

    def newest(self) -> Picture | None:
        """Return the first: a list has no newest."""
        return self._images[0]

    async def run(self) -> None:
        """Nothing is to be read."""

    def want(self, wanted: bool) -> None:
        """Nothing is to be read."""

    def on_picture(self, call: Take) -> None:
        """Nothing comes."""


def testcards(card: Testcard, kind: str, title: str = "") -> list[Picture]:
    """Return numbered pictures.

    Args:
        card: how large and how many.
        kind: one of KINDS.
        title: a word on all of them.
    """
    found = []
    for number in range(card.pictures):
        image = Image.new("RGB", (card.width, card.height), COLOURS[number % len(COLOURS)])
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, card.width - 1, card.height - 1), outline="white", width=max(1, card.height // 60))
        _write(draw, str(number), card.height // 2, (card.width // 2, card.height // 2))
        if title:
            _write(draw, title, max(8, card.height // 12), (card.width // 2, card.height - card.height // 8))
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=1)
        found.append(pictures.check(number, out.getvalue(), kind))
    return found


def _write(draw: ImageDraw.ImageDraw, text: str, height: int, place: tuple[int, int]) -> None:
    try:
        font = ImageFont.truetype(FONT, height)
    except OSError:
        draw.text(place, text, fill="white")  # small, but there on a machine without fonts too
    else:
        draw.text(place, text, fill="white", font=font, anchor="mm")


class Converting:
    """A live source whose pictures are made into another kind, each once, in a thread."""

    def __init__(self, source: Source, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._calls: list[Take] = []
        self._last: Picture | None = None
        self._waiting: Picture | None = None
        self._work: asyncio.Task[None] | None = None
        source.on_picture(self._arrived)

    @property
    def count(self) -> int | None:
        """None: it is live."""
        return self._source.count

    @property
    def state(self) -> State:
        """That of the source."""
        return self._source.state

    def at(self, number: int) -> Picture | None:
        """Return the last picture if it has that number."""
        return self._last if self._last is not None and self._last.number == number else None

    def newest(self) -> Picture | None:
        """Return the last picture, unless the source has none that is not stale."""
        return self._last if self._source.newest() is not None else None

    async def run(self) -> None:
        """Read the source."""
        await self._source.run()

    def want(self, wanted: bool) -> None:
        """Begin to read the source, or leave off."""
        self._source.want(wanted)

    def on_picture(self, call: Take) -> None:
        """Have each converted picture told."""
        self._calls.append(call)

    def _arrived(self, picture: Picture) -> None:
        self._waiting = picture  # one that comes while another is made takes the place of what waits
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._convert())

    async def _convert(self) -> None:
        while (picture := self._waiting) is not None:
            self._waiting = None
            try:
                made = await aside(pictures.convert, picture, self._kind)
            except Unreadable as error:
                log.warning("a live picture is left out: %s", error)
                continue
            self._last = made
            for call in self._calls:
                call(made)


def make(settings: StreamSettings) -> Source:
    """Return the source of a stream.

    Raises:
        Unreadable: images cannot be used.
    """
    if settings.live is not None:
        from station.stills.live import Live  # not needed for lists, and it takes a while

        live = Live(settings.live, settings.ips, width=settings.width)
        return live if settings.kind == LIVE_KIND else Converting(live, settings.kind)
    if settings.testcard is not None:
        return Images(testcards(settings.testcard, settings.kind, settings.name))
    return Images(pictures.load([Path(image) for image in settings.images], settings.kind))


def make_all(streams: Iterable[StreamSettings]) -> dict[str, Source]:
    """Return the sources of streams by their keys.

    Raises:
        ConfigError: images cannot be used; the text names those of all streams.
    """
    found: dict[str, Source] = {}
    faults: dict[str, str] = {}
    for one in streams:
        try:
            found[one.key] = make(one)
        except Unreadable as error:
            faults |= {f"{one.key}: {name}": reason for name, reason in error.files.items()}
    if faults:
        raise ConfigError("options.streams", str(Unreadable(faults)))
    return found
