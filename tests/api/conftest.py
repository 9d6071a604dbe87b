"""A manager for tests: its application in this process, or served by a process of its own."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.access import create_token
from api.app import create_app
from api.database import Database
from api.settings import Settings
from stationmaster import cli
from tests import plain_http
from tests.api.postgres import cluster, postgres
from tests.api.run_fixtures import managing, project, served

__all__ = ["cluster", "managing", "postgres", "project", "served"]

CHECKOUT = Path(__file__).resolve().parents[2]


class Api(TestClient):
    """A client of a manager in this process, with tokens at hand."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(create_app(settings), raise_server_exceptions=False)
        self.manager = self.app.state.manager

    def token(self, scope: str, room: str | None = None, **more) -> dict[str, str]:
        """Headers with a new token."""
        return {"Authorization": f"Bearer {create_token(self.manager.database, scope, room, **more)[1]}"}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """A database's file with all tables and no rows: hundreds of tests need one, and to make the tables takes time."""
    path = tmp_path_factory.mktemp("migrated") / "manager.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def api(tmp_path, migrated):
    """A manager whose inventory's folder is not there: to judge one takes more than most tests do."""
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(migrated, tmp_path / "data/manager.db")
    with Api(Settings(data=tmp_path / "data", inventory=tmp_path / "inventory")) as client:
        yield client


class Served:
    """`stationmaster serve` as a process, to be killed and started again on the same data."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.arguments = arguments
        self.environment = {**os.environ, **environment}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "stationmaster", "serve", "--data", self.data, "--port", self.port]
        with (self.data.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *self.arguments], cwd=CHECKOUT, stdout=log, stderr=log, env=self.environment
            )
        deadline = time.monotonic() + 100
        while True:
            try:
                if plain_http.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            log = (self.data.parent / "serve.log").read_text()
            assert self.process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def token(self, scope: str, *arguments: str) -> dict[str, str]:
        """Headers with a new token, made by the operator's command, in this process: to start one takes seconds."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
            assert cli.main(["token", "create", "--scope", scope, "--data", str(self.data), *arguments]) == 0
        return {"Authorization": f"Bearer {told.getvalue().strip()}"}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path):
    """Start managers; all are ended after the test. Unless `-i` is given their inventory's folder is not there."""
    made = []

    def start(*arguments: str, data: Path | None = None, **environment: str) -> Served:
        inventory = () if "-i" in arguments else ("-i", str(tmp_path / "inventory"))
        made.append(Served(data or tmp_path / "data", *inventory, *arguments, **environment))
        return made[-1]

    yield start
    for one in made:
        one.stop(signal.SIGKILL)
