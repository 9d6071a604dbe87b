"""Who may send slides and texts, and where they go: read out of an inventory, without any password."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.hashes import hash_of
from station.visuals import passwords, topics
from stationmaster import resolve
from stationmaster.model import Event, Instance, Station

SERVER, SIGNAGE = "visuals", "signage"
"""Station roles: the servers that take messages, and the one that makes those of the rooms."""
LEAST = 16
"""Characters of a token that the manager takes, as roles/visuals says."""
BYTES = 32
"""Length of a hash."""
_COUNTRY = re.compile(rf"{topics.PREFIX}([A-Za-z]{{2}})/([0-9A-Fa-f]{{4}})/")
OF_A_CHANNEL = ("topic", "id", "name", "picture", "text", "link")


@dataclass(frozen=True)
class Channel:
    """A topic up to its last `/`, below which are `image` and `text`, and what it shows by default.

    `broadcaster` is None for a channel that signage makes of a room, `room` for one that a broadcaster sends to;
    `screen` tells the channel of a room's full-size screens from that for radios.
    """

    topic: str
    name: str
    broadcaster: str | None = None
    room: str | None = None
    screen: bool = False
    picture: str | None = None
    text: str | None = None
    link: str | None = None


def instances(event: Event, role: str) -> Iterator[tuple[Station, Instance]]:
    """Yield the instances of a station role, in the inventory's order."""
    for station in event.stations.values():
        for instance in station.roles.get(role, {}).values():
            yield station, instance


def broadcasters(event: Event) -> dict[str, dict[str, Any]]:
    """Return the broadcasters of all servers together, in the shape of the option `broadcasters`.

    Args:
        event: with its secrets; called where it is read, so that none of them travels.

    Returns:
        By id: `users` (name to scrypt hash), `networks` and `channels`. Where two servers say something different of
        one id, the first of the inventory counts.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, instance in instances(event, SERVER):
        for identity, told in (instance.options.get("broadcasters") or {}).items():
            if str(identity) not in found:
                found[str(identity)] = _broadcaster(event.name, str(identity), told)
    return found


def tokens(event: Event) -> frozenset[str]:
    """Return the hashes of the tokens by which the servers' neighbours know one another (option `token`).

    The manager takes them for tokens of scope `visuals`, so that nobody has to make one. Called like `broadcasters`.
    """
    found = (instance.options.get("token") for _, instance in instances(event, SERVER))
    return frozenset(hash_of(token) for token in found if isinstance(token, str) and len(token) >= LEAST)


def _broadcaster(event: str, identity: str, told: dict[str, Any]) -> dict[str, Any]:
    users = {name: hashed(word, f"{event} {identity}.{name}") for name, word in (told.get("users") or {}).items()}
    channels = [
        {key: channel[key] for key in OF_A_CHANNEL if channel.get(key) is not None}
        for channel in told.get("channels") or ()
    ]
    return {"users": users, "networks": list(told.get("networks") or ()), "channels": channels}


def hashed(password: str, user: str) -> str:
    """Return a password's hash; one that is a hash already stays as it is.

    Args:
        password: in clear.
        user: whose it is. The salt follows from it, so that the same inventory gives the same text each time; it
            differs between users, which is what a salt is for, and tells nothing of the password.
    """
    if passwords.is_hash(password):
        return password
    n, r, p = passwords.N, passwords.R, passwords.P
    salt = hashlib.sha256(f"stationmaster visuals {user}".encode()).digest()[:16]
    made = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r * p, dklen=BYTES)
    return f"{passwords.PREFIX}n={n},r={r},p={p}${_text(salt)}${_text(made)}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def converted(topic: str) -> str:
    """Return an FM topic with its two-letter country as the code that the servers send under, and the log has."""
    found = _COUNTRY.match(topic)
    code = topics.gcc(found[1], found[2]) if found else None
    return topic if found is None or code is None else f"{topics.PREFIX}{code}/{topic[found.start(2) :]}"


def channels(event: Event, known: dict[str, dict[str, Any]]) -> list[Channel]:
    """Return all channels: those of the broadcasters, then two for each room that a signage instance makes.

    Args:
        event: with or without its secrets.
        known: what `broadcasters` said of it.
    """
    found = [
        Channel(
            converted(one["topic"]),
            one.get("name") or one["topic"],
            broadcaster=identity,
            picture=one.get("picture"),
            text=one.get("text"),
            link=one.get("link"),
        )
        for identity, told in known.items()
        for one in told["channels"]
    ]
    return [*found, *dict.fromkeys(one for room in event.rooms for one in of_room(event, room))]


def of_room(event: Event, room: str) -> list[Channel]:
    """Return the channels of one room, those for radios before those for screens; none without signage."""
    found, title = [], event.rooms[room].title
    for _, instance in _signage(event, room):
        domain = _domain(event, instance)
        found.append(Channel(f"/topic/id/{domain}/{room}/", title, room=room))
        found.append(Channel(f"/topic/id/{domain}/{room}-screen/", f"{title}, screen", room=room, screen=True))
    return sorted(dict.fromkeys(found), key=lambda one: one.screen)


def picture_folders(event: Event, room: str) -> dict[str, str]:
    """Return the URLs that begin the addresses of a room's pictures, each with where our stations have them."""
    found: dict[str, str] = {}
    for station, instance in _signage(event, room):
        if station.address is not None:
            own = resolve.base_url(event, station, instance)
            given = instance.options.get("picture_base")
            found |= {own: own, **({f"{given.rstrip('/')}/": own} if given else {})}
    return found


def _signage(event: Event, room: str) -> Iterator[tuple[Station, Instance]]:
    """Yield the signage instances that show a room: the rooms that they name, their station's own, or all."""
    for station, instance in instances(event, SIGNAGE):
        own = [station.room.name] if station.room is not None else list(event.rooms)
        if room in (instance.options.get("rooms") or own):
            yield station, instance


def _domain(event: Event, instance: Instance) -> str:
    """Return the domain of an instance's topics: its own, that of the servers that it sends to, or the event's name."""
    servers = {f"{station.name}/{one.id}": one for station, one in instances(event, SERVER)}
    asked = [instance, *(servers[name] for name in instance.options.get("to") or () if name in servers)]
    return next((str(one.options["domain"]) for one in asked if one.options.get("domain")), event.name)
