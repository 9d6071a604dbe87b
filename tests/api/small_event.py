"""A small event for tests of the whole manager: a real inventory of local stations, and tiny playbooks for them."""

import json
import time
from pathlib import Path

from tests.api.run_kit import ROOMS, Project


class SmallEvent(Project):
    """Two rooms whose stations are this machine; the inventory passes the check, and the manager reads it itself."""

    def __init__(self, folder: Path, **variables) -> None:
        super().__init__(folder, **variables)
        self.inventory = folder / "inventory"
        (self.inventory / "rooms").mkdir(parents=True)
        (self.inventory / "group_vars/all").mkdir(parents=True)
        told = {"event_name": "small", "event_title": "Small", "event_network": "10.83.0.0/24", **self.variables}
        (self.inventory / "group_vars/all/event.yml").write_text(json.dumps(told))
        (self.inventory / "services.yml").write_text(json.dumps({"services": {"hosts": {}}}))
        for number, (room, names) in enumerate(ROOMS.items(), 1):
            hosts = {
                name: {"station_mac": f"02:00:00:00:0{number}:{place:02x}", "station_roles": {}}
                for place, name in enumerate(names, 10)
            }
            group = {"vars": {"room_title": room, "room_number": number}, "hosts": hosts}
            path = self.inventory / "rooms" / f"{room.replace('_', '-')}.yml"
            path.write_text(json.dumps({"rooms": {"children": {room: group}}}))


def in_force(inventory, seconds=60.0) -> None:
    """Wait until a manager's inventory has read its first state, with all hashes."""
    deadline = time.monotonic() + seconds
    while inventory._snapshot is None or not inventory.is_settled():
        assert time.monotonic() < deadline, inventory.newest
        time.sleep(0.02)
