"""Pictures, and descriptors of streams, among the event's files: that a program can use them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path as FilePath
from pathlib import PurePosixPath

from station.stills import descriptor as descriptors
from stationmaster.findings import Finding, listed
from stationmaster.rules.context import Context, Place, at, beside, label

_KINDS = {b"GIF8": "GIF", b"\xff\xd8\xff": "JPG", b"BM": "BMP", b"\x89PNG\r\n\x1a\n": "PNG"}
_CONVERTED = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WebP"}
"""How files begin."""


def pictures(context: Context) -> Iterator[Finding]:
    """A file that is to be shown begins like a picture; the program, which decodes it, would not start otherwise."""
    judged: dict[FilePath, str | None] = {}
    for place, path in _files(context, "x-picture"):
        if path not in judged:
            judged[path] = _kind(path)
        kind = judged[path]
        if kind is None:
            why = "is no picture; needed is GIF, JPG, BMP or PNG"
        elif kind in _CONVERTED.values() and beside(place, "type", 2) is None:
            why = f"is {kind}; give `type`, to which it is converted, or a file of GIF, JPG, BMP or PNG"
        else:
            continue
        yield at(place, f"{label(place)}: the file {place.value!r} {why}")


def descriptor_files(context: Context) -> Iterator[Finding]:
    """A descriptor can be read, and its pictures are where they will be looked for."""
    for place, path in _files(context, "x-descriptor"):
        try:
            made = descriptors.parse(path.read_text("utf-8", "surrogateescape"))
            known = made.method  # raises for one that there is not
        except (OSError, descriptors.DescriptorError) as error:
            yield at(place, f"{label(place)}: the descriptor {place.value!r} cannot be used: {error}")
            continue
        if known and not made.port and beside(place, "port") is None:
            message = (
                f"{label(place)}: the descriptor {place.value!r} has no Port: line; give `port` here, or write one"
            )
            yield at(place, message)
        lost = [] if beside(place, "images") else _not_brought(context, place, made.images)
        if lost or not (made.images or beside(place, "images")):
            why = f"its relative paths, {_some(lost)}, lead nowhere on the station" if lost else "it names no picture"
            message = (
                f"{label(place)}: the descriptor {place.value!r} is of no use: {why}; name pictures of the event's "
                "files as `images` beside it, or write absolute paths of the station into it"
            )
            yield at(place, message)


def _not_brought(context: Context, place: Place, images: tuple[str, ...]) -> list[str]:
    """Return relative paths that no option of the instance brings to the station."""
    row = context.catalogue.roles[place.instance.role]
    brought = {str(one.value) for one in context.annotated_of(place.station, place.instance, row, "x-file")}
    folder = PurePosixPath(place.value).parent
    return [image for image in images if not image.startswith("/") and str(folder / image) not in brought]


def _some(names: list[str], most: int = 5) -> str:
    return listed(names) if len(names) <= most else f"{listed(names[:most])} and {len(names) - most} more"


def _files(context: Context, annotation: str) -> Iterator[tuple[Place, FilePath]]:
    """Yield the event's files that an annotated option names; rule `files` tells what is not there."""
    root = FilePath(context.event.folder) / "files"
    for place in context.annotated(annotation):
        if isinstance(place.value, str) and not place.value.startswith("/") and (root / place.value).is_file():
            yield place, root / place.value


def _kind(path: FilePath) -> str | None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(16)
        return next((kind for magic, kind in {**_KINDS, **_CONVERTED}.items() if head.startswith(magic)), None)
    return None


RULES = (pictures, descriptor_files)
