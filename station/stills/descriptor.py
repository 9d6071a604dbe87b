"""Descriptors of streams: the text files that other servers of the protocol, and their catalogues, read and write.

An item stands on a line of two words, `ID: 3`; a line of one word is the path of an image; other lines say nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from station import files

log = logging.getLogger(__name__)
METHODS = {
    "tcp_push": "TCP_PUSH",
    "tcp_pull": "TCP_PULL",
    "udp_push": "UDP_PUSH",
    "udp_pull": "UDP_PULL",
    "mcast_push": "MCAST_PUSH",
}
"""The old methods, as options name them, and as the protocol does."""


class DescriptorError(Exception):
    """A descriptor that cannot be read or written; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A stream as a file tells it; the defaults are those of the reference.

    `ips` is pictures per second; `numbered` says whether the ID was there.
    """

    id: int = 0
    name: str = ""
    type: str = ""
    address: str = ""
    port: int = 0
    protocol: str = ""
    ips: float = 1.0
    images: tuple[str, ...] = ()
    numbered: bool = False

    @property
    def method(self) -> str | None:
        """The method as options name it; None where the descriptor has none.

        Raises:
            DescriptorError: there is no such protocol.
        """
        if not self.protocol:
            return None
        for method, protocol in METHODS.items():
            if protocol == self.protocol.upper():
                return method
        raise DescriptorError(f"Protocol: {self.protocol!r} is unknown; allowed are {', '.join(METHODS.values())}")


_ITEMS = {
    "ID:": ("id", int),
    "Name:": ("name", str),
    "Type:": ("type", str),
    "Address:": ("address", str),
    "Port:": ("port", int),
    "Protocol:": ("protocol", str),
    "IPS:": ("ips", float),
}
"""In the order in which they are written."""


def parse(text: str) -> Descriptor:
    """Return what the text of a descriptor says.

    Args:
        text: the whole file, lines ended by LF or CRLF.

    Raises:
        DescriptorError: a number that is none; the text names the line.
    """
    values: dict[str, int | float | str] = {}
    images: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.rstrip("\r").split(" ")
        if len(words) == 1 and words[0] and words[0] not in _ITEMS:
            images.append(words[0].replace("\\", "/"))
        elif len(words) == 2 and words[0] in _ITEMS and words[1]:
            name, kind = _ITEMS[words[0]]
            try:
                values[name] = kind(words[1])
            except ValueError as error:
                needed = "a whole number" if kind is int else "a number"
                raise DescriptorError(f"line {number}: {words[0]} is {words[1]!r}; needed is {needed}") from error
    return Descriptor(images=tuple(images), numbered="id" in values, **values)  # type: ignore[arg-type]


def silent(text: str) -> list[tuple[int, str]]:
    """Return the lines of a descriptor that say nothing to anybody, with their numbers; comments (`#`) are meant to."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.rstrip("\r").split(" ")
        item = words[0] in _ITEMS and (len(words) == 1 or len(words) == 2)
        if len(words) > 1 and not item and line.strip() and not line.startswith("#"):
            found.append((number, line.strip()))
    return found


def read(path: Path) -> Descriptor:
    """Return what a descriptor says; lines that say nothing are logged.

    Raises:
        DescriptorError: the file cannot be read, or holds what is no descriptor; the text names it.
    """
    try:
        # a path may hold any byte
        text = path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise DescriptorError(f"{path}: cannot be read: {error.strerror}") from error
    if "\0" in text:
        raise DescriptorError(f"{path}: is no descriptor: it is no text")
    for number, line in silent(text):
        items = " ".join(_ITEMS)
        log.warning(
            "%s: line %d: %r says nothing; needed is one of %s and a word, or a path of one word",
            path,
            number,
            line,
            items,
        )
    try:
        return parse(text)
    except DescriptorError as error:
        raise DescriptorError(f"{path}: {error}") from error


def text(descriptor: Descriptor) -> str:
    """Return the text of a descriptor, in the order of the reference.

    Raises:
        DescriptorError: a name or a path that is not one word, which nobody could read back.
    """
    for what in (descriptor.name, descriptor.type, descriptor.address, *descriptor.images):
        if any(character.isspace() for character in what):
            raise DescriptorError(f"{what!r} has a space, which a descriptor cannot hold; rename it")
    lines = [f"{item} {getattr(descriptor, name)}" for item, (name, _) in _ITEMS.items()]
    return "\n".join([*lines, *descriptor.images]) + "\n"


def write(path: Path, descriptor: Descriptor) -> None:
    """Write a descriptor's file.

    Raises:
        DescriptorError: it cannot be written; the text names the file.
    """
    try:
        content = text(descriptor).encode("utf-8", "surrogateescape")
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe or a device has no file beside it
        else:
            files.write(path, content, mode=0o644)
    except OSError as error:
        raise DescriptorError(f"{path}: cannot be written: {error.strerror}") from error


def image_path(image: str, folder: Path) -> Path:
    """Return the file that a descriptor means by an image.

    Args:
        image: a path as the descriptor has it.
        folder: where the descriptor is: a relative path counts from there, or else, as in the reference, from the
            working directory.
    """
    below = folder / image
    return below if below.exists() else Path(image)
