"""Runs for tests: a project folder with tiny playbooks, an inventory of local stations, and a manager on both.

The playbooks are real and so is everything that runs them; only the inventory's and the
registry's parts of the manager are small stand-ins. Run as a program, it is a manager to be
killed: `python -m tests.api.run_kit FOLDER PORT`.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from api.app import create_app
from api.problems import Problem
from api.settings import Settings

ROOMS = {"hall_a": ["a1", "a2", "a3"], "hall_b": ["b1", "b2", "b3"]}
CONFIG = """\
[defaults]
host_key_checking = True
forks = 20
interpreter_python = /usr/bin/python3
deprecation_warnings = False
"""
HEAD = {"hosts": "rooms", "gather_facts": False, "environment": {"STATIONMASTER_RUN": "{{ run | default('') }}"}}
PLAYBOOKS = {
    "apply": "site.yml",
    **{
        name: f"playbooks/{name}.yml"
        for name in ("check", "restart", "start", "stop", "rollback", "provision", "on-air")
    },
}


def play(*tasks, **more):
    """One play on the run's stations."""
    return {**HEAD, "name": "Play", "tasks": list(tasks), **more}


def shell(text, **more):
    """A task that runs a shell line on the station."""
    return {"name": more.pop("name", "Work"), "ansible.builtin.shell": text, "changed_when": False, **more}


class Project:
    """The folder that a manager's runs use: playbooks, ansible.cfg, inventory."""

    def __init__(self, folder: Path, rooms=ROOMS, **variables) -> None:
        self.folder = folder
        self.rooms = rooms
        (folder / "playbooks").mkdir(parents=True)
        (folder / "ansible.cfg").write_text(CONFIG)
        self.trace = folder / "trace"
        self.trace.mkdir()
        self.variables = {"ansible_connection": "local", "trace": str(self.trace), **variables}
        hosts = {room: {"hosts": {name: {} for name in names}} for room, names in rooms.items()}
        inventory = {"rooms": {"children": hosts, "vars": self.variables}, "services": {"hosts": {}}}
        self.inventory = folder / "inventory.yml"
        self.inventory.write_text(json.dumps(inventory))
        for action in PLAYBOOKS:
            self.playbook(action, shell(f"echo {action} {{{{ run }}}} >> {{{{ trace }}}}/{{{{ inventory_hostname }}}}"))
        self.state("wanted", {})
        self.state("in_order", [])

    def playbook(self, action: str, *tasks, **more) -> None:
        """Say what an action does."""
        (self.folder / PLAYBOOKS[action]).write_text(json.dumps([play(*tasks, **more)]))

    def state(self, name: str, value) -> None:
        """Set what the stand-ins tell."""
        staged = self.folder / f"{name}.new"
        staged.write_text(json.dumps(value))
        staged.rename(self.folder / f"{name}.json")

    def done(self, station: str) -> list[str]:
        """What was done on a station, in order, as `action run`."""
        path = self.trace / station
        return path.read_text().splitlines() if path.exists() else []


@dataclass
class Inventory:
    """Stand-in for the inventory part, on a project's files."""

    project: Path
    rooms: dict
    revision: str = "0123456789ab"
    calls: list = field(default_factory=list)

    def current(self):
        stations = {
            name: SimpleNamespace(roles={"encode": {}} if name.endswith("1") else {})
            for names in self.rooms.values()
            for name in names
        }
        return SimpleNamespace(
            revision=self.revision,
            dirty=True,
            path=self.project / "inventory.yml",
            event=SimpleNamespace(stations=stations),
            room_of=lambda station: next((room for room, names in self.rooms.items() if station in names), None),
        )

    def wanted(self):
        return json.loads((self.project / "wanted.json").read_text())

    def is_settled(self):
        return not (self.project / "edited").exists()

    def resolve(self, target, action):
        self.calls.append((target, action))
        everyone = [name for names in self.rooms.values() for name in names]
        if target.everything:
            return everyone
        found = self.rooms.get(target.room, []) if target.room else [n for n in everyone if n == target.station]
        if not found:
            raise Problem(422, "UnknownTarget", f"There is no {target.named()}.", "Take one that there is.")
        return found


@dataclass
class Registry:
    """Stand-in for the stations part."""

    project: Path
    machines: dict
    known_hosts: Path | None = None

    def ids(self):
        return dict(self.machines)

    def all_in_order(self, wanted):
        return set(json.loads((self.project / "in_order.json").read_text())) & set(wanted)


def make_app(project: Project, data: Path, **settings):
    """A manager's application on a project."""
    app = create_app(Settings(data=data, project=project.folder, inventory=project.inventory, **settings))
    manager = app.state.manager
    manager.inventory = Inventory(project.folder, project.rooms)
    machines = {name: f"machine-of-{name}" for names in project.rooms.values() for name in names}
    manager.registry = Registry(project.folder, machines)
    manager.parts = [manager.runs]
    return app


def wait_for(condition, seconds=60.0, pause=0.15):
    """Wait until a condition gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)


def alive(run: str, variable: str = "STATIONMASTER_RUN") -> list[int]:
    """Processes of this machine that carry a run's mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{variable}={run}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def main(folder: Path, port: int) -> None:
    """Serve a project that was made before."""
    import uvicorn

    options = json.loads((folder / "serve.json").read_text())
    project = object.__new__(Project)
    project.folder, project.rooms, project.inventory = folder, options["rooms"], folder / "inventory.yml"
    app = make_app(project, Path(options["data"]), **options["settings"])

    class Server(uvicorn.Server):
        def handle_exit(self, sig, frame):
            app.state.manager.ending.set()
            super().handle_exit(sig, frame)

    Server(uvicorn.Config(app, port=port, access_log=False, timeout_graceful_shutdown=5)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
