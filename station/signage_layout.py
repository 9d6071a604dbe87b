"""Text in boxes: the largest size at which it fits, broken at words, cut with an ellipsis as a last resort.

What is drawn never leaves its box: it is drawn on a mask of the box's size.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from station.signage_words import ELLIPSIS, clean, cut

REGULAR = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
BOLD = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"
"""Both from Debian's fonts-dejavu-core."""
SPACING = 1.22
"""Line to line, in font sizes; DejaVu's own ascent and descent are 1.16."""
MOST = 500
"""Characters of a text that are looked at: more never fit, and each costs time."""
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Fonts:
    """Paths of the two fonts of a picture."""

    regular: str = REGULAR
    bold: str = BOLD


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column that is not in it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row that is not in it."""
        return self.top + self.height

    def moved(self, across: int) -> Box:
        """Return the box so much further right."""
        return Box(self.left + across, self.top, self.width, self.height)

    def inner(self, across: int, down: int) -> Box:
        """Return the box without a margin."""
        return Box(self.left + across, self.top + down, max(1, self.width - 2 * across), max(1, self.height - 2 * down))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Lines of text of one font and size; `height` is that of all lines, in pixels."""

    lines: tuple[str, ...]
    font: str
    size: int
    is_cut: bool = False

    @property
    def pitch(self) -> int:
        """Pixels from line to line."""
        return round(self.size * SPACING)

    @property
    def height(self) -> int:
        """Pixels of all lines."""
        return self.pitch * len(self.lines)

    @property
    def width(self) -> int:
        """Pixels of the longest line."""
        return max((int(length(line, self.font, self.size)) + 1 for line in self.lines), default=0)


def fit(text: str, font: str, sizes: tuple[int, int], width: int, height: int, most: int) -> Fitted:
    """Break text into lines.

    Args:
        text: what to show; symbols that the font has not are left out.
        font: path of a TrueType font.
        sizes: largest and smallest size in pixels.
        width: of the box, in pixels.
        height: of the box; one line is always returned.
        most: how many lines at most.

    Returns:
        The lines at the largest size at which all of the text fits; at the smallest size, if it fits at none, with
        an ellipsis at the end.
    """
    shown = _showable(cut(clean(text), MOST), font)
    low, high = sizes[1], sizes[0]
    found = None
    while low <= high:
        size = (low + high) // 2
        lines = _wrap(shown, font, size, width)
        room = min(most, max(1, int(height // round(size * SPACING))))
        if len(lines) <= room:
            found, low = Fitted(tuple(lines), font, size), size + 1
        else:
            high = size - 1
    if found is not None:
        return Fitted(_balanced(shown, found, width), font, found.size)
    size = sizes[1]
    room = min(most, max(1, int(height // round(size * SPACING))))
    lines = _wrap(shown, font, size, width)
    last = " ".join(lines[room - 1 :])
    return Fitted((*lines[: room - 1], _cut_to(last, font, size, width)), font, size, is_cut=True)


def put(picture: Image.Image, fitted: Fitted, box: Box, colour: Colour, *, place: str = "start") -> None:
    """Draw lines from the top of a box; `place` is start, left, middle or right.

    `start` is where reading begins: right for a script that is written leftwards.
    """
    if not fitted.lines:
        return
    mask = Image.new("L", (box.width, box.height))
    draw = ImageDraw.Draw(mask)
    font = load(fitted.font, fitted.size)
    ascent = round(fitted.size * 0.97)
    for number, line in enumerate(fitted.lines):
        free = box.width - int(length(line, fitted.font, fitted.size))
        side = "right" if place == "start" and _leftwards(line) else place
        across = {"start": 0, "left": 0, "middle": free // 2, "right": free}[side]
        draw.text((max(0, across), ascent + number * fitted.pitch), line, fill=255, font=font, anchor="ls")
    picture.paste(colour, (box.left, box.top), mask)


@functools.lru_cache(maxsize=64)
def load(font: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font at a size in pixels. Raises OSError for a file that is none."""
    return ImageFont.truetype(font, size)


@functools.lru_cache(maxsize=4096)
def length(text: str, font: str, size: int) -> float:
    """Return the width of a line in pixels."""
    return float(load(font, size).getlength(text))


def _wrap(text: str, font: str, size: int, width: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if length(joined, font, size) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while len(word) > 1 and length(word, font, size) > width:
            end = _prefix(word, font, size, width)
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line] if line else lines


def _balanced(text: str, found: Fitted, width: int) -> tuple[str, ...]:
    """Break text into as many lines, of lengths as equal as they can be: no word is left alone in the last one."""
    low, high = width // 2, width
    while len(found.lines) > 1 and low < high:
        middle = (low + high) // 2
        fits = len(_wrap(text, found.font, found.size, middle)) <= len(found.lines)
        low, high = (low, middle) if fits else (middle + 1, high)
    return tuple(_wrap(text, found.font, found.size, high))


def _prefix(word: str, font: str, size: int, width: int) -> int:
    """Return how many characters of a word of two or more fill a line: at least one, a mark with its letter."""
    low, high = 1, len(word) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(word[:middle], font, size) <= width else (low, middle - 1)
    end = low
    while end > 1 and unicodedata.combining(word[end]):
        end -= 1
    return end if not unicodedata.combining(word[end]) else low


def _cut_to(text: str, font: str, size: int, width: int) -> str:
    """Return text with an ellipsis that fits a line."""
    low, high = 1, len(text) + 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = length(_ended(text, middle), font, size) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return _ended(text, low)


def _ended(text: str, longest: int) -> str:
    return cut(text + ELLIPSIS * 2, longest) if longest <= len(text) else text + ELLIPSIS


def _leftwards(line: str) -> bool:
    """Return whether a line is of a script that is written from right to left, by its first letter."""
    sides = (unicodedata.bidirectional(character) for character in line)
    return next((side for side in sides if side in ("L", "R", "AL")), "L") != "L"


def _showable(text: str, font: str) -> str:
    """Leave out symbols without a glyph: a box in place of a party hat tells nobody anything."""
    kept = (one for one in text if unicodedata.category(one)[0] not in "SC" or _has(font, one))
    return " ".join("".join(kept).split())


@functools.lru_cache(maxsize=4096)
def _has(font: str, character: str) -> bool:
    drawn = load(font, 16)
    return bytes(drawn.getmask(character)) != bytes(drawn.getmask("\U0010ffff"))
