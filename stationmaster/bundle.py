"""The bundle: all that a station should have, rendered.

A pure function of event, catalogue and code: the same input gives the same
bytes, and the hash over them is what the station is compared by.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station import times
from stationmaster import code, resolve, units
from stationmaster.catalogue import Catalogue, StationRole, Unit
from stationmaster.model import Event, Instance, Station
from stationmaster.options import annotated, split_secrets
from stationmaster.role_context import wanted_context
from stationmaster.targets import SCHEMA as TARGET_SCHEMA

CURRENT = "/var/lib/stationmaster/current"
PROVISION_FOLDER = Path(__file__).resolve().parent.parent / "roles" / "provision"
BUDGET = {
    "media_tick": times.MEDIA_TICK,
    "input_timeout": times.INPUT_TIMEOUT,
    "stall_limit": times.STALL_LIMIT,
    "watchdog": times.WATCHDOG,
    "stop_timeout": times.STOP_TIMEOUT,
}


@dataclass(slots=True)
class Bundle:
    """A station's files and units. `manifest` is JSON; `blobs` maps sha256 to content."""

    manifest: dict[str, Any]
    blobs: dict[str, bytes]

    @property
    def wanted(self) -> str:
        """Return the hash over everything that the station should have."""
        return str(self.manifest["wanted"])


@dataclass(slots=True)
class _Draft:
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, path: str, content: bytes | str, mode: str = "0644") -> str:
        data = content.encode() if isinstance(content, str) else content
        sha = hashlib.sha256(data).hexdigest()
        self.files[path] = {"sha256": sha, "mode": mode}
        self.blobs[sha] = data
        return path


def render(
    event: Event, name: str, catalogue: Catalogue, revision: str, downstream: resolve.Downstream | None = None
) -> Bundle:
    """Render a station's bundle.

    Args:
        event: the whole conference, already without findings; implied
            instances are there (`resolve.add_implied`).
        name: the station.
        catalogue: the station roles.
        revision: git revision of the inventory, recorded on the station; it
            is not part of the hash, for a commit that changes nothing for a
            station must not look like a change to it.
        downstream: `resolve.downstream_of(event, catalogue)`, for whoever
            renders many stations of one event.

    Returns:
        The bundle.

    Raises:
        units.TemplateError: a template or expression of a role is wrong.
        ModuleNotFoundError: a unit runs a module that `station/` lacks.
    """
    station = event.stations[name]
    draft = _Draft()
    for script in ("start-pre", "stop-post"):
        draft.add(f"libexec/{script}", (units.TEMPLATES / script).read_bytes(), "0755")
    for unit in ("stationmaster.target", "stationmaster-converge.service"):
        draft.add(f"units/{unit}", (units.TEMPLATES / unit).read_bytes())
        draft.links[f"units/multi-user.target.wants/{unit}"] = f"../{unit}"
    downstream = resolve.downstream_of(event, catalogue) if downstream is None else downstream
    for instance in station.instances():
        _add_instance(draft, event, station, instance, catalogue, downstream)
    content: dict[str, Any] = {
        "schema": 1,
        "station": name,
        "files": dict(sorted(draft.files.items())),
        "links": dict(sorted(draft.links.items())),
        "units": dict(sorted(draft.units.items())),
        "roles": {role: sorted(instances) for role, instances in sorted(station.roles.items())},
        "provision": provision(station, catalogue),
    }
    wanted = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Bundle({**content, "wanted": wanted, "revision": revision}, draft.blobs)


def provision(station: Station, catalogue: Catalogue) -> dict[str, Any]:
    """Return what a station needs before any bundle can run: packages, users, and their hash.

    The hash covers the text of `roles/provision` too, so that a change there
    is carried out on the next apply.
    """
    roles = sorted(station.roles)
    packages = catalogue.packages(roles)
    users = [catalogue.roles[role].user for role in roles if catalogue.roles[role].units]
    total = hashlib.sha256(json.dumps([packages, users]).encode())
    total.update(_texts_below(PROVISION_FOLDER))
    return {"hash": total.hexdigest(), "packages": packages, "users": users}


@functools.cache
def _texts_below(folder: Path) -> bytes:
    """Return names and contents of all files of a folder, as they were when this process began."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return b"".join(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() for path in files)


def _add_instance(
    draft: _Draft,
    event: Event,
    station: Station,
    instance: Instance,
    catalogue: Catalogue,
    downstream: resolve.Downstream,
) -> None:
    row = catalogue.roles[instance.role]
    folder = f"etc/{row.name}/{instance.id}"
    variables = instance_variables(event, station, instance, catalogue, downstream)
    secrets = variables.pop("secrets")
    context = variables.pop("context")
    reads = [draft.add(f"{folder}/config.json", units.to_json(variables["config_json"]))]
    draft.add(f"{folder}/context.json", units.to_json(context))
    for _, name in annotated(row.options, instance.options, "x-file"):
        if str(name).startswith("/"):
            continue  # installed on the station; here a file of that name may be another one
        source = Path(event.folder) / "files" / str(name)
        if source.is_file():
            mode = "0755" if source.stat().st_mode & 0o100 else "0644"
            reads.append(draft.add(f"{folder}/files/{name}", source.read_bytes(), mode))
    secret = None
    if secrets:
        path = draft.add(f"secrets/{row.name}/{instance.id}/secrets.json", units.to_json(secrets), "0600")
        reads.append(path)
        secret = f"{CURRENT}/{path}"
    secret_files = []
    for file in row.files:
        chosen = {**variables, "secrets": secrets} if file.secret else variables
        text = units.render_file(row.folder / "templates", file.template, chosen)
        top = "secrets" if file.secret else "etc"
        path = draft.add(f"{top}/{row.name}/{instance.id}/{file.name}", text, "0600" if file.secret else "0644")
        reads.append(path)
        if file.secret:
            secret_files.append({"name": file.name, "path": f"{CURRENT}/{path}"})
    for unit in row.units:
        extra = {"secret": secret, "secret_files": secret_files}
        _add_unit(draft, row, unit, instance, {**variables, **extra}, reads)


def instance_variables(
    event: Event, station: Station, instance: Instance, catalogue: Catalogue, downstream: resolve.Downstream
) -> dict[str, Any]:
    """Return what templates and expressions of an instance's role may use.

    `config_json`, `context` and `secrets` are the contents of the files of
    those names; secrets are in no other value.
    """
    row = catalogue.roles[instance.role]
    options, secret_options = split_secrets(row.options, instance.options)
    for path, name in annotated(row.options, options, "x-file"):
        if str(name).startswith("/"):
            continue
        _replace(options, path, f"{CURRENT}/etc/{row.name}/{instance.id}/files/{name}")
    targets: dict[str, Any] = {}
    secrets: dict[str, Any] = {"options": secret_options} if secret_options else {}
    for name, target in resolve.targets(event, catalogue, instance).items():
        targets[name], secret_target = split_secrets(TARGET_SCHEMA, target)
        if secret_target:
            secrets.setdefault("targets", {})[name] = secret_target
    sources = resolve.sources(event, catalogue, station, instance)
    for name, source in sources.items():
        if "options" in source:
            schema = catalogue.roles[source["role"]].options
            source["options"], shared_secrets = split_secrets(schema, source["options"])
            if shared_secrets:
                secrets.setdefault("sources", {})[name] = {"options": shared_secrets}
    room = station.room
    paths = {
        "data": resolve.data_folder(instance),
        "run": f"/run/stationmaster/{row.name}-{instance.id}",
        "spool": "/var/lib/stationmaster/spool",
        "metrics": f"/run/stationmaster/metrics/{row.name}-{instance.id}.prom",
        "context": f"{CURRENT}/etc/{row.name}/{instance.id}/context.json",
    }
    config = {
        "schema": 1,
        "event": event.name,
        "room": room.name if room else None,
        "station": station.name,
        "address": station.address,
        "role": row.name,
        "instance": instance.id,
        "options": options,
        "sources": sources,
        "targets": targets,
        "paths": paths,
        "budget": BUDGET,
    }
    context = {
        "event": {"name": event.name, "title": event.title, **_plain(event.settings)},
        "room": {"name": room.name, "title": room.title, "number": room.number} if room else None,
        "receipts": resolve.receipt_urls(event, catalogue, station, instance, downstream),
        "copies": resolve.copy_urls(event, catalogue, station, instance, downstream),
        **wanted_context(event, catalogue, station, instance, row.context),
    }
    return {
        **{key: config[key] for key in ("options", "sources", "targets", "paths", "instance", "budget")},
        "station": station,
        "room": room,
        "event": event,
        "role": row,
        "config": f"{CURRENT}/etc/{row.name}/{instance.id}/config.json",
        "etc": f"{CURRENT}/etc/{row.name}/{instance.id}",
        "web": [
            {"role": other.role, "instance": other.id, "path": resolve.data_folder(other)}
            for other in station.instances()
            if catalogue.roles[other.role].serves
        ],
        "neighbours": [
            unit_name(catalogue.roles[other.role], unit, other)
            for other in station.instances()
            if other is not instance
            for unit in catalogue.roles[other.role].units
        ],
        "served_roles": [name for name, other in catalogue.roles.items() if other.serves],
        "config_json": config,
        "context": context,
        "secrets": secrets,
    }


def unit_name(row: StationRole, unit: Unit, instance: Instance) -> str:
    """Return the name of the systemd unit of an instance."""
    suffix = f"-{unit.name}" if unit.name else ""
    return f"stationmaster-{row.name}{suffix}@{instance.id}.service"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("timezone", "upload_rate") if key in settings}


def _replace(options: dict[str, Any], path: tuple[str | int, ...], value: str) -> None:
    place: Any = options
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value


def _add_unit(
    draft: _Draft, row: StationRole, unit: Unit, instance: Instance, variables: dict[str, Any], reads: list[str]
) -> None:
    suffix = f"-{unit.name}" if unit.name else ""
    name = unit_name(row, unit, instance)
    where = f"roles/{row.name}/role.yml"
    command = [units.expand(text, variables, where) for text in unit.command]
    live = unit.live if isinstance(unit.live, bool) else units.expand(unit.live, variables, where) == "True"
    reads = [*reads, "libexec/start-pre", "libexec/stop-post"]
    code_folder = ""
    modules = [second for first, second in itertools.pairwise(command) if first == "-m"]
    if modules:
        files: dict[str, bytes] = {}
        for module in modules:
            files.update(code.closure(module))
        code_folder = f"lib/{code.digest(files)}"
        reads += [draft.add(f"{code_folder}/{path}", content) for path, content in sorted(files.items())]
    own = f"{row.name}{suffix}.service.j2"
    folder = row.folder / "templates"
    text = units.render_file(
        folder,
        own if (folder / own).is_file() else "unit.service.j2",
        {
            **variables,
            "unit": unit,
            "unit_name": name,
            "command": command,
            "live": live,
            "user": unit.user or row.user,
            "runtime": f"stationmaster/{row.name}-{instance.id}{suffix}",
            "current": CURRENT,
            "code": f"{CURRENT}/{code_folder}",
        },
    )
    total = hashlib.sha256(text.encode())
    for path in sorted(reads):
        total.update(f"{path}\0{draft.files[path]['sha256']}\n".encode())
    restart_hash = total.hexdigest()
    path = draft.add(f"units/{name}", text.replace("@HASH@", restart_hash))
    draft.links[f"units/stationmaster.target.wants/{name}"] = f"../{name}"
    draft.units[name] = {
        "hash": restart_hash,
        "live": live,
        "role": row.name,
        "instance": instance.id,
        "reads": sorted([path, *reads]),
        "start": True,
    }
