"""The role catalogue: every `roles/<name>/role.yml`, read once and checked.

A station role is data. This module turns the file into `StationRole` and
answers questions about option schemas; it knows nothing of inventories.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stationmaster.memory import memory
from stationmaster.role_schema import ROLE_SCHEMA

ROLES_FOLDER = Path(__file__).resolve().parent.parent / "roles"


class CatalogueError(Exception):
    """A role.yml that cannot be used; the text names the file and the mend."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that an instance listens on: a fixed number or the option that holds it (see `ports.listening`)."""

    name: str
    option: str | None = None
    number: int | None = None
    protocol: str = "tcp"
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file rendered from the role's own `templates/`."""

    name: str
    template: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """One systemd unit of an instance, as role.yml declares it.

    Sizes are systemd's (`1G`), weights 1 to 10000, times in seconds.
    """

    command: tuple[str, ...]
    name: str = ""
    type: str = "notify"
    live: bool | str = False
    watchdog: bool = True
    user: str | None = None
    groups: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    network: bool = True
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    memory_max: str = "512M"
    cpu_weight: int = 100
    io_weight: int = 100
    tasks_max: int = 128
    nice: int = 0
    system_calls: tuple[str, ...] = ("@system-service", "~@privileged @resources")
    settings: Mapping[str, str] = field(default_factory=dict)
    stop_timeout: int = 10
    success_exit_status: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StationRole:
    """A row of the catalogue."""

    name: str
    folder: Path
    summary: str
    description: str
    instances: int
    packages: tuple[str, ...]
    provides: str | None
    accepts: tuple[str, ...]
    shares: tuple[str, ...]
    """Options, secrets too, that whoever names an instance as `station/instance` is told."""
    named_needs: tuple[str, ...]
    """Options of which an instance that others name needs at least one."""
    context: tuple[str, ...]
    """What of `role_schema.CONTEXT` is in the instances' context.json."""
    serves: bool
    options: Mapping[str, Any]
    ports: tuple[Port, ...]
    files: tuple[ConfigFile, ...]
    units: tuple[Unit, ...]

    @property
    def user(self) -> str:
        """Return the system user that the role's processes run as."""
        return f"sm-{self.name}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All station roles, by name."""

    roles: Mapping[str, StationRole]

    def packages(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the Debian packages of the named roles (of all without names), sorted."""
        chosen = self.roles if names is None else [name for name in names if name in self.roles]
        return sorted({package for name in chosen for package in self.roles[name].packages})


def folders_in_use() -> tuple[Path, ...]:
    """Return the folders of station roles: this repository's and those that `STATIONMASTER_ROLES` lists.

    The variable takes folders as `PATH` does; a crew keeps roles of its own there, outside this repository.
    """
    more = [part for part in os.environ.get("STATIONMASTER_ROLES", "").split(os.pathsep) if part]
    return (ROLES_FOLDER, *(Path(part).expanduser().resolve() for part in more))


def load(folders: Sequence[Path] | None = None) -> Catalogue:
    """Read all station roles.

    Args:
        folders: folders whose sub-folders with a `role.yml` are station roles;
            a later folder may not repeat a name of an earlier one. By default `folders_in_use()`.

    Returns:
        The catalogue, roles in order of their names.

    Raises:
        CatalogueError: a file is not YAML, breaks the schema, or a name repeats.
    """
    found: dict[str, StationRole] = {}
    for folder in folders_in_use() if folders is None else folders:
        for path in sorted(folder.glob("*/role.yml")):
            role = _load_role(path)
            if role.name in found:
                raise CatalogueError(f"{path}: there is a station role {role.name!r} in {found[role.name].folder} too")
            found[role.name] = role
    return Catalogue(roles=dict(sorted(found.items())))


def _load_role(path: Path) -> StationRole:
    try:
        text = path.read_text("utf-8")
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader either way
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not readable as YAML: {error}") from error
    digest = memory().digest("role", repr(ROLE_SCHEMA), text)
    if digest not in memory():
        _judge(path, data)
        memory().add(digest)
    units = tuple(_unit(row) for row in data["units"])
    if len({unit.name for unit in units}) != len(units):
        raise CatalogueError(f"{path}: two units have the same name; give each further unit a `name`")
    return StationRole(
        name=path.parent.name,
        folder=path.parent,
        summary=data["summary"],
        description=data["description"].strip(),
        instances=data.get("instances", 0),
        packages=tuple(data.get("packages", ())),
        provides=data.get("provides"),
        accepts=tuple(data.get("accepts", ())),
        shares=tuple(data.get("shares", ())),
        named_needs=tuple(data.get("named_needs", ())),
        context=tuple(data.get("context", ())),
        serves=data.get("serves", False),
        options=data["options"],
        ports=tuple(_port(row) for row in data.get("ports", ())),
        files=tuple(ConfigFile(**row) for row in data.get("files", ())),
        units=units,
    )


def _judge(path: Path, data: Any) -> None:
    import jsonschema  # here, for its import costs more than all else and is seldom needed

    problem = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(ROLE_SCHEMA).iter_errors(data))
    if problem is not None:
        where = ".".join(str(part) for part in problem.absolute_path) or "the top level"
        raise CatalogueError(f"{path}: at {where}: {problem.message}")
    try:
        jsonschema.Draft202012Validator.check_schema(data["options"])
    except jsonschema.SchemaError as error:
        raise CatalogueError(f"{path}: options is not a valid JSON Schema: {error.message}") from error


def _port(row: dict[str, Any]) -> Port:
    where = {key: tuple(values) for key, values in row.get("where", {}).items()}
    return Port(**{**row, "where": where})


def _unit(row: dict[str, Any]) -> Unit:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "settings" in values:
        values["settings"] = {key: str(value) for key, value in values["settings"].items()}
    return Unit(**values)
