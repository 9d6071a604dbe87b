"""What the inventory says, as plain data: event, rooms, stations, instances.

Everything below is made by `stationmaster.inventory`, judged by
`stationmaster.rules` and rendered by `stationmaster.bundle`; nothing here
depends on Ansible.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stationmaster.findings import Finding

Path = tuple[str | int, ...]
"""Keys from the top of a mapping down to a value: `("source", "type")`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written.

    `layer` says which mapping it came from: `event_manager_url` (an option
    that asks for the manager), `event_role_defaults`, `room_role_defaults`, `station_roles`,
    `default` (the role's schema) or `derived` (computed from room and station); `file` and `line` are None for
    the last two.
    """

    layer: str
    file: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Instance:
    """One configured process of a station role.

    `options` are merged over all layers with the role's defaults filled in;
    `origins` holds the origin of each leaf and of each mapping, by path.
    `opaque` holds the paths whose value could not be had (it is None: a secret
    without its password), `secrets` the paths whose value comes from a vault.
    """

    role: str
    id: str
    options: dict[str, Any]
    origins: dict[Path, Origin] = field(default_factory=dict)
    opaque: set[Path] = field(default_factory=set)
    secrets: set[Path] = field(default_factory=set)
    implied: bool = False


@dataclass(slots=True)
class Room:
    """A place with talks; `name` is the inventory group, `origins` is by paths that start with the variable."""

    name: str
    title: str
    number: int | None
    role_defaults: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)


@dataclass(slots=True)
class Station:
    """A host of the inventory.

    `roles` maps role, then instance id, to the instance. `origins` holds the
    origin of each `station_…` variable, of `ansible_host`, of each role
    (`station_roles.ingest`) and of the host's own line (key `""`).
    """

    name: str
    room: Room | None
    address: str | None
    mac: str | None
    blocked_roles: list[str]
    roles: dict[str, dict[str, Instance]]
    spare_of: str | None = None
    origins: dict[str, Origin] = field(default_factory=dict)

    def instances(self) -> list[Instance]:
        """Return all instances of the station, ordered by role and id."""
        return [self.roles[role][name] for role in sorted(self.roles) for name in sorted(self.roles[role])]


@dataclass(slots=True)
class Event:
    """The whole conference as the inventory wants it.

    `targets` are the places to upload to (`event_targets`), `settings` all
    other `event_…` variables without their prefix, `folder` the inventory's
    own folder (files that options name lie in its `files/`). `origins`,
    `opaque` and `secrets` are as in an instance, by paths that start with the
    variable: `("event_targets", "archive", "password")`. `groups` are all
    groups of the inventory, `findings` the mistakes met while loading: an
    event with any of them must not be applied.
    """

    name: str
    title: str
    folder: str
    rooms: dict[str, Room]
    stations: dict[str, Station]
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    opaque: set[Path] = field(default_factory=set)
    secrets: set[Path] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
