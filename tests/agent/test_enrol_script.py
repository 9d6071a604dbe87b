"""station/enrol: one file that brings a bare machine in."""

import json
import subprocess
import threading
from pathlib import Path

import pytest

from api import enrolment
from tests.agent.test_agent import accept, certificate
from tests.api.stations_kit import host_key

SCRIPT = Path(__file__).resolve().parents[2] / "station/enrol"


@pytest.fixture
def machine(tmp_path):
    root = tmp_path / "machine"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/ssh/sshd_config").write_text("")
    (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(host_key("machine") + " root@debian\n")
    return root


def run(machine, url, *arguments, name="hall-a-cam"):
    return subprocess.run(
        ["sh", SCRIPT, "--manager", url, "--name", name, *map(str, arguments)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "STATIONMASTER_ROOT": str(machine)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def token_file(folder, text, mode=0o600):
    path = folder / "room.token"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_with_a_token_it_is_enrolled_at_once_and_the_managers_key_installed(near, machine, tmp_path):
    own, key = certificate(tmp_path, "manager")
    manager = near(ssl_certfile=own, ssl_keyfile=key)
    (machine / "root/.ssh").mkdir(parents=True)
    (machine / "root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA somebody")
    token = token_file(tmp_path, manager.token())
    done = run(machine, manager.url, "--certificate", own, "--token-file", token)
    assert (done.returncode, "is hall-a-cam" in done.stderr) == (0, True), done.stderr
    path = machine / "var/lib/stationmaster-agent/identity.json"
    assert path.stat().st_mode & 0o777 == 0o600
    identity = json.loads(path.read_text())
    assert identity["secret"] == manager.registry.secret(identity["id"], 1)
    keys = (machine / "root/.ssh/authorized_keys").read_text().splitlines()
    assert keys == ["ssh-ed25519 AAAA somebody", manager.registry.public_key]
    assert host_key("machine") in manager.registry.known_hosts.read_text()
    assert "already" in run(machine, manager.url, "--certificate", own).stderr
    assert json.loads(path.read_text()) == identity


def test_without_one_it_waits_and_a_second_run_goes_on_where_it_was(near, machine, monkeypatch):
    monkeypatch.setattr(enrolment, "ASK_AGAIN", 1.0)
    manager = near()
    done = run(machine, manager.url, "--wait", 1)
    assert done.returncode == 3
    assert "waiting: an operator has to accept it" in done.stderr
    claim = json.loads((machine / "var/lib/stationmaster-agent/identity.json").read_text())["claim"]
    assert not (machine / "root/.ssh/authorized_keys").exists()
    timer = threading.Timer(1.5, accept, [manager])
    timer.start()
    done = run(machine, manager.url, "--wait", 30)
    timer.join()
    assert done.returncode == 0, done.stderr
    assert claim not in (machine / "var/lib/stationmaster-agent/identity.json").read_text()
    assert (machine / "root/.ssh/authorized_keys").read_text().strip() == manager.registry.public_key


def test_it_says_what_is_wrong(near, machine, tmp_path):
    own, key = certificate(tmp_path, "manager")
    other, _ = certificate(tmp_path, "other")
    manager = near(ssl_certfile=own, ssl_keyfile=key)
    assert "readable by others" in run(machine, manager.url, "--token-file", token_file(tmp_path, "x", 0o644)).stderr
    wrong = run(machine, manager.url, "--certificate", other, "--wait", 0)
    assert (wrong.returncode, "certificate" in wrong.stderr.lower()) == (3, True)
    assert "422" in run(machine, manager.url, "--certificate", own, name="<b>").stderr
    assert "unassigned" in run(machine, manager.url, "--certificate", own, "--wait", 0, name="laptop").stderr


def test_its_identity_is_what_the_agent_reads(near, machine, box, tmp_path, monkeypatch):
    manager = near()
    run(machine, manager.url, "--token-file", token_file(tmp_path, manager.token()))
    kept = (machine / "var/lib/stationmaster-agent/identity.json").read_bytes()
    (box.root / "state/identity.json").write_bytes(kept)
    monkeypatch.setattr("station.agent_machine.macs", lambda: list(manager.view().macs))
    agent = box.agent(manager.url)
    agent.turn()
    assert agent._told == "the manager knows the station as new"
