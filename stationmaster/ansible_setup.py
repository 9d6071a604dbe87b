"""Make ansible-core ready inside this process, with this repository's ansible.cfg.

Import this before anything of `ansible`: its configuration is read at import.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


def use_configuration() -> None:
    """Name this repository's ansible.cfg unless the environment or the working folder has one."""
    if "ANSIBLE_CONFIG" not in os.environ and not Path("ansible.cfg").exists():
        os.environ["ANSIBLE_CONFIG"] = str(REPOSITORY / "ansible.cfg")


@functools.cache
def prepare() -> None:
    """Prepare Ansible's plugin loader, once per process and only if nobody has."""
    use_configuration()
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader import AnsibleCollectionConfig

    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader([])


def vault_secrets() -> list[tuple[str, Any]]:
    """Return the secrets that a playbook gets without being given any: those that ansible.cfg and the environment name.

    Relative paths are meant from the working folder, as for `ansible-playbook`.

    Raises:
        AnsibleError: none of the password files can be read.
    """
    prepare()
    from ansible import constants
    from ansible.cli import CLI
    from ansible.parsing.dataloader import DataLoader

    identities = list(constants.DEFAULT_VAULT_IDENTITY_LIST)
    found = CLI.setup_vault_secrets(DataLoader(), identities, auto_prompt=False, initialize_context=False)
    return list(found)
