"""Which roles a station may and can have, and how many instances of each."""

from __future__ import annotations

from collections.abc import Iterator

from stationmaster.findings import BLOCKED_ROLE, MISSING_ROLE_FACTORY, Finding, hint, invalid, listed, nearest
from stationmaster.model import Origin, Station
from stationmaster.rules.context import Context


def blocked_roles(context: Context) -> Iterator[Finding]:
    """A station refuses the roles in its station_blocked_roles."""
    for station in context.event.stations.values():
        for role in station.roles:
            if role in station.blocked_roles:
                needed = " (it serves the files of other roles here)" if _implied(station, role) else ""
                blocked = listed(station.blocked_roles)
                message = f"role {role!r}{needed} is blocked on {station.name} by station_blocked_roles: {blocked}"
                yield invalid(
                    message,
                    error=BLOCKED_ROLE,
                    stations=[station.name],
                    origin=_origin(station, role),
                    role=role,
                    path=f"station_roles.{role}",
                    value=role,
                )


def missing_roles(context: Context) -> Iterator[Finding]:
    """A role is a folder with a role.yml."""
    valid = sorted(context.catalogue.roles)
    for station in context.event.stations.values():
        for role in station.roles:
            if role not in context.catalogue.roles:
                close = nearest(role, valid)
                message = (
                    f"there is no station role {role!r}{hint(close)}{' Roles' if close else '; roles'}: {listed(valid)}"
                )
                yield invalid(
                    message,
                    error=MISSING_ROLE_FACTORY,
                    stations=[station.name],
                    origin=_origin(station, role),
                    role=role,
                    path=f"station_roles.{role}",
                    value=role,
                    allowed=valid,
                    suggestion=close,
                )


def blocked_names(context: Context) -> Iterator[Finding]:
    """A misspelt block list would block nothing."""
    valid = sorted(context.catalogue.roles)
    for station in context.event.stations.values():
        for role in station.blocked_roles:
            if role not in context.catalogue.roles and (close := nearest(role, valid)) is not None:
                message = f"station_blocked_roles names {role!r}, which is no station role{hint(close)}"
                yield invalid(
                    message,
                    stations=[station.name],
                    origin=station.origins.get("station_blocked_roles"),
                    role=role,
                    path="station_blocked_roles",
                    value=role,
                    allowed=valid,
                    suggestion=close,
                )


def too_many_instances(context: Context) -> Iterator[Finding]:
    """A role may limit its instances per station."""
    for station in context.event.stations.values():
        for role, instances in station.roles.items():
            row = context.catalogue.roles.get(role)
            if row is not None and 0 < row.instances < len(instances):
                limit = f"at most {row.instances}"
                message = f"{len(instances)} instances of {role} ({listed(instances)}), but a station has {limit}"
                yield invalid(
                    message,
                    stations=[station.name],
                    origin=_origin(station, role),
                    role=role,
                    path=f"station_roles.{role}",
                    value=len(instances),
                    allowed=limit,
                )


def _implied(station: Station, role: str) -> bool:
    return any(instance.implied for instance in station.roles[role].values())


def _origin(station: Station, role: str) -> Origin | None:
    return station.origins.get(f"station_roles.{role}") or station.origins.get("station_roles")


RULES = (blocked_roles, missing_roles, blocked_names, too_many_instances)
