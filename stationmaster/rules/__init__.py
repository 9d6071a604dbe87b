"""The rules of the inventory: everything that is checked before any station is touched.

Each module holds the rules of one kind, as functions `(Context) -> Iterator[Finding]`.
"""

from __future__ import annotations

from stationmaster.catalogue import Catalogue
from stationmaster.findings import Finding, ordered
from stationmaster.model import Event
from stationmaster.rules import event as event_rules
from stationmaster.rules import names, network, options, pictures, references, roles, targets, uniqueness
from stationmaster.rules.context import Context

RULES = (
    *roles.RULES,
    *names.RULES,
    *options.RULES,
    *network.RULES,
    *pictures.RULES,
    *uniqueness.RULES,
    *references.RULES,
    *targets.RULES,
    *event_rules.RULES,
)


def check(event: Event, catalogue: Catalogue) -> list[Finding]:
    """Judge a whole event.

    Args:
        event: as loaded; its findings of loading are among the result.
        catalogue: the station roles that exist.

    Returns:
        All findings: by station in the inventory's order, per station
        BlockedRole, MissingRoleFactory, InvalidConfiguration.
    """
    context = Context(event, catalogue)
    found = [*event.findings]
    for rule in RULES:
        found.extend(rule(context))
    return ordered(found, event.stations)
