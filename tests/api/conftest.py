"""A manager for tests: its application in this process, or served by a process of its own."""

import os
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
from api.settings import Settings
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


@pytest.fixture
def api(tmp_path):
    with Api(Settings(data=tmp_path / "data")) as client:
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
                if httpx2.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            log = (self.data.parent / "serve.log").read_text()
            assert self.process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def token(self, scope: str, *arguments: str) -> dict[str, str]:
        """Headers with a new token, made as an operator makes it."""
        command = [sys.executable, "-m", "stationmaster", "token", "create", "--scope", scope, "--data", str(self.data)]
        done = subprocess.run(
            [*command, *arguments], cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, check=True
        )
        return {"Authorization": f"Bearer {done.stdout.strip()}"}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path):
    """Start managers; all are ended after the test."""
    made = []

    def start(*arguments: str, data: Path | None = None, **environment: str) -> Served:
        made.append(Served(data or tmp_path / "data", *arguments, **environment))
        return made[-1]

    yield start
    for one in made:
        one.stop(signal.SIGKILL)
