"""Loads, judges and renders one state of the inventory, as a process of its own that ends afterwards.

Not a thread: Ansible keeps an inventory in its modules' globals, is not safe between threads and
grows with each load. Not a lasting process either: templates, programs and the provisioning's text
are read once per process, so one that lasts would go on rendering yesterday's code. A process for
each state costs half a second, can be killed when a script of the inventory hangs, and takes the
vault's secrets with it: what it hands back has none.

It is started in the checkout, so that ansible.cfg and the vault passwords that it names are found
as by a playbook, and writes pickled `Message`s to its standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pickle
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from api.broadcasters import broadcasters, tokens
from stationmaster import ansible_setup, catalogue
from stationmaster.catalogue import Catalogue
from stationmaster.findings import Finding, invalid
from stationmaster.model import Event, Instance
from stationmaster.options import split_secrets
from stationmaster.targets import SCHEMA as TARGET_SCHEMA

NICE = 10
"""The hellos of the stations come first."""
BATCH = 20
"""Stations whose hashes are told together."""


@dataclass(frozen=True)
class Judged:
    """What the check says; `event` is without secrets, None unless the state can be used."""

    findings: list[dict[str, Any]]
    stations: int = 0
    event: Event | None = None
    failed: str | None = None
    """Why there is no judgement; it may be another time."""
    broadcasters: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What `api.broadcasters` says of the event; made here, for the event that is handed back has no passwords."""
    tokens: frozenset[str] = frozenset()
    """Hashes of the tokens of the event's servers of slides and texts."""


@dataclass(frozen=True)
class Rendered:
    """Wanted hashes of some stations."""

    hashes: dict[str, str] = field(default_factory=dict)


Message = Judged | Rendered


def main() -> None:
    """Tell about the inventory that the command line names; end with status 0 also for one with findings."""
    parser = argparse.ArgumentParser(prog="python -m api.inventory_worker")
    parser.add_argument("--render", metavar="REVISION", help="also render all bundles")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    os.nice(NICE)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever Ansible or a script of the inventory prints is no message
        _work(arguments.folder.absolute(), arguments.render, out)


def _work(folder: Path, revision: str | None, out: BinaryIO) -> None:
    def tell(message: Message) -> None:
        pickle.dump(message, out)
        out.flush()

    try:
        roles = catalogue.load()
        event, findings = judge(folder, roles)
    except catalogue.CatalogueError as error:
        tell(Judged([invalid(str(error)).to_dict()]))
        return
    told = [_relative(finding, folder) for finding in findings]
    if event is None:
        tell(Judged(told))
        return
    judged = Judged(told, len(event.stations), public(event, roles))
    tell(judged if findings else replace(judged, broadcasters=broadcasters(event), tokens=tokens(event)))
    if revision is None or findings:
        return
    from stationmaster import deploy

    hashes: dict[str, str] = {}
    for name, bundle in deploy.bundles(event, list(event.stations), revision):
        hashes[name] = bundle.wanted
        if len(hashes) == BATCH:
            tell(Rendered(hashes))
            hashes = {}
    tell(Rendered(hashes))


def judge(folder: Path, roles: Catalogue) -> tuple[Event | None, list[Finding]]:
    """Load and check an inventory as the plays do, with the vault passwords that they get.

    Args:
        folder: the inventory.
        roles: the station roles.

    Returns:
        The event, None if nothing can be said of its stations, and all findings.
    """
    ansible_setup.prepare()
    from ansible.errors import AnsibleError

    from stationmaster import inventory, rules

    try:
        secrets = ansible_setup.vault_secrets()
    except AnsibleError as error:
        return None, [invalid(f"no vault password file of ansible.cfg can be read: {error}")]
    if folder.is_dir():
        os.chdir(folder)  # findings name files as seen from here
    try:
        event = inventory.load(folder, secrets, roles, require_secrets=True)
    except inventory.UnusableInventory as error:
        return None, error.findings
    return event, rules.check(event, roles)


def _relative(finding: Finding, folder: Path) -> dict[str, Any]:
    """Return a finding without the place where this machine keeps the inventory."""
    told = finding.to_dict()
    for real in dict.fromkeys((str(folder), str(folder.resolve()))):
        for key in ("file", "message"):
            if isinstance(told[key], str):
                told[key] = told[key].replace(f"{real}/", "").replace(real, "the inventory")
    return told


def public(event: Event, roles: Catalogue) -> Event:
    """Return an event without any secret, for a process that lives long and answers questions.

    Role defaults go as a whole: their values are in the instances, judged by each role's schema.
    """

    def instance(one: Instance) -> Instance:
        row = roles.roles.get(one.role)
        options = split_secrets(row.options, one.options)[0] if row else {}
        for path in one.secrets:
            _blank(options, path)
        return dataclasses.replace(one, options=options)

    rooms = {name: dataclasses.replace(room, role_defaults={}) for name, room in event.rooms.items()}
    stations = {
        name: dataclasses.replace(
            station,
            room=rooms[station.room.name] if station.room else None,
            roles={role: {key: instance(one) for key, one in below.items()} for role, below in station.roles.items()},
        )
        for name, station in event.stations.items()
    }
    targets = {name: split_secrets(TARGET_SCHEMA, target)[0] for name, target in event.targets.items()}
    settings = {key: value for key, value in event.settings.items() if key != "role_defaults"}
    for variable, *below in event.secrets:
        if variable == "event_targets" and below:
            _blank(targets, tuple(below))
        settings.pop(str(variable).removeprefix("event_"), None)
    return dataclasses.replace(event, rooms=rooms, stations=stations, targets=targets, settings=settings)


def _blank(value: Any, path: tuple[str | int, ...]) -> None:
    """Put None in the place of a secret; its surroundings may be gone already."""
    place: Any = value
    try:
        for key in path[:-1]:
            place = place[key]
        if path[-1] in place or not isinstance(place, dict):
            place[path[-1]] = None
    except (KeyError, IndexError, TypeError):
        return


if __name__ == "__main__":
    # a pickled message must name its class by this module's own name, not by __main__
    from api import inventory_worker

    inventory_worker.main()
    sys.exit(0)
