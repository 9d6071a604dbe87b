"""Loading an inventory with Ansible's own machinery, in this process.

`load` reads files; `from_ansible` takes what a running playbook has loaded
and reads it again the same way, so that both always judge the same thing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stationmaster import ansible_setup, catalogue
from stationmaster.findings import Finding, invalid
from stationmaster.inventory_session import Session, folder_of
from stationmaster.model import Event, Origin


class UnusableInventory(Exception):
    """The inventory cannot be read at all, so nothing can be said of its stations."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(finding.text() for finding in findings))
        self.findings = list(findings)


def load(
    source: str | Path | Sequence[str | Path],
    vault: Sequence[tuple[str, Any]] | None = None,
    roles: catalogue.Catalogue | None = None,
    require_secrets: bool | None = None,
) -> Event:
    """Load an inventory.

    Args:
        source: folder or file, or several as `ansible -i` takes them.
        vault: secrets as Ansible's `setup_vault_secrets` returns them; without any,
            vault values stay opaque.
        roles: the role catalogue whose defaults are filled in; by default the shipped one.
        require_secrets: whether an unreadable secret is a finding; by default when `vault` is given.

    Returns:
        The event; `event.findings` holds what is wrong with the files themselves.

    Raises:
        UnusableInventory: there is no such inventory, or a file of it cannot be read.
    """
    ansible_setup.prepare()
    from stationmaster import origins
    from stationmaster.assemble import assemble

    given = [source] if isinstance(source, str | Path) else list(source)
    if require_secrets is None:
        require_secrets = bool(vault)
    with origins.vault_secrets(vault), _duplicates_are_ours():
        session = _read([_absolute(item) for item in given], vault)
        return assemble(session, roles or catalogue.load(), require_secrets)


def from_ansible(
    inventory_manager: Any, variable_manager: Any, loader: Any, roles: catalogue.Catalogue | None = None
) -> Event:
    """Load the inventory that a running playbook uses, with its vault secrets.

    Variables given on the command line (`-e`) never reach the event: what is
    applied follows from inventory, catalogue and code alone. One that carries
    a prefix of ours is a finding, because whoever gave it expects an effect.

    Args:
        inventory_manager, variable_manager, loader: Ansible's own objects.
        roles: the role catalogue; by default the shipped one.

    Returns:
        As `load`; a secret that cannot be read is a finding.

    Raises:
        UnusableInventory: as `load`.
    """
    from stationmaster.variables import scope_of

    event = load(list(inventory_manager._sources), loader._vault.secrets, roles, require_secrets=True)
    for name in sorted(variable_manager.extra_vars):
        if scope_of(str(name)) is not None:
            message = f"{name} was given with -e; what stations have follows from the inventory alone: write it there"
            event.findings.append(invalid(message, path=str(name)))
    return event


def _absolute(source: str | Path) -> str:
    text = str(source)
    # as Ansible does it: `..` goes, symbolic links stay
    return text if "," in text else os.path.abspath(Path(text).expanduser())  # noqa: PTH100


def _read(sources: list[str], vault: Sequence[tuple[str, Any]] | None) -> Session:
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    from stationmaster.sources import RecordingLoader

    missing = [source for source in sources if "," not in source and not Path(source).exists()]
    if missing or not sources:
        raise UnusableInventory([invalid(f"there is no inventory {name}") for name in missing or ["at all: use -i"]])
    loader = RecordingLoader()
    paths = [Path(source) for source in sources]
    loader.set_basedir(str(folder_of(paths[0])))
    loader.set_vault_secrets(list(vault) if vault else None)
    try:
        manager = InventoryManager(loader=loader, sources=sources)
        variables = VariableManager(loader=loader, inventory=manager)
        HostVars(inventory=manager, variable_manager=variables, loader=loader)
        broken = _broken(manager, loader)
        if not broken:
            hosts = {str(host.name): variables.get_vars(host=host) for host in manager.hosts.values()}
    except AnsibleError as error:
        raise UnusableInventory(list(loader.broken.values()) or [_unusable(error)]) from error
    if broken:
        raise UnusableInventory(broken)
    if not manager.hosts and not manager.groups.get("rooms"):
        raise UnusableInventory([invalid(f"{', '.join(sources)}: no stations found in it; is it an inventory?")])
    return Session(manager, hosts, loader, paths)


def _broken(manager: Any, loader: Any) -> list[Finding]:
    """Return what is wrong with files that no plugin can read; a file without a YAML name may be INI."""
    read = {str(source) for source in manager._inventory.processed_sources}
    return [
        finding
        for path, finding in loader.broken.items()
        if path not in read or path.endswith((".yml", ".yaml", ".json"))
    ]


def _unusable(error: Exception) -> Finding:
    from stationmaster import origins

    text = " ".join(str(error).split())[:400]
    return invalid(f"the inventory cannot be read: {text}", origin=origins.error_origin(error) or Origin(""))


@contextlib.contextmanager
def _duplicates_are_ours() -> Iterator[None]:
    """Silence Ansible's warning about repeated keys: they become findings."""
    name = "ANSIBLE_DUPLICATE_YAML_DICT_KEY"
    before = os.environ.get(name)
    os.environ[name] = "ignore"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
