"""The pictures of a sign, drawn with Pillow: the room, a card for now, a card for next, or the crew's own words.

The same content gives the same bytes. There is no clock and nothing that moves: a picture holds for as long as its
view does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageDraw

from station.signage_layout import Box, Colour, Fitted, Fonts, fit, put
from station.signage_view import View

LARGEST_RADIO = 50_000
"""Bytes of a radio's picture: what the field advises for RadioVIS slides."""
BACKGROUND: Colour = (11, 18, 32)
PANEL: Colour = (24, 36, 60)
QUIET: Colour = (16, 26, 45)
TEXT: Colour = (255, 255, 255)
MUTED: Colour = (178, 192, 216)
ACCENT: Colour = (45, 212, 191)
NOTICE: Colour = (255, 183, 3)
INK: Colour = (26, 19, 0)
"""Each text has at least 7:1 to what is behind it (WCAG 2.1, 1.4.6)."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the crew writes on a sign: its text, and until when, as it is told."""

    room: str
    event: str
    text: str
    until: str = ""


@dataclass(frozen=True, slots=True)
class Style:
    """Measures of one kind of picture, in pixels; of a pair of sizes the first is the largest."""

    width: int
    height: int
    margin: int
    header: int
    gap: int
    pad: int
    stripe: int
    room: tuple[int, int]
    event: tuple[int, int]
    label: int
    title: tuple[int, int]
    people: tuple[int, int]
    next_height: int
    next_title: tuple[int, int]
    next_people: tuple[int, int]
    colours: int


SCREEN = Style(
    width=1920, height=1080, margin=72, header=84, gap=30, pad=52, stripe=14, room=(66, 40), event=(38, 28), label=42,
    title=(108, 46), people=(48, 36), next_height=290, next_title=(60, 38), next_people=(36, 32), colours=128,
)  # fmt: skip
RADIO = Style(
    width=320, height=240, margin=10, header=24, gap=6, pad=10, stripe=4, room=(18, 13), event=(12, 11), label=12,
    title=(27, 14), people=(14, 12), next_height=72, next_title=(16, 13), next_people=(12, 11), colours=64,
)  # fmt: skip


def draw(content: View | Notice, style: Style, fonts: Fonts) -> bytes:
    """Draw a picture.

    Args:
        content: what is on it.
        style: `SCREEN` (1920x1080) or `RADIO` (320x240).
        fonts: whose glyphs.

    Returns:
        A PNG; that of a radio is a JPEG if the PNG would be larger than LARGEST_RADIO.

    Raises:
        OSError: a font cannot be read.
    """
    sheet = _Sheet(style, fonts, NOTICE if isinstance(content, Notice) else BACKGROUND)
    if isinstance(content, Notice):
        sheet.notice(content)
    elif content.state == "none":
        sheet.welcome(content.room, content.event)
    else:
        sheet.header(content.room, content.event)
        sheet.cards(content)
    return _encode(sheet.picture, style)


class _Sheet:
    def __init__(self, style: Style, fonts: Fonts, colour: Colour) -> None:
        self.picture = Image.new("RGB", (style.width, style.height), colour)
        self._style = style
        self._fonts = fonts
        self._all = Box(0, 0, style.width, style.height).inner(style.margin, style.margin)

    def header(self, room: str, event: str) -> None:
        style, box = self._style, Box(self._all.left, self._all.top, self._all.width, self._style.header)
        title = self._fit(room, True, style.room, box.width * (6 if event else 10) // 10, box.height, 1)
        put(self.picture, title, box, TEXT, place="left")
        free = box.width - title.width - style.pad
        if event and free > box.width // 5:
            told = self._fit(event, False, style.event, free, box.height, 1)
            # on one base line with the room
            drop = round(0.97 * (title.size - told.size))
            put(
                self.picture, told, Box(box.right - free, box.top + drop, free, box.height - drop), MUTED, place="right"
            )

    def cards(self, view: View) -> None:
        style = self._style
        top = self._all.top + style.header + style.gap // 2
        whole = Box(self._all.left, top, self._all.width, self._all.bottom - top)
        two = view.state in ("now", "after") and bool(view.next_title)
        upper = whole
        if two:
            upper = Box(whole.left, whole.top, whole.width, whole.height - style.next_height - style.gap)
            lower = Box(whole.left, upper.bottom + style.gap, whole.width, style.next_height)
            self._card(lower, QUIET, MUTED)
            self._small(lower, "NEXT", view.next_at, view.next_title, view.next_people)
        self._card(upper, PANEL, ACCENT)
        if view.state == "now":
            self._large(upper, "NOW", f"until {view.until}", view.title, view.people, loud=1)
        elif view.state == "after":
            self._middle(upper, "Thank you", f"for coming to {view.event}" if view.event else "", TEXT, MUTED)
        else:
            label = "FIRST TALK" if view.state == "before" else "NEXT"
            self._large(upper, label, view.next_at, view.next_title, view.next_people, loud=2)

    def welcome(self, room: str, event: str) -> None:
        style = self._style
        card = self._all
        self._card(card, PANEL, ACCENT)
        self._middle(card, room, event, TEXT, MUTED, largest=style.title[0] * 3 // 2)

    def notice(self, notice: Notice) -> None:
        style = self._style
        frame = max(2, style.stripe)
        drawing = ImageDraw.Draw(self.picture)
        drawing.rectangle((0, 0, style.width - 1, style.height - 1), outline=INK, width=frame)
        row = Box(self._all.left + frame, self._all.top + frame // 2, self._all.width - 2 * frame, style.header)
        if notice.until:
            until = self._fit(f"until {notice.until}", False, style.people, row.width // 2, row.height, 1)
            put(self.picture, until, row, INK, place="right")
        room = self._fit(notice.room, True, style.room, row.width // 2, row.height, 1)
        put(self.picture, room, row, INK, place="left")
        body = Box(row.left, row.bottom, row.width, self._all.bottom - row.bottom)
        largest = style.title[0] * 3 // 2
        text = self._fit(notice.text, True, (largest, style.next_title[1] - 1), body.width, body.height, 12)
        put(self.picture, text, _centred(body, text.height), INK, place="middle")

    def _fit(self, text: str, bold: bool, sizes: tuple[int, int], width: int, height: int, most: int) -> Fitted:
        return fit(text, self._fonts.bold if bold else self._fonts.regular, sizes, width, height, most)

    def _card(self, box: Box, colour: Colour, stripe: Colour) -> None:
        drawing = ImageDraw.Draw(self.picture)
        drawing.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=colour)
        drawing.rectangle((box.left, box.top, box.left + self._style.stripe - 1, box.bottom - 1), fill=stripe)

    def _inner(self, card: Box) -> Box:
        style = self._style
        down = style.pad * 3 // 4
        return (
            Box(card.left, card.top, card.width - style.stripe, card.height).inner(style.pad, down).moved(style.stripe)
        )

    def _label(self, box: Box, label: str, time: str, *, loud: int) -> int:
        """Draw the first row of a card, the time `loud` times as large as the label if not 0; return its height."""
        style = self._style
        word = self._fit(label, True, (style.label, style.label), box.width, style.label * 2, 1)
        size = round(style.label * (1.25 if loud < 2 else 1.75))
        high = round(size * 1.28)
        wide = word.width
        drop = (high - word.pitch) // 2
        if loud:
            tall = round(style.label * 1.6)
            top = box.top + (high - tall) // 2
            pill = (box.left, top, box.left + word.width + style.label - 1, top + tall - 1)
            ImageDraw.Draw(self.picture).rounded_rectangle(pill, radius=tall // 2, fill=ACCENT)
            wide += style.label
        shift = style.label // 2 if loud else 0
        row = Box(box.left + shift, box.top + drop, wide, high - drop)
        put(self.picture, word, row, BACKGROUND if loud else ACCENT, place="left")
        left = box.left + wide + style.label // 2
        told = self._fit(time, True, (size, style.label), box.right - left, high, 1)
        drop = (high - told.pitch) // 2
        row = Box(left, box.top + drop, box.right - left, high - drop)
        put(self.picture, told, row, TEXT, place="right" if loud else "left")
        return high

    def _large(self, card: Box, label: str, time: str, title: str, people: str, *, loud: int) -> None:
        style, box = self._style, self._inner(card)
        top = box.top + self._label(box, label, time, loud=loud) + style.gap // 2
        free = box.bottom - top
        most = 2 if free > style.people[0] * 9 else 1
        names = self._fit(people, False, style.people, box.width, free // 3, most)
        space = style.gap // 2 if names.lines else 0
        words = self._fit(title, True, style.title, box.width, free - names.height - space, 5)
        start = top + (free - words.height - space - names.height) // 2
        put(self.picture, words, Box(box.left, start, box.width, words.height), TEXT)
        start += words.height + space
        put(self.picture, names, Box(box.left, start, box.width, max(1, names.height)), MUTED)

    def _small(self, card: Box, label: str, time: str, title: str, people: str) -> None:
        style, box = self._style, self._inner(card)
        top = box.top + self._label(box, label, time, loud=0)
        free = box.bottom - top
        names = self._fit(people, False, style.next_people, box.width, style.next_people[0] * 2, 1)
        words = self._fit(title, True, style.next_title, box.width, free - names.height, 2)
        if names.lines and words.is_cut:
            # the title tells more than names do
            names = self._fit("", False, style.next_people, 1, 1, 1)
            words = self._fit(title, True, style.next_title, box.width, free, 2)
        start = top + max(0, free - words.height - names.height) // 2
        put(self.picture, words, Box(box.left, start, box.width, words.height), TEXT)
        if names.lines:
            put(self.picture, names, Box(box.left, start + words.height, box.width, names.height), MUTED)

    def _middle(
        self, card: Box, title: str, below: str, colour: Colour, quiet: Colour, largest: int | None = None
    ) -> None:
        style, box = self._style, self._inner(card)
        sizes = (largest or style.title[0], style.title[1])
        words = self._fit(title, True, sizes, box.width, box.height * 2 // 3, 3)
        rest = self._fit(below, False, style.people, box.width, box.height - words.height - style.gap, 2)
        space = style.gap if rest.lines else 0
        start = box.top + (box.height - words.height - space - rest.height) // 2
        put(self.picture, words, Box(box.left, start, box.width, words.height), colour)
        put(self.picture, rest, Box(box.left, start + words.height + space, box.width, max(1, rest.height)), quiet)


def _centred(box: Box, height: int) -> Box:
    return Box(box.left, box.top + max(0, (box.height - height) // 2), box.width, min(box.height, height))


def _encode(picture: Image.Image, style: Style) -> bytes:
    # all colours are blends of a few: a palette holds them, without dots
    few = picture.quantize(style.colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    data = _saved(few, "PNG", compress_level=6)
    if style is RADIO and len(data) > LARGEST_RADIO:
        return small_jpeg(picture)
    return data


def small_jpeg(picture: Image.Image) -> bytes:
    """Return a picture as the best JPEG of at most LARGEST_RADIO bytes."""
    for quality in (85, 70, 55, 40, 25):
        data = _saved(picture, "JPEG", quality=quality, optimize=True)
        if len(data) <= LARGEST_RADIO:
            break
    return data


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
