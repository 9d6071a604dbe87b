"""Topics: the country of FM topics, and what a subscription to one stands for.

An FM topic is `/topic/fm/<country>/<pi>/<frequency>/<image|text>`: the country is a two-letter code (ISO 3166) or
the global country code (GCC), the first digit of the PI code followed by the extended country code (ECC). Tables:
ETSI TS 101 756 (ECC), ETSI TS 103 270 (names of bearers).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection

PREFIX = "/topic/fm/"
BROADCAST = "/topic/*/"
"""A SEND to this and a rest goes to every channel of the station, each followed by the rest."""
FEED = "/feed"
LOCK = "/lock/"
"""Destinations of the internal account: the log itself, and locks that one connection at a time holds."""

_FM = re.compile(r"/topic/fm/([^/]{2,3})/([^/]+)/([^/]+)/([^/]+)", re.ASCII)
_FORMAT = re.compile(r"/topic/fm/([0-9a-z]{2,3})/([0-9a-f]{4})/([0-9]{5}|\*)/([^/]+)", re.ASCII | re.IGNORECASE)

GetGcc = Callable[[str, str], Awaitable[str | None]]

ECC = {
    "ad": "e0", "ae": "d2", "al": "e0", "am": "e4", "at": "e0", "au": "f0", "az": "e3", "ba": "e4", "be": "e0",
    "bg": "e1", "br": "a2", "by": "e3", "ca": "a1", "ch": "e1", "cn": "f0", "cy": "e1", "cz": "e2", "de": "e0",
    "dk": "e1", "dz": "e0", "ee": "e4", "eg": "e0", "es": "e2", "fi": "e1", "fo": "e1", "fr": "e1", "gb": "e1",
    "ge": "e4", "gi": "e1", "gr": "e1", "hk": "f1", "hr": "e3", "hu": "e0", "ie": "e3", "il": "e0", "in": "f2",
    "iq": "e1", "is": "e2", "it": "e0", "jo": "e1", "jp": "f2", "kr": "f1", "lb": "e3", "li": "e2", "lt": "e2",
    "lu": "e1", "lv": "e3", "ly": "e1", "ma": "e2", "mc": "e2", "md": "e4", "me": "e3", "mk": "e3", "mt": "e0",
    "mx": "a5", "my": "f0", "nl": "e3", "no": "e2", "nz": "f1", "pl": "e2", "ps": "e0", "pt": "e4", "ro": "e1",
    "rs": "e2", "ru": "e0", "se": "e3", "sg": "f2", "si": "e4", "sk": "e2", "sm": "e1", "sy": "e2", "th": "f3",
    "tn": "e2", "tr": "e3", "ua": "e4", "uk": "e1", "us": "a0", "va": "e2", "za": "d0",
}  # fmt: skip
"""Extended country code by ISO 3166 code (ETSI TS 101 756, tables 3 to 7); used when the directory has none."""


def gcc(country: str, pi: str) -> str | None:
    """Return the global country code of a two-letter code and a PI code (`ch`, `c221` → `ce1`), or None."""
    ecc = ECC.get(country.lower())
    return pi[0].lower() + ecc if ecc and pi else None


def family(topic: str) -> str | None:
    """Return an FM topic with `*` as frequency, the name of all that match it; None for other topics."""
    if not topic.startswith(PREFIX):
        return None
    parts = topic.split("/")
    if len(parts) != 7:
        return None
    parts[5] = "*"
    return "/".join(parts)


async def convert(topic: str, get_gcc: GetGcc) -> str:
    """Return an FM topic (or a channel, the beginning of one) with its two-letter country as GCC.

    Args:
        topic: any topic; what is no FM topic, or has no country that is known, is returned unchanged.
        get_gcc: asked first; when it returns None, the table above is.
    """
    if not topic.startswith(PREFIX) or len(topic) < 18 or topic[12] != "/":
        return topic
    country, pi = topic[10:12], topic[13:].split("/", 1)[0]
    code = await get_gcc(country, pi) or gcc(country, pi)
    return f"{PREFIX}{code}/{topic[13:]}" if code else topic


async def resolve(destination: str, known: Callable[[], Awaitable[Collection[str]]], get_gcc: GetGcc) -> str | None:
    """Return the topic by which a subscription is matched, or None for an FM topic of another form.

    A known FM channel is subscribed to as it is; any other by all its frequencies, as receivers do not always know
    which one the station announces.

    Args:
        destination: what the client wrote, without white space around.
        known: returns the channels (each ends with "/").
        get_gcc: as in `convert`.
    """
    if not destination.startswith(PREFIX):
        return destination
    channels = await known()
    if destination.rpartition("/")[0] + "/" in channels and destination[12] != "/":
        return destination
    if not _FORMAT.fullmatch(destination):
        return None
    topic = await convert(destination, get_gcc)
    if topic.rpartition("/")[0] + "/" in channels:
        return topic
    return family(topic)
