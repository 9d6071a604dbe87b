"""What all rules ask of an event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stationmaster.catalogue import Catalogue, StationRole
from stationmaster.findings import HIDDEN, Finding, dotted, invalid
from stationmaster.model import Event, Instance, Origin, Path, Station
from stationmaster.options import annotated


@dataclass(frozen=True, slots=True)
class Place:
    """One value of one instance: station, instance, path below the options, and the value."""

    station: Station
    instance: Instance
    path: Path
    value: Any

    @property
    def name(self) -> str:
        """Return `station/instance`."""
        return f"{self.station.name}/{self.instance.id}"


@dataclass(frozen=True, slots=True)
class Context:
    """Event and catalogue, and what follows from both."""

    event: Event
    catalogue: Catalogue

    def instances(self) -> Iterator[tuple[Station, Instance, StationRole]]:
        """Yield every instance whose role exists."""
        for station in self.event.stations.values():
            for instance in station.instances():
                row = self.catalogue.roles.get(instance.role)
                if row is not None:
                    yield station, instance, row

    def annotated(self, annotation: str) -> Iterator[Place]:
        """Yield every readable option value whose schema carries an annotation."""
        for station, instance, row in self.instances():
            yield from self.annotated_of(station, instance, row, annotation)

    def annotated_of(self, station: Station, instance: Instance, row: StationRole, annotation: str) -> Iterator[Place]:
        """Yield the readable option values of one instance whose schema carries an annotation."""
        for path, value in annotated(row.options, instance.options, annotation):
            if value is not None and not unreadable(instance, path):
                yield Place(station, instance, path, value)


def unreadable(instance: Instance, path: Path) -> bool:
    """Say whether a path lies in a secret that could not be read."""
    return any(path[:end] in instance.opaque for end in range(len(path) + 1))


def option(instance: Instance, name: str) -> tuple[Path, Any]:
    """Return path and value of an option by its dotted name (`source.listen`), None when it is absent."""
    path = tuple(name.split("."))
    value: Any = instance.options
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return path, value


def label(place: Place) -> str:
    """Return `role/instance`, with which findings begin."""
    return f"{place.instance.role}/{place.instance.id}"


def beside(place: Place, name: str, up: int = 1) -> Any:
    """Return the option of a name beside a value, or beside what is `up` steps above it; None when it is absent."""
    value: Any = place.instance.options
    for key in place.path[:-up]:
        value = value.get(key) if isinstance(value, dict) else None
    return value.get(name) if isinstance(value, dict) else None


def origin_at(instance: Instance, path: Path) -> Origin:
    """Return where a value, or the nearest mapping around it that was written, was written."""
    for end in range(len(path), -1, -1):
        origin = instance.origins.get(path[:end])
        if origin is not None and origin.file is not None:
            return origin
    return Origin("derived")


def full_path(instance: Instance, path: Path) -> str:
    """Return the dotted path of an option from the variable that set it."""
    layer = origin_at(instance, path).layer
    if layer.endswith("_role_defaults"):
        return dotted((layer, instance.role, *path))
    return dotted(("station_roles", instance.role, instance.id, *path))


def at(place: Place, message: str, **parts: Any) -> Finding:
    """Make a finding about one value of one instance; further stations go into `others`."""
    others = tuple(parts.pop("others", ()))
    secret = any(place.path[:end] in place.instance.secrets for end in range(len(place.path) + 1))
    return invalid(
        message,
        stations=dict.fromkeys((place.station.name, *others)),
        origin=origin_at(place.instance, place.path),
        role=place.instance.role,
        instance=place.instance.id,
        path=full_path(place.instance, place.path),
        value=HIDDEN if secret else place.value,
        **parts,
    )
