import pytest
from places import Worker, openssh, rclone_sftp, rclone_webdav, upload_config


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
