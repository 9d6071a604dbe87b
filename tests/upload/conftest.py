import json
import os

import pytest
from places import (
    PASSWORD,
    REPOSITORY,
    Server,
    Worker,
    interpreters,
    keygen,
    openssh,
    rclone_sftp,
    rclone_webdav,
    upload_config,
)

from tests.ports import free_port


@pytest.fixture
def encode(tmp_path):
    folder = tmp_path / "encode"
    (folder / "done").mkdir(parents=True)
    return folder


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(tmp_path, served):
    """Start a server of a kind; returns it and its entry of event_targets."""
    started = []

    def start(kind):
        if kind == "local":
            return None, {"type": "local", "path": str(served)}
        folder = tmp_path / "server"
        folder.mkdir()
        server, entry = {"sftp": rclone_sftp, "webdav": rclone_webdav, "openssh": openssh}[kind](folder, served)
        started.append(server.start())
        return server, entry

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def worker(tmp_path, encode):
    """Make an upload instance for a target; stopped at the end."""
    made: list[Worker] = []

    def make(target, name="archive", **options):
        made.append(upload_config(tmp_path / name, encode, target, **options))
        return made[-1]

    yield make
    for one in made:
        if one.processes:
            one.stop()


@pytest.fixture
def target(tmp_path, request):
    """A running target; returns it, the entry of event_targets that leads to it, and its store."""
    folder = tmp_path / "target"
    folder.mkdir()
    public = keygen(folder / "host")
    user_key = keygen(folder / "user")
    port = free_port()
    options = {"port": port, "listen": "127.0.0.1", "user": "crew", "host_key": public, "authorized_keys": [user_key]}
    config = {"schema": 1, "role": "target", "instance": "main", "options": options}
    (folder / "config.json").write_text(json.dumps(config))
    secrets = {"options": {"password": PASSWORD, "host_private_key": (folder / "host").read_text()}}
    (folder / "secrets.json").write_text(json.dumps(secrets))
    env = {
        **os.environ,
        "CREDENTIALS_DIRECTORY": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "ignore",
    }
    command = [
        getattr(request, "param", interpreters()[0]),
        "-m",
        "station.target",
        "--config",
        str(folder / "config.json"),
    ]
    server = Server(port, command, folder / "log", env).start()
    entry = {
        "type": "sftp",
        "host": "127.0.0.1",
        "port": port,
        "user": "crew",
        "password": PASSWORD,
        "host_key": public,
    }
    yield server, entry, folder / "data/files"
    server.kill()
