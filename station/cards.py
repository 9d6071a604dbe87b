"""Title and credits: text laid out in lines that fit, and the ffmpeg filters that draw them.

Text reaches ffmpeg in files, one for each line, so that nothing in a talk's
title is ever read as a filter's syntax.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"
"""From Debian's fonts-dejavu-core."""
MARGIN = 0.08
"""Part of the width that stays free at each side: inside what television calls the title-safe area."""
SPACING = 1.3
"""Line to line, in font sizes."""
FADE = 0.4
"""Seconds in which a card comes and goes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What all parts of a film share: size in pixels, frames per second, the shape of a pixel."""

    width: int
    height: int
    rate: Fraction
    aspect: str = "1"


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one size. `size` is the largest wanted, as a part of the picture's height; `lines` how many at most."""

    text: str
    size: float
    lines: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line to draw: pixels from the top, and the font's size in pixels."""

    text: str
    size: int
    top: int


def lay_out(blocks: Sequence[Block], picture: Picture) -> list[Line]:
    """Break the blocks' text into lines that fit the picture, centred in its height as a whole."""
    set_lines: list[tuple[str, int]] = []
    for block in blocks:
        set_lines += _fit(block, picture)
    total = sum(size * SPACING for _, size in set_lines)
    scale = min(1.0, picture.height * (1 - 2 * MARGIN) / total) if total else 1.0
    top = (picture.height - total * scale) / 2
    lines = []
    for text, size in set_lines:
        if text:
            lines.append(Line(text, max(6, int(size * scale)), int(top)))
        top += size * SPACING * scale
    return lines


def _fit(block: Block, picture: Picture) -> list[tuple[str, int]]:
    paragraphs = [_clean(text) for text in block.text.split("\n")]
    if not any(paragraphs):
        return []
    room = picture.width * (1 - 2 * MARGIN)
    size = block.size * picture.height
    smallest = max(6.0, size / 3)
    while True:
        lines = [line for text in paragraphs for line in _wrap(text, room / size)]
        if len(lines) <= block.lines or size <= smallest:
            break
        size *= 0.9
    if len(lines) > block.lines:
        lines = [*lines[: block.lines - 1], lines[block.lines - 1] + "…"]
    return [(line, int(size)) for line in lines] + [("", int(size * 0.5))]


def _clean(text: str) -> str:
    """Spaces for control characters and runs of white space; a font has no glyph for them."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _wrap(text: str, room: float) -> list[str]:
    """Lines of at most `room` widths of an em, broken at spaces where that is possible."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if _width(joined) <= room:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and _width(lines[-1] + character) > room:
                lines.append("")
            lines[-1] += character
    return lines


def _width(text: str) -> float:
    """Width in ems, rather too much than too little; from the advance widths of DejaVu Sans Bold."""
    total = 0.0
    for character in text:
        if unicodedata.combining(character):
            continue
        if unicodedata.east_asian_width(character) in "WF" or character in "mwMW@%—…":
            total += 1.1
        elif character in "fijlrtI.,:;'!|()[] ":
            total += 0.5
        elif character.isupper():
            total += 0.85
        else:
            total += 0.72
    return total


def draw(lines: Sequence[Line], folder: Path, name: str, font: str, colour: str) -> list[str]:
    """Write each line's text into `folder` and return the drawtext filters, to be run with that working directory."""
    filters = []
    for number, line in enumerate(lines):
        file = f"{name}-{number}.txt"
        (folder / file).write_text(line.text, encoding="utf-8")
        filters.append(
            f"drawtext=fontfile={escape(font)}:textfile={file}:expansion=none:fontsize={line.size}"
            f":fontcolor={colour}:x=(w-text_w)/2:y={line.top}"
        )
    return filters


def escape(value: str) -> str:
    r"""Quote a value of a filter's option: once for the option, once more for the graph (ffmpeg-filters, "Notes on
    filtergraph escaping")."""
    option = "".join("\\" + c if c in "\\':" else c for c in value)
    return "".join("\\" + c if c in "\\'[],; \t" else c for c in option)
