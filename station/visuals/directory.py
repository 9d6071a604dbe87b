"""Who may log in, and which channels there are.

The shape of the option `broadcasters` is the same wherever it comes from: this instance's configuration
(`Local`), our manager, or the original one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from station.config import ConfigError
from station.visuals import topics
from station.visuals.passwords import Checker

NO_STATION = "No station"
WRONG_USERNAME = "Wrong username"
WRONG_PASSWORD = "Wrong password"  # noqa: S105 - the text of an error
IP_NOT_ALLOWED = "IP not allowed"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a broadcaster. `topic` ends with "/"; `station` is the broadcaster's id, `id` unique among all.

    `picture`, `text` and `link` are the default visuals; without a picture it has none.
    """

    topic: str
    id: str
    name: str
    station: str
    picture: str | None = None
    text: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Broadcaster:
    """Somebody who may send: passwords by user name, networks it may come from (none: any), and its channels."""

    id: str
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    networks: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """All broadcasters, by id."""

    broadcasters: Mapping[str, Broadcaster] = field(default_factory=dict)

    @property
    def channels(self) -> list[Channel]:
        """The channels of all broadcasters."""
        return [channel for broadcaster in self.broadcasters.values() for channel in broadcaster.channels]

    @classmethod
    def from_json(cls, tree: Any, key: str = "options.broadcasters") -> Listing:
        """Read the shape of the option `broadcasters`.

        Raises:
            ConfigError: something has another form; the error names the key and never holds a password.
        """
        return cls({name: _broadcaster(name, value, f"{key}.{name}") for name, value in _object(tree, key).items()})

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            broadcaster.id: {
                "users": dict(broadcaster.users),
                "networks": list(broadcaster.networks),
                "channels": [
                    {
                        key: value
                        for key in ("topic", "id", "name", "picture", "text", "link")
                        if (value := getattr(channel, key)) is not None
                    }
                    for channel in broadcaster.channels
                ],
            }
            for broadcaster in self.broadcasters.values()
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a login: `station` is the broadcaster's id, `error` why it was refused (for the log)."""

    ok: bool
    station: str | None = None
    error: str = ""


class Directory(Protocol):
    """Where broadcasters and channels come from; answers from what it knows while its source is away."""

    def listing(self) -> Listing:
        """Return all that is known now."""

    async def check(self, login: str, passcode: str, address: str) -> Verdict:
        """Judge a login `<station id>.<name>` from an address."""

    async def channels(self, station: str) -> list[str]:
        """Return the topics (each ends with "/") that a broadcaster may send to."""

    async def known(self) -> Collection[str]:
        """Return the topics of channels that have a default picture."""

    async def gcc(self, country: str, pi: str) -> str | None:
        """Return the global country code of a two-letter country code and a PI code, or None."""

    async def run(self) -> None:
        """Keep itself fresh until cancelled."""


class Local:
    """The broadcasters of the instance's own configuration."""

    def __init__(self, listing: Listing, checker: Checker | None = None) -> None:
        self._listing = listing
        self._checker = checker or Checker()
        self._known = frozenset(channel.topic for channel in listing.channels if channel.picture)

    def listing(self) -> Listing:
        """Return what the configuration says."""
        return self._listing

    async def check(self, login: str, passcode: str, address: str) -> Verdict:
        """Judge a login; see `judge`."""
        return await judge(self._listing, self._checker, login, passcode, address)

    async def channels(self, station: str) -> list[str]:
        """Return the topics of a broadcaster; none for one that is not there."""
        broadcaster = self._listing.broadcasters.get(station)
        return [channel.topic for channel in broadcaster.channels] if broadcaster else []

    async def known(self) -> Collection[str]:
        """Return the topics of channels that have a default picture."""
        return self._known

    async def gcc(self, country: str, pi: str) -> str | None:
        """Return what the table of ETSI TS 101 756 says."""
        return topics.gcc(country, pi)

    async def run(self) -> None:
        """Wait for ever: the configuration changes with a restart only."""
        await asyncio.Event().wait()


async def judge(listing: Listing, checker: Checker, login: str, passcode: str, address: str) -> Verdict:
    """Judge a login by a listing, as every directory that holds the passwords does.

    Args:
        listing: the broadcasters.
        checker: verifies passwords and remembers those that were right.
        login: `<station id>.<name>`.
        passcode: the password as the client gave it.
        address: the client's IP address; "" is not checked.
    """
    station, _, name = login.partition(".")
    broadcaster = listing.broadcasters.get(station)
    if broadcaster is None:
        return Verdict(False, error=NO_STATION)
    stored = broadcaster.users.get(name)
    if stored is None:
        return Verdict(False, error=WRONG_USERNAME)
    if address and broadcaster.networks and not _within(address, broadcaster.networks):
        return Verdict(False, error=IP_NOT_ALLOWED)
    if not await checker.check(passcode, stored):
        return Verdict(False, error=WRONG_PASSWORD)
    return Verdict(True, station)


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        peer = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    peer = getattr(peer, "ipv4_mapped", None) or peer
    return any(peer in ipaddress.ip_network(network, strict=False) for network in networks)


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(key, "must be an object")
    return value


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(key, "must be a list of strings")
    return value


def _broadcaster(name: str, value: Any, key: str) -> Broadcaster:
    if not name or "." in name:
        raise ConfigError(key, "the id of a broadcaster must not be empty nor hold a dot: a login is `<id>.<name>`")
    tree = _object(value, key)
    if unknown := set(tree) - {"users", "networks", "channels"}:
        raise ConfigError(f"{key}.{min(unknown)}", "is unknown; known are users, networks and channels")
    users = _object(tree.get("users", {}), key + ".users")
    for user, password in users.items():
        if not isinstance(password, str) or not password:
            raise ConfigError(f"{key}.users.{user}", "must be a password, or a hash made by --hash-password")
    networks = tuple(_texts(tree.get("networks", []), key + ".networks"))
    for number, network in enumerate(networks):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise ConfigError(f"{key}.networks.{number}", f"is no network such as 192.0.2.0/24: {error}") from error
    channels = tree.get("channels", [])
    if not isinstance(channels, list):
        raise ConfigError(key + ".channels", "must be a list")
    return Broadcaster(
        name, users, networks, tuple(_channel(name, item, f"{key}.channels.{i}") for i, item in enumerate(channels))
    )


def _channel(station: str, value: Any, key: str) -> Channel:
    tree = _object(value, key)
    if unknown := set(tree) - {"topic", "id", "name", "picture", "text", "link"}:
        raise ConfigError(f"{key}.{min(unknown)}", "is unknown; known are topic, id, name, picture, text and link")
    for name, item in tree.items():
        if item is not None and not isinstance(item, str):
            raise ConfigError(f"{key}.{name}", f"is {json.dumps(item)}; needed is a string")
    topic = tree.get("topic") or ""
    if not topic.startswith("/topic/") or not topic.endswith("/") or len(topic) < 9 or set(topic) & set("\r\n\0"):
        raise ConfigError(key + ".topic", f"is {topic!r}; needed is `/topic/…/`, without `image` or `text`")
    return Channel(
        topic,
        tree.get("id") or topic,
        tree.get("name") or topic,
        station,
        tree.get("picture") or None,
        tree.get("text") or None,
        tree.get("link") or None,
    )
