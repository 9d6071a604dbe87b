"""Agents as units of real stations, and a manager beside them: what only a real systemd can show."""

import json
from pathlib import Path

import httpx2
import pytest

from api.access import create_token
from api.database import Database
from tests.agent.test_agent import certificate
from tests.api.conftest import Served
from tests.labkit import CHECKOUT, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NETWORK = "10.95.11"
PORT = 18443
GATEWAY = f"{NETWORK}.1"
AGENT = "stationmaster-agent@station.service"
SCRIPT = "stationmaster-script@idle.service"
IDLE = {"station_roles": {"script": {"idle": {"program": "/usr/bin/sleep", "options": {}}}}}


class Near(Served):
    """A manager on the lab's bridge, with TLS."""

    def __init__(self, data, certificate, *arguments):
        self.certificate = certificate
        super().__init__(data, "--host", GATEWAY, *arguments)

    def start(self):
        self.port, self.url = PORT, f"https://{GATEWAY}:{PORT}"
        import socket
        import subprocess
        import sys

        command = [sys.executable, "-m", "stationmaster", "serve", "--data", self.data, "--port", self.port]
        with (self.data.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *self.arguments], cwd=CHECKOUT, stdout=log, stderr=log, env=self.environment
            )

        def answers():
            with socket.socket() as probe:
                return probe.connect_ex((GATEWAY, PORT)) == 0

        assert until(answers, 60), (self.data.parent / "serve.log").read_text()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The lab with its agents applied, the manager, and a client with a reader's token."""
    import ssl

    folder = tmp_path_factory.mktemp("agents")
    own, key = certificate(folder, "manager", GATEWAY)
    (folder / "data").mkdir(mode=0o700)
    database = Database(f"sqlite:///{folder}/data/manager.db")
    database.migrate()
    enrol, reader = (create_token(database, scope)[1] for scope in ("enrol", "read"))
    database.close()
    event = {
        "event_manager_url": f"https://{GATEWAY}:{PORT}",
        "event_role_defaults": {"agent": {"certificate": "manager.pem", "token": enrol}},
    }
    lab = Lab.of(NETWORK, {"one": IDLE, "two": IDLE}, event)
    (lab.inventory / "files").mkdir(exist_ok=True)
    (lab.inventory / "files/manager.pem").write_bytes(Path(own).read_bytes())
    manager = None
    with lab:
        try:
            manager = Near(folder / "data", own, "-i", str(lab.inventory), "--certificate", own, "--key", key)
            lab.playbook("site.yml")
            headers = {"Authorization": f"Bearer {reader}"}
            context = ssl.create_default_context(cafile=own)
            with httpx2.Client(base_url=manager.url, headers=headers, verify=context) as client:
                yield lab, client
        finally:
            if manager is not None:
                manager.stop()


def read(client, name):
    return client.get(f"/v1/stations/{name}").json()


def test_agents_enrol_and_tell_how_their_stations_are(stage):
    lab, client = stage
    for name in ("one", "two"):
        assert until(lambda name=name: read(client, name)["state"] == "ready", 60), lab.out(
            name, f"journalctl -u {AGENT} -n 20"
        )
        told = read(client, name)
        said = told["said"]
        assert said["integrity"] is True, lab.out(name, f"journalctl -u {AGENT} -n 20")
        assert {unit: entry["healthy"] for unit, entry in said["units"].items()} == {AGENT: True, SCRIPT: True}
        assert said["applied"] == said["wanted"]
        assert said["addresses"] == [lab.address(name)]
        assert told["address"] == lab.address(name)
        assert said["disk"]["size"] > 0
        assert "script/idle" in said["figures"]
        assert lab.out(name, "stat -c '%U %a' /var/lib/stationmaster-agent/identity.json") == "sm-agent 600"
        assert "lacks" not in lab.out(name, f"journalctl -u {AGENT}")


def test_an_edit_by_hand_even_of_a_secret_is_told(stage):
    lab, client = stage
    path = lab.out("two", "find /var/lib/stationmaster/current/secrets/ -name secrets.json")
    content = lab.read("two", path)
    lab.write("two", path, content + b" ", "0600")
    assert until(lambda: read(client, "two")["state"] == "drifted", 30)
    lab.write("two", path, content, "0600")
    assert until(lambda: read(client, "two")["said"]["integrity"] is True, 30)


def test_a_shutdown_is_announced_and_a_boot_seen_and_the_agent_starts_first(stage):
    lab, client = stage
    lab.shut_down("one")
    assert read(client, "one")["presence"] == "shutdown", json.dumps(read(client, "one"))
    lab.boot("one")
    assert until(lambda: read(client, "one")["presence"] in ("rebooted", "present"), 60)
    lab.wait("one", f"systemctl is-active {SCRIPT}")
    begun = "systemctl show --property=ActiveEnterTimestampMonotonic --value"
    assert int(lab.out("one", f"{begun} {AGENT}")) <= int(lab.out("one", f"{begun} {SCRIPT}"))
    assert read(client, "one")["rebooted_at"]


def test_an_apply_of_the_agent_is_no_goodbye(stage):
    lab, client = stage
    lab.run("two", f"systemctl restart {AGENT}")
    assert read(client, "two")["presence"] == "present"
