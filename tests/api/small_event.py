"""A small event for tests of the whole manager: a real inventory of local stations, and tiny playbooks for them."""

import functools
import json
import time
from pathlib import Path

from api.clock import now
from api.guard import RateLimit
from api.run_states import new_id
from api.settings import Settings
from api.tables import Run
from tests.api.conftest import Api
from tests.api.run_kit import ROOMS, Project
from tests.api.stations_kit import Machine, put


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


class Scene:
    """A manager on a small event whose queue stands still, with something to change in either room."""

    def __init__(self, folder, **settings) -> None:
        event = SmallEvent(folder / "project")
        places = {"data": folder / "data", "project": event.folder, "inventory": event.inventory}
        self.api = Api(Settings(**{**places, **settings}))
        self.manager = self.api.manager
        self.manager.open_limit = RateLimit(10_000)
        self.token = functools.cache(self.api.token)
        self.manager.inventory.start()
        self.manager.registry.start()
        in_force(self.manager.inventory)
        # seconds of Ansible each time, and nothing that depends on who asks
        self.manager.inventory.check = lambda: self.manager.inventory.newest

    def close(self) -> None:
        self.manager.stop()

    def run(self, station: str, state: str) -> str:
        """A run of one station, as the queue left it."""
        failed = {"stations": {station: {"state": "failed"}}} if state == "failed" else {}
        row = Run(
            id=new_id(), action="apply", target={"station": station}, parameters={}, stations=[station], state=state,
            reason="", author="token x", body_hash=new_id(), retry_of=None, folded_into=None, revision=None,
            dirty=None, created_at=now(), started_at=None, ended_at=now() if state == "failed" else None,
            cancel_by=None, owner=None, lease_until=None, events=0, result=failed,
        )  # fmt: skip
        with self.manager.database.writing() as session:
            session.add(row)
        return row.id

    def waiting(self, station: str) -> str:
        """Id of a machine that waits to be a station."""
        machine = Machine(station, macs=[f"02:00:00:00:0{1 if station < 'b' else 2}:0a"], seed=new_id())
        answer = machine.enrol(self.api)
        assert answer.status_code == 202, answer.text
        return machine.id

    def stranger(self) -> str:
        """Id of a machine that the inventory does not know."""
        machine = Machine("stranger", seed=new_id())
        answer = machine.enrol(self.api)
        assert answer.json()["state"] == "unassigned", answer.text
        return machine.id

    def enrolled(self, station: str) -> None:
        """Let there be a machine that is a station."""
        if not any(view.name == station and view.enrolment == "enrolled" for view in self.manager.registry.views()):
            put(self.manager.database, self.manager.registry.secret, station, macs=["02:00:00:00:09:09"])
