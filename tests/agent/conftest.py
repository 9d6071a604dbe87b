"""A station in a folder with an agent, and a manager that listens in a thread of this process."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from api.access import create_token
from api.app import create_app
from api.settings import Settings
from station.agent import Agent
from station.config import Config, Paths
from tests.api.conftest import serve  # noqa: F401 - a fixture
from tests.api.stations_kit import Inventory, host_key
from tests.engine.kit import Bundle, Station

SYSTEMCTL = """\
#!/bin/sh
case $1 in
is-system-running) cat '{root}/systemd/system' ;;
*) for unit in '{root}/systemd/'*.service; do cat "$unit"; echo; done ;;
esac
"""


class Box(Station):
    """A station below a folder, whose systemd says what files of `systemd/` say."""

    def __init__(self, root: Path, name: str = "hall-a-cam") -> None:
        super().__init__(root)
        self.name = name
        self.said = root / "systemd"
        for folder in (self.said, root / "usr/bin", root / "etc/ssh", root / "run/metrics", root / "state"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.said / "system").write_text("running\n")
        (root / "usr/bin/systemctl").write_text(SYSTEMCTL.format(root=root))
        (root / "usr/bin/systemctl").chmod(0o755)
        (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(host_key(name) + " root@box\n")
        boot = Path(self.layout.boot_id)
        boot.parent.mkdir(parents=True)
        boot.write_text("11111111-2222-3333-4444-555555555555\n")

    def agent(self, url, clock=None, **options):
        run = self.root / "run"
        paths = Paths(self.root / "state", run, run, run / "metrics" / "agent-station.prom", run / "context.json")
        config = Config(
            event="e", room=None, station=self.name, address="127.0.0.1", role="agent", instance="station",
            options={"manager": url, **options}, sources={}, targets={}, paths=paths,
        )  # fmt: skip
        return Agent(config, self.layout, clock)

    def applied(self):
        """Apply a bundle of three units, which then run."""
        bundle = Bundle(self.name)
        for role, instance in (("ingest", "main"), ("encode", "talks"), ("upload", "archive")):
            config = json.dumps({"options": {"timestamp": 1234567890123} if role == "ingest" else {}})
            name = bundle.unit(role, instance, live=role == "ingest", config=config, secret="hunter2")
            self.unit_is(name, ActiveState="active", SubState="running")
        assert self.apply(bundle)["result"] == "changed"
        return bundle

    def unit_is(self, name, **properties):
        told = {
            "Id": name,
            "LoadState": "loaded",
            "Result": "success",
            "NRestarts": "0",
            "Type": "notify",
            **properties,
        }
        (self.said / name).write_text("".join(f"{key}={value}\n" for key, value in told.items()))

    def identity(self):
        return json.loads((self.root / "state/identity.json").read_text())

    def keep(self, machine):
        """Give it the identity of a machine that is enrolled."""
        value = {"id": machine.id, "secret": machine.secret, "claim": None}
        (self.root / "state/identity.json").write_text(json.dumps(value))


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr("station.agent_machine.macs", lambda: ["02:00:00:00:01:0a"])
    return Box(tmp_path / "station")


class Near:
    """A manager in a thread, with an inventory of the test's."""

    def __init__(self, data: Path, **tls) -> None:
        self.app = create_app(Settings(data=data, inventory=data.with_name("inventory")))
        self.manager = self.app.state.manager
        self.manager.inventory = Inventory()
        self.registry = self.manager.registry
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=port, log_level="error", **tls))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)

    def token(self, room="hall_a"):
        return create_token(self.manager.database, "enrol", room)[1]

    def view(self, name="hall-a-cam"):
        return self.registry.view(name)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture
def near(tmp_path):
    made = []

    def start(**tls):
        made.append(Near(tmp_path / "data", **tls))
        return made[-1]

    yield start
    for one in made:
        one.stop()
