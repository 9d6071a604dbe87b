"""Pictures as bytes of a kind, read, checked and converted with Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

KINDS = ("GIF", "JPG", "BMP", "PNG")
"""The kinds of the protocol; JPEG is another word for JPG."""
MEDIA_TYPES = {"GIF": "image/gif", "JPG": "image/jpeg", "BMP": "image/bmp", "PNG": "image/png"}
QUALITY = 90
"""Of JPG that is converted from something else; 75, Pillow's own, shows at the edges of slides' letters."""
_FORMATS = {"GIF": "GIF", "JPG": "JPEG", "BMP": "BMP", "PNG": "PNG"}
_READ = {"GIF": "GIF", "JPEG": "JPG", "MPO": "JPG", "BMP": "BMP", "PNG": "PNG"}
"""Pillow's names; an MPO, which some phones and cameras write, is a JPG with more behind it."""
_MODES = {
    "JPG": ("L", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P"),
    "PNG": ("1", "L", "P", "RGB", "RGBA"),
}
_NAMED = 20
"""Files that an error names."""


class Unreadable(Exception):
    """Pictures that cannot be used: `files` holds their names, with the reason of each."""

    def __init__(self, files: dict[str, str]) -> None:
        named = [f"{name}: {reason}" for name, reason in list(files.items())[:_NAMED]]
        if len(files) > _NAMED:
            named.append(f"and {len(files) - _NAMED} more")
        count = "1 picture" if len(files) == 1 else f"{len(files)} pictures"
        super().__init__(f"{count} cannot be used, mend or leave out: {'; '.join(named)}")
        self.files = files


@dataclass(frozen=True)
class Picture:
    """One picture of a stream.

    `number` counts from 0, `kind` is one of KINDS, `when` the seconds since 1970 at which it became the current one
    (0.0 in a list).
    """

    number: int
    kind: str
    data: bytes
    when: float = 0.0

    @cached_property
    def frame(self) -> bytes:
        """The form in which TCP carries it; made once, for it goes to every client."""
        return b"%d\r\n%d\r\n%b" % (self.number, len(self.data), self.data)


def normal(kind: str) -> str:
    """Return one of KINDS for a word of any case, "" for "".

    Raises:
        ValueError: there is no such kind.
    """
    word = kind.upper()
    if word in ("JPEG", *KINDS, ""):
        return "JPG" if word == "JPEG" else word
    raise ValueError(f"{kind!r} is no kind of picture; allowed are GIF, JPG, JPEG, BMP and PNG")


def load(paths: Sequence[Path], kind: str = "") -> list[Picture]:
    """Return the pictures of files, each decoded once to be sure that it can be shown.

    Args:
        paths: the files, in the order of their numbers.
        kind: one of KINDS that all are to be of; "" leaves each as it is.

    Raises:
        Unreadable: with every file that cannot be used.
    """
    pictures: list[Picture] = []
    faults: dict[str, str] = {}
    for number, path in enumerate(paths):
        try:
            pictures.append(check(number, path.read_bytes(), kind))
        except OSError as error:
            faults[str(path)] = (error.strerror or str(error)).lower()
        except ValueError as error:
            faults[str(path)] = str(error)
    if faults:
        raise Unreadable(faults)
    return pictures


def check(number: int, data: bytes, kind: str = "", when: float = 0.0) -> Picture:
    """Return bytes as a picture, of another kind if that is asked for.

    Raises:
        ValueError: it cannot be decoded, or is of a kind that must be converted while `kind` is "".
    """
    if not data:
        raise ValueError("is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            found = _READ.get(image.format or "", "")
            image.load()
            if found and kind in ("", found):
                return Picture(number, found, data, when)
            if not kind:
                raise ValueError(f"is {image.format}; give the stream a type, or a file of GIF, JPG, BMP or PNG")
            return Picture(number, kind, _encoded(image, kind), when)
    except (OSError, SyntaxError, EOFError, OverflowError, MemoryError, Image.DecompressionBombError) as error:
        # what Pillow raises for damaged files; its own words name no file and are short
        reason = "is no picture" if isinstance(error, UnidentifiedImageError) else f"is damaged: {error}"
        raise ValueError(reason) from error


def convert(picture: Picture, kind: str) -> Picture:
    """Return a picture in another kind; number and time stay.

    Raises:
        Unreadable: it cannot be decoded.
    """
    if picture.kind == kind:
        return picture
    try:
        return check(picture.number, picture.data, kind, picture.when)
    except ValueError as error:
        raise Unreadable({f"picture {picture.number}": str(error)}) from error


def size(picture: Picture) -> tuple[int, int]:
    """Return width and height in pixels. Raises Unreadable."""
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            return int(image.width), int(image.height)
    except OSError as error:
        raise Unreadable({f"picture {picture.number}": "is damaged"}) from error


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image; one of 16 bits of grey with 8, of which Pillow would show all but the darkest 256th as white."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def _encoded(image: Image.Image, kind: str) -> bytes:
    # a camera's JPG may lie on its side and say so where other kinds have no place for it
    image = ImageOps.exif_transpose(image) or image
    if kind != "PNG" and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        below = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    image = eight_bits(image)
    if image.mode not in _MODES[kind]:
        alpha = kind == "PNG" and image.mode in ("LA", "PA")
        image = image.convert("RGBA" if alpha else "RGB")
        if kind == "GIF":
            image = image.quantize(256)
    out = io.BytesIO()
    image.save(out, _FORMATS[kind], **({"quality": QUALITY} if kind == "JPG" else {}))
    return out.getvalue()
