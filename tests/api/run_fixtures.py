"""What tests of runs share: a project, a manager in this process, requests by a few words."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.access import create_token
from api.database import Database
from tests import plain_http
from tests.api.run_kit import Project, make_app, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
ENDED = {"succeeded", "failed", "unreachable", "incomplete", "timed_out", "canceled", "cancel_unverified", "lost"}


class Caller:
    """Requests about runs, through any client of the HTTP interface."""

    def __init__(self, client, headers) -> None:
        self.client = client
        self.headers = headers

    def post(self, path, body=None, **headers):
        return self.client.post(path, json=body, headers={**self.headers, **headers})

    def get(self, path):
        return self.client.get(path, headers=self.headers)

    def start(self, action="apply", **request) -> str:
        """Start a run and return its id; the target is all, unless `room=` or `station=` says which."""
        names = {name: request.pop(name) for name in ("room", "station") if name in request}
        answer = self.post("/v1/runs", {"action": action, "target": names or {"everything": True}, **request})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/runs/{answer.json()['id']}"
        return answer.json()["id"]

    def run(self, identity) -> dict:
        return self.get(f"/v1/runs/{identity}").json()

    def ended(self, identity, seconds=60.0) -> dict:
        """Wait for the end of a run and return it."""
        return wait_for(lambda: (run := self.run(identity))["ended"] and run, seconds)

    def reached(self, identity, *states, seconds=60.0) -> dict:
        """Wait for a state of a run."""

        def there():
            run = self.run(identity)
            assert run["state"] in states or not run["ended"], run
            return run["state"] in states and run

        return wait_for(there, seconds)

    def events(self, identity, after=0) -> list[dict]:
        """All events of an ended run, read by pages."""
        found = []
        while True:
            page = self.get(f"/v1/runs/{identity}/events?after={after}&wait=5").json()
            found += page["events"]
            after = page["last"]
            if page["total"] is not None and after >= page["total"]:
                assert [one["number"] for one in found] == list(range(found[0]["number"], page["total"] + 1))
                return found


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def managing(tmp_path, project):
    """Start managers in this process: `managing(**settings)` gives a `Caller` with `.app` and `.token`."""
    clients = []

    def start(data=None, **settings) -> Caller:
        app = make_app(project, data or tmp_path / "data", **settings)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)

        def token(scope, room=None):
            return {"Authorization": f"Bearer {create_token(app.state.manager.database, scope, room)[1]}"}

        caller = Caller(client, token("admin"))
        caller.app, caller.token, caller.manager = app, token, app.state.manager
        return caller

    yield start
    for client in clients:
        client.__exit__(None, None, None)


class ServedRuns(Caller):
    """A manager in a process of its own, to be killed and started again."""

    def __init__(self, project, data, **settings) -> None:
        self.folder = project.folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = {"rooms": project.rooms, "data": str(data), "settings": settings}
        self.options = options
        self.log = data.with_suffix(".log")
        self.data = data
        super().__init__(plain_http.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30), {})
        self.process = None
        self.launch()
        database = Database(settings.get("database_url") or f"sqlite:///{data}/manager.db")
        self.headers = {"Authorization": f"Bearer {create_token(database, 'admin')[1]}"}
        database.close()

    def launch(self) -> None:
        """Start it and wait until it is ready."""
        (self.folder / "serve.json").write_text(json.dumps(self.options))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.api.run_kit", self.folder, str(self.port)],
                cwd=CHECKOUT, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def served(tmp_path, project):
    """Start managers as processes."""
    made = []

    def start(name="data", **settings) -> ServedRuns:
        made.append(ServedRuns(project, tmp_path / name, **settings))
        return made[-1]

    yield start
    for one in made:
        one.client.close()
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
