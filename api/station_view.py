"""A station as the manager sees it: what it is, what it last said, and the words for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from api import station_state
from api.clock import now
from api.tables import Station

if TYPE_CHECKING:
    from api.registry import Registry


@dataclass(frozen=True)
class StationView:
    """A machine, or a station of the inventory that no machine is enrolled as (then `id` is None).

    `name` is the one that it is enrolled under, or the station of the inventory; None for a machine that is
    neither. `claims` is the station that a waiting machine would become. Times are seconds since 1970.
    """

    registry: Registry
    id: str | None
    name: str | None
    enrolment: str
    claims: str | None = None
    hostname: str = ""
    macs: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()
    claim: str | None = None
    accepted_by: str | None = None
    created_at: float | None = None
    asked_at: float | None = None
    seen_at: float | None = None
    address: str | None = None
    boot_id: str | None = None
    rebooted_at: float | None = None
    shutdown_at: float | None = None
    told: str | dict[str, Any] = "{}"

    @cached_property
    def said(self) -> dict[str, Any]:
        """Its last hello as plain data (`api.hello.Hello`), `{}` before the first."""
        return from_json(self.told) if isinstance(self.told, str) else self.told

    @property
    def room(self) -> str | None:
        """The room that the inventory has it in."""
        return self.registry.room_of(self.name or self.claims)

    @property
    def wanted(self) -> str | None:
        """Hash of the bundle that the inventory wants it to have, as far as known."""
        return self.registry.wanted_of(self.name)

    @property
    def state(self) -> station_state.State:
        """How its configuration is."""
        return station_state.state_of(
            assigned=self.registry.assigned(self.name or self.claims),
            enrolled=self.enrolment == "enrolled",
            said=self.said,
            wanted=self.wanted,
        )

    @property
    def presence(self) -> station_state.Presence:
        """How its hellos come."""
        settings = self.registry.settings
        return station_state.presence_of(
            now=now(),
            interval=settings.hello_interval,
            seen_at=self.seen_at,
            rebooted_at=self.rebooted_at,
            shutdown_at=self.shutdown_at,
            started_at=self.registry.started_at,
            hold=settings.hold_alerts,
        )


def view_of(registry: Registry, row: Station, claims: Callable[[Station], str | None]) -> StationView:
    """Return the view of a row; `claims` finds the station that a waiting machine would become."""
    return StationView(
        registry=registry, id=row.id, name=row.name, enrolment=row.enrolment,
        claims=claims(row) if row.enrolment == "waiting" else None,
        hostname=row.hostname, macs=tuple(row.macs), host_keys=tuple(row.host_keys),
        claim=(row.claim_hash or "")[:12] or None, accepted_by=row.accepted_by, created_at=row.created_at,
        asked_at=row.asked_at, seen_at=row.seen_at, address=row.address, boot_id=row.boot_id,
        rebooted_at=row.rebooted_at, shutdown_at=row.shutdown_at, told=row.said,
    )  # fmt: skip
