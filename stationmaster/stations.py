"""From a host's variables to `model.Station`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError

from stationmaster import addresses, origins, placement
from stationmaster.catalogue import Catalogue
from stationmaster.findings import HIDDEN, dotted, invalid, nearest
from stationmaster.layers import Layers, Resolver
from stationmaster.model import Instance, Origin, Room, Station
from stationmaster.options import fill_defaults
from stationmaster.resolve import AGENT_INSTANCE, AGENT_ROLE, WEB_INSTANCE, WEB_ROLE, manager_options, wants_agent
from stationmaster.rules.uniqueness import normal_mac
from stationmaster.schema_text import shown
from stationmaster.scopes import Reader, chain_of
from stationmaster.variables import VARIABLES

INSTANCE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
NOTHING = "a station that wants nothing says `station_roles: {}`"
SHAPES = ("role, then instance id, then options", "instance id, then options", "options")
"""What a mapping holds: station_roles, a role in it, an instance in that."""


class StationBuilder:
    """Builds one station.

    Args:
        reader: collects the findings.
        roles: the catalogue, whose defaults are filled in.
        host: the host of Ansible's inventory.
        variables: its merged variables.
        room: its room, None for services.
    """

    def __init__(
        self, reader: Reader, roles: Catalogue, host: Any, variables: Mapping[str, Any], room: Room | None
    ) -> None:
        self.reader = reader
        self.roles = roles
        self.host = host
        self.variables = variables
        self.chain = chain_of(host)
        self.resolver: Resolver = reader.resolver(variables)
        self.station = Station(str(host.name), room, None, None, [], {})

    def build(self) -> Station:
        """Return the station; what is wrong with it is among the reader's findings."""
        station = self.station
        layers = self.reader.scope("station", self.variables, [station.name], self.chain)
        station.origins = {str(path[0]): origin for path, origin in layers.origins.items() if len(path) == 1}
        station.origins[""] = origins.origin_of(self.host.name, "inventory") or Origin("inventory")
        mac = layers.values.get("station_mac")
        station.mac = (normal_mac(mac) or mac) if isinstance(mac, str) else None
        blocked = layers.values.get("station_blocked_roles")
        station.blocked_roles = [item for item in blocked if isinstance(item, str)] if isinstance(blocked, list) else []
        spare_of = layers.values.get("station_spare_of")
        station.spare_of = spare_of if isinstance(spare_of, str) else None
        self._address()
        self._roles()
        return station

    def _address(self) -> None:
        station = self.station
        written = self.variables.get("ansible_host")
        by_hand = placement.definitions_of(self.reader.sources, self.host, "ansible_host")
        if written is not None and (by_hand or origins.origin_of(written) is not None):
            layers = Layers(self.resolver)
            layers.overlay({"ansible_host": written}, "inventory")
            self.reader.tell(layers, [station.name], ())
            station.address = str(layers.values["ansible_host"] or station.name)
            station.origins["ansible_host"] = self.reader.origin("ansible_host", written, self.chain)
            return
        station.origins["ansible_host"] = Origin("derived")
        try:
            station.address = addresses.address_of(self.host, self.variables)
        except addresses.AddressError as error:
            # Ansible itself then reaches the station by its name
            station.address = station.name
            self._complain(str(error), station.origins[""], ("ansible_host",))

    def _roles(self) -> None:
        station = self.station
        if "station_roles" not in self.variables:
            self._missing_roles()
            return
        raw = self.variables["station_roles"]
        top = self.reader.origin("station_roles", raw, self.chain)
        station.origins["station_roles"] = Origin("station_roles", top.file, top.line)
        url = self._resolved(self.variables.get("event_manager_url"))
        defaults = self._defaults()
        if url:
            asking = {role: dict.fromkeys(manager_options(self.roles, role), url) for role in self.roles.roles}
            defaults = {"event_manager_url": asking, **defaults}
        for role_key, instances in self._mapping(raw, ("station_roles",), top).items():
            role = origins.name(role_key)
            place = origins.origin_of(role_key, "station_roles") or top
            station.origins[f"station_roles.{role}"] = place
            station.roles[role] = {}
            for id_key, options in self._mapping(instances, ("station_roles", role), place).items():
                self._add(
                    role, origins.name(id_key), options, defaults, origins.origin_of(id_key, "station_roles") or place
                )
        serving = any(self.roles.roles[role].serves for role in station.roles if role in self.roles.roles)
        if serving and WEB_ROLE in self.roles.roles and not station.roles.get(WEB_ROLE):
            web = self._instance(WEB_ROLE, WEB_INSTANCE, {}, defaults, Origin("derived"))
            web.implied = True
            station.roles[WEB_ROLE] = {WEB_INSTANCE: web}
        if wants_agent(url or self.variables.get("event_manager"), self.roles, station):
            agent = self._instance(AGENT_ROLE, AGENT_INSTANCE, {}, defaults, Origin("derived"))
            agent.implied = True
            station.roles[AGENT_ROLE] = {AGENT_INSTANCE: agent}

    def _defaults(self) -> dict[str, Mapping[Any, Any]]:
        found = {}
        for layer in ("event_role_defaults", "room_role_defaults"):
            value = self._resolved(self.variables.get(layer))
            if isinstance(value, Mapping):
                found[layer] = value
        return found

    def _add(
        self, role: str, instance: str, raw: Any, defaults: Mapping[str, Mapping[Any, Any]], place: Origin
    ) -> None:
        path = ("station_roles", role, instance)
        if not INSTANCE_ID.match(instance):
            allowed = "1 to 64 of A-Z a-z 0-9 _ -"
            self._complain(
                f"{instance!r} is no instance id of {role}; allowed: {allowed}",
                place,
                path,
                role=role,
                value=instance,
                allowed=allowed,
            )
        options = {} if raw is None else self._mapping(raw, path, place)
        self.station.roles[role][instance] = self._instance(role, instance, options, defaults, place)

    def _instance(
        self,
        role: str,
        instance: str,
        own: Mapping[Any, Any],
        defaults: Mapping[str, Mapping[Any, Any]],
        place: Origin,
    ) -> Instance:
        layers = Layers(self.resolver)
        for layer, of_roles in defaults.items():
            for key, options in of_roles.items():
                if origins.name(key) == role and isinstance(options, Mapping):
                    layers.overlay(options, layer, origins.origin_of(key, layer))
        layers.overlay(own, "station_roles", place)
        if role in self.roles.roles:
            layers.fill(fill_defaults(self.roles.roles[role].options, layers.values))
        path = ("station_roles", role, instance)
        self.reader.tell(layers, [self.station.name], path, {"role": role, "instance": instance})
        return Instance(role, instance, layers.values, layers.origins, layers.opaque, layers.secrets)

    def _mapping(self, raw: Any, path: tuple[str, ...], place: Origin) -> Mapping[Any, Any]:
        """Return a raw value that must be a mapping; anything else is a finding and empty."""
        try:
            value, secret = self.resolver.resolve(raw)
        except origins.Unreadable:
            return {}
        except AnsibleError as error:
            self._complain(
                f"{dotted(path)}: the template cannot be filled in: {str(error).splitlines()[0]}",
                place,
                path,
                value=origins.plain(raw),
            )
            return {}
        if isinstance(value, Mapping):
            return value
        known = HIDDEN if secret else origins.plain(value)
        shape = f"a mapping: {SHAPES[len(path) - 1]}"
        names = dict(zip(("role", "instance"), path[1:], strict=False))
        empty = f"; {NOTHING}" if len(path) == 1 else ""
        message = f"{dotted(path)} is {HIDDEN if secret else shown(known)}; it must be {shape}{empty}"
        self._complain(message, place, path, value=known, allowed=shape, **names)
        return {}

    def _resolved(self, raw: Any) -> Any:
        try:
            return self.resolver.resolve(raw)[0]
        except (origins.Unreadable, AnsibleError):
            # told once, by the reader of the scope that sets it
            return None

    def _missing_roles(self) -> None:
        session = self.reader.session
        if placement.may_be_sealed(session.loader.unreadable, session.folders, self.host):
            return
        names = [str(name) for name in self.variables if str(name) not in VARIABLES["station"]]
        close = nearest("station_roles", [name for name in names if "rol" in name and not name.endswith("_defaults")])
        if close is not None and close.startswith("station_"):
            return  # told as an unknown variable, with its line
        meant = f"; was {close!r} meant for it?" if close else ""
        self._complain(
            f"station_roles is missing{meant}; {NOTHING}",
            self.station.origins[""],
            ("station_roles",),
            allowed=f"a mapping: {SHAPES[0]}",
            suggestion="station_roles" if close else None,
        )

    def _complain(self, message: str, place: Origin | None, path: tuple[str, ...], **parts: Any) -> None:
        self.reader.findings.append(
            invalid(message, stations=[self.station.name], origin=place, path=dotted(path), **parts)
        )
