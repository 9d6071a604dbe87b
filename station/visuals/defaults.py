"""Default visuals: which channels have some, and the messages that show them."""

from __future__ import annotations

import time
import urllib.parse
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from station.visuals import conditional, topics
from station.visuals.directory import Directory
from station.visuals.message import Message, new
from station.visuals.silence import Silence


@dataclass(frozen=True, slots=True)
class Default:
    """What a silent channel shows; the picture is an absolute URL."""

    picture: str | None
    text: str | None
    link: str | None


class Defaults(Protocol):
    """Where channels and their default visuals come from."""

    async def watched(self) -> Mapping[str, str]:
        """Return the channels with default visuals: topic (converted, ends with "/") to the key for `default`."""

    async def default(self, key: str) -> Default | None:
        """Return a channel's default visuals, None for a channel that is to be left alone."""


class Listed:
    """The defaults of a directory's listing."""

    def __init__(self, directory: Directory, picture_base: str = "") -> None:
        """`picture_base` is put before pictures that are no absolute URL."""
        self._directory = directory
        self._base = picture_base
        self._found: dict[str, Default] = {}

    async def watched(self) -> Mapping[str, str]:
        """Return the channels that have a picture or a text."""
        found = {}
        for channel in self._directory.listing().channels:
            picture = place(channel.picture, self._base)
            if picture or channel.text:
                topic = await topics.convert(channel.topic, self._directory.gcc)
                found[topic] = Default(picture, channel.text, channel.link)
        self._found = found
        return {topic: topic for topic in found}

    async def default(self, key: str) -> Default | None:
        """Return what the listing said at the last `watched`."""
        return self._found.get(key)


def place(picture: str | None, base: str) -> str | None:
    """Return the absolute URL of a picture, None where there is none."""
    if not picture:
        return None
    if urllib.parse.urlsplit(picture).scheme in ("http", "https"):
        return picture
    return base + picture if base else None


def messages(channel: str, default: Default, known: Silence, silence: float) -> list[Message]:
    """Return the messages that show a default: its text, then its picture.

    Args:
        channel: its topic, ends with "/".
        default: what to show.
        known: what the sender knows of the log.
        silence: seconds of silence after which defaults are shown.
    """
    bodies = {"text": f"TEXT {default.text}" if default.text else "", "image": ""}
    bodies["image"] = f"SHOW {default.picture}" if default.picture else ""
    last = {}
    for kind in bodies:
        found = known.newest(channel + kind)
        last[channel + kind] = found[0] if found else ""
    result = []
    for kind, body in bodies.items():
        if body:
            headers = {
                "trigger-time": "NOW",
                "link": " ".join((default.link or "").split()),
                "message-id": str(uuid.uuid4().int),
                "expires": "0",
                "priority": "0",
                "timestamp": str(int(time.time() * 1000)),
                conditional.HEADER: conditional.condition(silence, last),
            }
            message = new(channel + kind, body.encode(), headers)
            last[message.topic] = message.id  # the picture follows our own text
            result.append(message)
    return result
