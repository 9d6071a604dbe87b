"""The page's stage: real stations that record and copy, a manager beside them, and what a test does to them."""

import ssl
from contextlib import contextmanager
from pathlib import Path

import httpx2
import yaml

from tests.agent.test_agent import certificate
from tests.api.near import Near, project_with
from tests.labkit import Lab, until

NETWORK = "10.95.12"
GATEWAY = f"{NETWORK}.1"
PORT = 18444
SMALL = {"size": "320x180", "rate": 25, "preset": "ultrafast", "bitrate": 400}
JOURNAL = {"journal": {"main": {"to": "enc/main"}}}
STATIONS = {
    "cam": {
        "station_roles": {
            "ingest": {"main": {"source": {"type": "testcard"}, "video": SMALL, "preview": {"every": 1, "width": 320}}},
            **JOURNAL,
        }
    },
    "enc": {
        "station_roles": {
            "record": {"copy": {"from": "cam/main"}},
            "collector": {"main": {"max_size": "100M"}},
            **JOURNAL,
        }
    },
}
LONG = """\
- name: Take long
  hosts: ~^(rooms|services)$
  gather_facts: false
  environment: {STATIONMASTER_RUN: "{{ run | default('') }}"}
  tasks:
    - name: Say something, and take long
      ansible.builtin.command: sh -c 'echo step {{ item }} of the long run; sleep 0.4'
      loop: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
      changed_when: false
"""
"""In the place of provisioning, which has nothing to do on a lab's station."""


class Stage:
    """The lab, its manager, and clients of it."""

    def __init__(self, lab: Lab, manager: Near, own: str) -> None:
        self.lab, self.manager, self.own = lab, manager, own
        headers = self.token("admin")
        context = ssl.create_default_context(cafile=own)
        self.client = httpx2.Client(base_url=manager.url, headers=headers, verify=context, timeout=30)

    def token(self, scope: str, *arguments: str) -> dict[str, str]:
        return self.manager.token(scope, *arguments)

    def secret(self, scope: str, *arguments: str) -> str:
        """A token itself."""
        return self.token(scope, *arguments)["Authorization"].removeprefix("Bearer ")

    def station(self, name: str) -> dict:
        return self.client.get(f"/v1/stations/{name}").json()

    def ready(self, name: str) -> bool:
        told = self.station(name)
        return told["state"] == "ready" and told["said"].get("applied") == told["wanted"]

    def runs(self) -> list[dict]:
        return self.client.get("/v1/runs").json()["runs"]

    def ended(self, run: str) -> dict:
        assert until(lambda: self.client.get(f"/v1/runs/{run}").json()["ended"], 60)
        return self.client.get(f"/v1/runs/{run}").json()

    def edit(self, station: str, role: str, instance: str, **options) -> None:
        """Change options of an instance in the inventory; None takes one away."""
        path = self.lab.inventory / "rooms/hall-x.yml"
        told = yaml.safe_load(path.read_text())
        hosts = told["stations"]["children"]["rooms"]["children"]["hall_x"]["hosts"]
        given = hosts[station]["station_roles"][role][instance]
        given.update(options)
        for name in [name for name, value in given.items() if value is None]:
            del given[name]
        staged = path.with_suffix(".new")
        staged.write_text(yaml.safe_dump(told))
        staged.replace(path)


def inside(machine, path: str) -> Path:
    """Return a path of a running station as this machine has it."""
    return Path(f"/proc/{machine.group.leader()}/root{path}")


@contextmanager
def staged(folder: Path):
    """Give the stage: the stations are applied, and wait to be let in."""
    own, key = certificate(folder, "manager", GATEWAY)
    (folder / "data").mkdir(mode=0o700)
    event = {
        "event_manager_url": f"https://{GATEWAY}:{PORT}",
        "event_role_defaults": {"agent": {"certificate": "manager.pem"}},
    }
    lab = Lab.of(NETWORK, STATIONS, event)
    (lab.inventory / "files").mkdir(exist_ok=True)
    (lab.inventory / "files/manager.pem").write_bytes(Path(own).read_bytes())
    project = project_with(folder / "project", provision=LONG)
    with lab:
        lab.playbook("site.yml")
        journals = inside(lab.machine("enc"), "/srv/stationmaster/collector/main")
        arguments = ("-i", str(lab.inventory), "--certificate", own, "--key", key)
        settings = {"STATIONMASTER_PROJECT": str(project), "STATIONMASTER_JOURNALS": str(journals)}
        settings["STATIONMASTER_HOLD_ALERTS"] = (
            "1"  # one of the tests restarts the manager, and the next loses a station
        )
        manager = Near(folder / "data", GATEWAY, PORT, *arguments, **settings)
        try:
            stage = Stage(lab, manager, own)
            with stage.client:
                yield stage
        finally:
            manager.stop()
