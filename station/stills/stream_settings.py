"""What one stream was told, checked: by options, and by the descriptor that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from station.config import Config, ConfigError, Source, check_known, typed
from station.stills import descriptor as descriptors
from station.stills import pictures
from station.stills.descriptor import METHODS, Descriptor, DescriptorError

SLOWEST, FASTEST = 0.01, 100.0
"""Pictures per second of a stream."""
KEY = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9_-]{1,64}\Z")
"""Not digits only, which would be an id in an address."""
_SOURCES = ("images", "from", "testcard")
_OPTIONS = (*_SOURCES, "flux", "width", "id", "name", "type", "ips", "method", "port", "address", "room", "rtp")
_SIZES = {"width": (16, 4096), "height": (16, 4096), "pictures": (1, 1000)}
"""What a test card may be, in pixels and in number: a thousand pictures of the largest size are drawn in advance."""


@dataclass(frozen=True, slots=True)
class Testcard:
    """Numbered pictures in place of files; sizes in pixels."""

    width: int = 640
    height: int = 360
    pictures: int = 10


@dataclass(frozen=True, slots=True)
class Rtp:
    """RTP/JPEG by multicast: the group, its port, how many routers it may pass, bytes of a packet at most."""

    group: str
    port: int
    ttl: int = 1
    mtu: int = 1400


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One stream.

    `id` is -1 until one is given (`numbered`); `type` is the kind as it was written, "" for that of the files;
    `address` is told to clients, "" for the station's (the group of mcast_push). `live` is the resolved `from`,
    `width` that of its pictures in pixels, 0 for the source's.
    """

    key: str
    id: int = -1
    name: str = ""
    type: str = ""
    ips: float = 1.0
    method: str | None = None
    port: int = 0
    address: str = ""
    images: tuple[str, ...] = ()
    testcard: Testcard | None = None
    live: Source | None = None
    room: str | None = None
    rtp: Rtp | None = None
    width: int = 0

    @property
    def kind(self) -> str:
        """One of `pictures.KINDS`, "" where that of each file stays."""
        return pictures.normal(self.type)

    @property
    def protocol(self) -> str | None:
        """The method as the old catalogue names it."""
        return METHODS[self.method] if self.method else None


def read(config: Config, http_port: int = 0) -> list[StreamSettings]:
    """Return the streams of an instance, in order of their keys; `http_port` is taken already. Raises ConfigError."""
    tree = config.option("streams", dict)
    if not tree:
        raise ConfigError("options.streams", "is empty; needed is a stream")
    base = config.paths.context.parent
    made = [_stream(config, base, key, value) for key, value in sorted(tree.items())]
    return numbered(made, {("tcp", http_port): "http_port"} if http_port else {})


def numbered(
    streams: list[StreamSettings], others: Mapping[tuple[str, int], str] | None = None
) -> list[StreamSettings]:
    """Give those whose id is -1 one that is free, from their place in the list (counted from 1) on.

    Args:
        streams: the streams of one process.
        others: its further ports, by protocol (`tcp`, `udp`) and number, and whose they are.

    Raises:
        ConfigError: two streams have the same id, or the same port of the same protocol.
    """
    taken: dict[int, str] = {}
    ports = dict(others or {})
    for stream in streams:
        if stream.id in taken:
            raise ConfigError(_at(stream.key, "id"), f"is {stream.id}, as that of {taken[stream.id]}; give it another")
        if stream.id >= 0:
            taken[stream.id] = stream.key
        if stream.method and stream.method != "mcast_push":
            place = (stream.method[:3], stream.port)
            if place in ports:
                raise ConfigError(
                    _at(stream.key, "port"), f"is {stream.port}, as that of {ports[place]}; give it another"
                )
            ports[place] = stream.key
    found = []
    for number, stream in enumerate(streams, 1):
        if stream.id < 0:
            while number in taken:
                number += 1
            taken[number] = stream.key
            stream = replace(stream, id=number)
        found.append(stream)
    return found


def _at(key: str, name: str) -> str:
    return f"options.streams.{key}.{name}"


def _stream(config: Config, base: Path, key: str, tree: Any) -> StreamSettings:
    where = f"options.streams.{key}"
    if not KEY.match(key):
        raise ConfigError(where, "its name must be of letters, digits, _ and -, not of digits only")
    if not isinstance(tree, dict):
        raise ConfigError(where, "must be an object")
    prefix = where + "."
    check_known(tree, _OPTIONS, prefix=prefix)
    flux = typed(tree, "flux", str, "", prefix=prefix)
    known = [name for name in _SOURCES if tree.get(name) is not None]
    if len(known) > 1 or (flux and known not in ([], ["images"])) or not (flux or known):
        raise ConfigError(where, "needs one of images, flux, from and testcard (images may replace those of a flux)")
    live = None
    if reference := typed(tree, "from", str, "", prefix=prefix):
        live = config.sources.get(reference)
        if live is None:
            raise ConfigError(prefix + "from", f"{reference} is not among the sources; needed is `station/instance`")
    card = typed(tree, "testcard", dict, {}, prefix=prefix)
    testcard = None
    if "testcard" in known:
        testcard = _testcard(card, prefix + "testcard.")
    try:
        below = descriptors.read(base / flux) if flux else Descriptor()
        images = [str(descriptors.image_path(image, (base / flux).parent)) for image in below.images]
        method = typed(tree, "method", str, below.method or "", prefix=prefix) or None
    except DescriptorError as error:
        raise ConfigError(prefix + "flux", str(error)) from error
    if tree.get("images") is not None:
        named = typed(tree, "images", list, prefix=prefix)
        if not all(isinstance(image, str) and image for image in named):
            raise ConfigError(prefix + "images", "must be a list of files")
        images = [str(base / image) for image in named]
    if tree.get("port") is not None and method is None:
        raise ConfigError(
            prefix + "port", f"is {tree['port']!r}, and no method uses it; give `method`, or leave it out"
        )
    if tree.get("width") is not None and live is None:
        raise ConfigError(prefix + "width", "is for a stream that has `from`; pictures of files keep their size")
    return checked(
        StreamSettings(
            key=key,
            id=typed(tree, "id", int, below.id if below.numbered else -1, prefix=prefix),
            name=typed(tree, "name", str, below.name or key, prefix=prefix),
            type=typed(tree, "type", str, below.type or ("" if images else "JPG"), prefix=prefix),
            ips=typed(tree, "ips", float, below.ips, prefix=prefix),
            method=method,
            port=typed(tree, "port", int, below.port, prefix=prefix),
            address=typed(tree, "address", str, below.address, prefix=prefix),
            images=tuple(images),
            testcard=testcard,
            live=live,
            room=typed(tree, "room", str, config.room or "", prefix=prefix) or None,
            width=typed(tree, "width", int, 0, prefix=prefix),
            rtp=None if tree.get("rtp") is None else _rtp(typed(tree, "rtp", dict, prefix=prefix), prefix + "rtp."),
        )
    )


def checked(stream: StreamSettings) -> StreamSettings:
    """Return a stream as it is. Raises ConfigError for what cannot be."""
    key = stream.key
    if not stream.images and stream.testcard is None and stream.live is None:
        raise ConfigError(_at(key, "images"), "has no image; needed is one, or another source")
    if not -1 <= stream.id < 10**9:
        raise ConfigError(_at(key, "id"), f"is {stream.id}; needed is a whole number from 0")
    if not re.fullmatch(r"\S{1,64}", stream.name):
        raise ConfigError(_at(key, "name"), f"is {stream.name!r}; needed is one word")
    if not SLOWEST <= stream.ips <= FASTEST:
        raise ConfigError(
            _at(key, "ips"), f"is {stream.ips:g}; needed is {SLOWEST:g} to {FASTEST:g} pictures per second"
        )
    if stream.width and not 16 <= stream.width <= 7680:
        raise ConfigError(_at(key, "width"), f"is {stream.width}; needed is 16 to 7680 pixels")
    try:
        pictures.normal(stream.type)
    except ValueError as error:
        raise ConfigError(_at(key, "type"), str(error)) from error
    if stream.method is not None:
        if stream.method not in METHODS:
            raise ConfigError(_at(key, "method"), f"is {stream.method!r}; allowed are {', '.join(METHODS)}")
        if not stream.port:
            raise ConfigError(_at(key, "port"), f"is missing; {stream.method} needs one")
    port(stream.port, _at(key, "port"))
    if stream.method == "mcast_push":
        _group(stream.address, _at(key, "address"))
    return stream


def _testcard(tree: Mapping[str, Any], prefix: str) -> Testcard:
    check_known(tree, _SIZES, prefix=prefix)
    sizes = {name: typed(tree, name, int, getattr(Testcard(), name), prefix=prefix) for name in _SIZES}
    for name, (least, most) in _SIZES.items():
        if not least <= sizes[name] <= most:
            raise ConfigError(prefix + name, f"is {sizes[name]}; needed is {least} to {most}")
    return Testcard(**sizes)


def _rtp(tree: Mapping[str, Any], prefix: str) -> Rtp:
    check_known(tree, Rtp.__slots__, prefix=prefix)
    rtp = Rtp(
        group=_group(typed(tree, "group", str, prefix=prefix), prefix + "group"),
        port=port(typed(tree, "port", int, prefix=prefix), prefix + "port"),
        ttl=typed(tree, "ttl", int, 1, prefix=prefix),
        mtu=typed(tree, "mtu", int, 1400, prefix=prefix),
    )
    if not 0 <= rtp.ttl <= 255 or not 256 <= rtp.mtu <= 65000 or not rtp.port or rtp.port % 2:
        message = "needs a ttl of 0 to 255, an mtu of 256 to 65000, and an even port (RFC 3550; the next one is RTCP's)"
        raise ConfigError(prefix.rstrip("."), message)
    return rtp


def _group(text: str, key: str) -> str:
    try:
        if ip_address(text).is_multicast:
            return text
    except ValueError:
        pass
    raise ConfigError(key, f"is {text!r}; needed is a multicast group, such as 239.255.0.1 or ff15::1")


def port(number: int, key: str) -> int:
    """Return a port, 0 for none. Raises ConfigError."""
    if not 0 <= number < 65536:
        raise ConfigError(key, f"is {number}; needed is a port from 1 to 65535")
    return number
