"""Gives each station the address that follows from its room and place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.inventory.host import Host
from ansible.plugins.vars import BaseVarsPlugin
from ansible.template import trust_as_template

# Ansible loads plugins by file: the package beside this folder is not yet importable
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stationmaster import addresses

DOCUMENTATION = """
name: stationmaster_addresses
version_added: "2.19"
short_description: Derived addresses of stations
description:
  - Sets C(ansible_host) to C(event_network) + C(room_number) * C(event_room_size) + the station's place.
  - An C(ansible_host) written by hand wins.
requirements:
  - Enabled in C(vars_plugins_enabled)
extends_documentation_fragment:
  - vars_plugin_staging
"""


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]  # ansible-core ships no types
    """Vars plugin: a shim over `stationmaster.addresses`."""

    REQUIRES_ENABLED = True
    is_stateless = True

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Return the derived variables of the hosts among the entities."""
        result: dict[str, Any] = {}
        for entity in entities if isinstance(entities, list) else [entities]:
            if isinstance(entity, Host):
                derived = addresses.host_variables(loader, path, entity)
                # untrusted text would appear as {"__ansible_unsafe": …} in `ansible-inventory --list`
                result.update({name: trust_as_template(value) for name, value in derived.items()})
        return result
