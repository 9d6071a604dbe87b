"""From Ansible's inventory objects to `model.Event`."""

from __future__ import annotations

from typing import Any

from ansible.inventory.helpers import sort_groups
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from stationmaster import addresses, placement
from stationmaster.catalogue import Catalogue
from stationmaster.findings import invalid
from stationmaster.inventory_session import Session
from stationmaster.model import Event, Origin, Room
from stationmaster.resolve import add_agents
from stationmaster.scopes import Reader
from stationmaster.sources import Sources
from stationmaster.stations import StationBuilder

ALL_GROUP = "all"


def assemble(session: Session, roles: Catalogue, require_secrets: bool) -> Event:
    """Build the event with all findings of loading.

    Args:
        session: the inventory as Ansible read it.
        roles: the catalogue, whose defaults are filled in.
        require_secrets: whether an unreadable secret is a finding.
    """
    sources = Sources(session.loader, session.folders, [source for source in session.sources if source.is_dir()])
    reader = Reader(session, sources, require_secrets)
    event = _event(session, reader)
    event.rooms = _rooms(session, reader)
    members, misplaced = placement.members(session.manager, sources)
    for host, room in members:
        builder = StationBuilder(reader, roles, host, session.variables[str(host.name)], event.rooms.get(room or ""))
        event.stations[str(host.name)] = builder.build()
    add_agents(event, roles)
    event.findings = [
        *sources.findings,
        *misplaced,
        *placement.variable_findings(session.manager, sources, event.stations),
        *placement.names_without_a_line(session.variables, sources, event.stations),
        *reader.findings,
    ]
    if require_secrets:
        message = "the file is encrypted, and no vault password that was given opens it"
        event.findings += [invalid(message, origin=Origin("", path)) for path in sources.unreadable]
    return event


def _event(session: Session, reader: Reader) -> Event:
    layers = reader.scope("event", _variables(session, [ALL_GROUP]), [], [("group", ALL_GROUP)])
    values = layers.values
    name = str(values.get("event_name") or "event")
    targets = values.get("event_targets")
    return Event(
        name=name,
        title=str(values.get("event_title") or name),
        folder=str(session.folder),
        rooms={},
        stations={},
        targets={key: item for key, item in targets.items() if isinstance(item, dict)}
        if isinstance(targets, dict)
        else {},
        settings={key.removeprefix("event_"): item for key, item in values.items() if key != "event_targets"},
        origins=layers.origins,
        opaque=layers.opaque,
        secrets=layers.secrets,
        groups={str(group) for group in session.manager.groups},
    )


def _rooms(session: Session, reader: Reader) -> dict[str, Room]:
    rooms = session.manager.groups.get(addresses.ROOMS_GROUP)
    result = {}
    for group in rooms.child_groups if rooms else []:
        name = str(group.name)
        names = [str(item.name) for item in sort_groups([*group.get_ancestors(), group])]
        stations = [str(host.name) for host in group.get_hosts()]
        chain = [("group", item) for item in names]
        layers = reader.scope("room", _variables(session, names), stations, chain)
        number = layers.values.get("room_number")
        defaults = layers.values.get("room_role_defaults")
        result[name] = Room(
            name=name,
            title=str(layers.values.get("room_title") or name),
            number=number if isinstance(number, int) and not isinstance(number, bool) else None,
            role_defaults=defaults if isinstance(defaults, dict) else {},
            origins=layers.origins,
        )
    return result


def _variables(session: Session, names: list[str]) -> dict[str, Any]:
    """Merge the variables of groups as Ansible does for a host: inventory first, then group_vars."""
    groups = [session.manager.groups[name] for name in names if name in session.manager.groups]
    merged: dict[str, Any] = {}
    for group in groups:
        merged = combine_vars(merged, group.get_vars())
    files = get_vars_from_inventory_sources(session.loader, session.manager._sources, groups, "all")
    return dict(combine_vars(merged, files))
