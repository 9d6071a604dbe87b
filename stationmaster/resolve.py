"""What follows from the inventory without being written in it.

The implied web instance of a station that serves files, the agent of an event
with a manager, the meaning of `station/instance` references, targets, and who holds receipts for whose media.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stationmaster.catalogue import Catalogue
from stationmaster.model import Event, Instance, Origin, Station
from stationmaster.model import Path as OptionPath
from stationmaster.options import annotated, fill_defaults

WEB_ROLE = "web"
WEB_INSTANCE = "station"
AGENT_ROLE = "agent"
AGENT_INSTANCE = "station"
MANAGER_PORT = 8443
"""`manager_port` of the Ansible role manager; an event that changes it writes `event_manager_url`."""
DATA_ROOT = "/srv/stationmaster"


def add_implied(event: Event, catalogue: Catalogue) -> None:
    """Give each station that serves files its web instance, unless it names one itself.

    Args:
        event: changed in place.
        catalogue: says which roles serve their data folder.
    """
    add_agents(event, catalogue)
    web = catalogue.roles.get(WEB_ROLE)
    if web is None:
        return
    for station in event.stations.values():
        serving = any(catalogue.roles[role].serves for role in station.roles if role in catalogue.roles)
        if serving and not station.roles.get(WEB_ROLE):
            options = fill_defaults(web.options, {})
            origins: dict[OptionPath, Origin] = {(key,): Origin("default") for key in options}
            station.roles[WEB_ROLE] = {WEB_INSTANCE: Instance(WEB_ROLE, WEB_INSTANCE, options, origins, implied=True)}


def wants_agent(manager: Any, catalogue: Catalogue, station: Station) -> bool:
    """Return whether a station gets an agent by itself: the event has a `manager`, and nothing speaks against it."""
    named = bool(station.roles.get(AGENT_ROLE))
    return bool(manager) and AGENT_ROLE in catalogue.roles and AGENT_ROLE not in station.blocked_roles and not named


def manager_url(event: Event) -> str | None:
    """Return the address of the event's manager: as it is written, or that of the station that it runs on."""
    written = event.settings.get("manager_url")
    station = event.stations.get(str(event.settings.get("manager")))
    derived = f"https://{station.address}:{MANAGER_PORT}" if station is not None and station.address else None
    return written if isinstance(written, str) else derived


def manager_options(catalogue: Catalogue, role: str) -> list[str]:
    """Return the options of a role that the manager's address fills: those with `x-manager` at the top."""
    properties = catalogue.roles[role].options.get("properties", {}) if role in catalogue.roles else {}
    return [key for key, below in properties.items() if isinstance(below, dict) and below.get("x-manager") is True]


def add_agents(event: Event, catalogue: Catalogue) -> None:
    """Give each station of an event with a manager its agent, and its address to each option that asks for it.

    What the inventory sets stays.
    """
    url = manager_url(event)
    if url is None:
        return
    for station in event.stations.values():
        if wants_agent(url, catalogue, station):
            options = fill_defaults(catalogue.roles[AGENT_ROLE].options, {})
            origins: dict[OptionPath, Origin] = {(key,): Origin("default") for key in options}
            agent = Instance(AGENT_ROLE, AGENT_INSTANCE, options, origins, implied=True)
            station.roles[AGENT_ROLE] = {AGENT_INSTANCE: agent}
        for instance in station.instances():
            for key in manager_options(catalogue, instance.role):
                if key not in instance.options:
                    instance.options[key] = url
                    instance.origins[key,] = Origin("derived")


def providers(event: Event, catalogue: Catalogue, kinds: tuple[str, ...]) -> Iterator[tuple[str, Station, Instance]]:
    """Yield every instance that provides one of the kinds, with its `station/instance` name."""
    for station in event.stations.values():
        for role, instances in station.roles.items():
            row = catalogue.roles.get(role)
            if row is not None and row.provides in kinds:
                for instance in instances.values():
                    yield f"{station.name}/{instance.id}", station, instance


def lookup(
    event: Event, catalogue: Catalogue, reference: str, kinds: tuple[str, ...]
) -> tuple[Station, Instance] | None:
    """Find the instance that a `station/instance` reference names.

    Args:
        event: the whole conference.
        catalogue: says what each role provides.
        reference: `station/instance`.
        kinds: what the one who asks accepts.

    Returns:
        Station and instance, or None when nothing of these kinds has the name.
    """
    name, _, wanted = reference.partition("/")
    station = event.stations.get(name)
    if station is None:
        return None
    for role, instances in station.roles.items():
        row = catalogue.roles.get(role)
        if row is not None and row.provides in kinds and wanted in instances:
            return station, instances[wanted]
    return None


def references(catalogue: Catalogue, instance: Instance) -> list[str]:
    """Return the `station/instance` references of an instance, in order."""
    row = catalogue.roles.get(instance.role)
    if row is None:
        return []
    return [
        part for _, part in annotated(row.options, instance.options, "x-reference") if isinstance(part, str) and part
    ]


def web_port(event: Event, station: str) -> int:
    """Return the TCP port on which a station serves its files."""
    web = event.stations[station].roles.get(WEB_ROLE, {})
    return next((int(instance.options["port"]) for instance in web.values() if "port" in instance.options), 8080)


def base_url(event: Event, station: Station, instance: Instance) -> str:
    """Return the URL below which an instance's data folder is served."""
    return f"http://{station.address}:{web_port(event, station.name)}/{instance.role}/{instance.id}/"


def data_folder(instance: Instance) -> str:
    """Return the folder on the station that holds an instance's data."""
    return f"{DATA_ROOT}/{instance.role}/{instance.id}"


def sources(event: Event, catalogue: Catalogue, station: Station, instance: Instance) -> dict[str, dict[str, Any]]:
    """Resolve the references of an instance for its config.json.

    Returns:
        For each reference: role, station, instance, kind, `url`, and `path`,
        which is set only when the source is on the same station. Of a role
        that shares options also `address` and `options`, secrets included;
        and what those options refer to is here in its turn, as
        `station/instance:kind`, for it may have the name of what refers to it.
        References that lead nowhere are left out; the rules have reported them.
    """
    result: dict[str, dict[str, Any]] = {}
    waiting = [(reference, instance) for reference in references(catalogue, instance)]
    while waiting:
        reference, asking = waiting.pop(0)
        found = lookup(event, catalogue, reference, catalogue.roles[asking.role].accepts)
        if found is None:
            continue
        other, source = found
        row = catalogue.roles[source.role]
        name = reference if asking is instance else f"{reference}:{row.provides}"
        if name in result:
            continue
        result[name] = {
            "role": source.role,
            "station": other.name,
            "instance": source.id,
            "kind": row.provides,
            "url": base_url(event, other, source),
            "path": data_folder(source) if other is station else None,
        }
        if row.shares:
            result[name] |= {"address": other.address, "options": _shared(source.options, row.shares)}
            waiting += [(further, source) for further in references(catalogue, source)]
    return result


def _shared(options: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Pick options by their dotted paths: a certificate may be shared, the key beside it stays."""
    shared: dict[str, Any] = {}
    for key in keys:
        value: Any = options
        *above, last = key.split(".")
        for step in (*above, last):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            place = shared
            for step in above:
                place = place.setdefault(step, {})
            place[last] = value
    return shared


def targets(event: Event, catalogue: Catalogue, instance: Instance) -> dict[str, dict[str, Any]]:
    """Resolve the targets that an instance names, secrets included.

    A target of type `station` takes address, port, user, password, path and
    host key from the instance of a storage role that it points at, and becomes `sftp`.
    """
    row = catalogue.roles[instance.role]
    result = {}
    for _, name in annotated(row.options, instance.options, "x-target"):
        target = event.targets.get(name) if isinstance(name, str) else None
        if target is None:
            continue
        if target.get("type") == "station":
            found = lookup(event, catalogue, str(target.get("station")), ("storage",))
            if found is None:
                continue
            place, storage = found
            options = {key: value for key, value in storage.options.items() if key != "host_private_key"}
            rest = {key: value for key, value in target.items() if key not in ("type", "station")}
            target = {"type": "sftp", "host": place.address, **options, **rest}
        result[name] = dict(target)
    return result


Downstream = dict[str, list[tuple[str, Station, Instance]]]
"""Who reads what: `station/instance` of a source to those that name it."""


def downstream_of(event: Event, catalogue: Catalogue) -> Downstream:
    """Return for each source its consumers: name, station and instance."""
    downstream: Downstream = {}
    for other in event.stations.values():
        for consumer in other.instances():
            if consumer.role not in catalogue.roles:
                continue
            for reference in references(catalogue, consumer):
                downstream.setdefault(reference, []).append((f"{other.name}/{consumer.id}", other, consumer))
    return downstream


def receipt_urls(
    event: Event, catalogue: Catalogue, station: Station, instance: Instance, downstream: Downstream
) -> list[str]:
    """Return the URLs of all receipts that may concern an instance's media.

    These are the instances that provide receipts and lie downstream of it
    over any number of references.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [f"{station.name}/{instance.id}"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for below, other, consumer in downstream.get(name, ()):
            if catalogue.roles[consumer.role].provides == "receipts":
                found[f"{below}:{consumer.role}"] = base_url(event, other, consumer) + "receipts/"
            else:
                waiting.append(below)
    return [found[key] for key in sorted(found)]


def copy_urls(
    event: Event, catalogue: Catalogue, station: Station, instance: Instance, downstream: Downstream
) -> list[str]:
    """Return the URLs of the instances that keep a copy of an instance's media: they read media and provide it."""
    readers = downstream.get(f"{station.name}/{instance.id}", ())
    copies = (row for row in readers if catalogue.roles[row[2].role].provides == "media")
    return sorted({base_url(event, other, consumer) for _, other, consumer in copies})
