"""Real servers on loopback to upload to, and products to upload."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "correct-horse-battery"


def wait_for(check, seconds=60.0, what="it"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, LookupError):
            if value := check():
                return value
        time.sleep(0.1)
    raise AssertionError(f"{what() if callable(what) else what} did not happen within {seconds} s")


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def interpreters():
    """Debian's with its own asyncssh, as on a station, and the one of the tests."""
    debian = "/usr/bin/python3"
    found = subprocess.run([debian, "-W", "ignore", "-c", "import asyncssh"], capture_output=True, check=False)
    return [*([debian] if found.returncode == 0 else []), sys.executable]


class Server:
    """A process that listens on a port; started, killed and started again."""

    def __init__(self, port, command, log, env=None):
        self.port, self.command, self.log, self.env = port, command, log, env
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.env, cwd=REPOSITORY, start_new_session=True
            )
        wait_for(lambda: listening(self.port) or self._alive(), 15, self.log.read_text)
        return self

    def _alive(self):
        assert self.process.poll() is None, self.log.read_text()
        return False

    def kill(self):
        if self.process and self.process.poll() is None:
            for process in [self.process.pid, *descendants(self.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.wait()


def descendants(process):
    """Its children and theirs: each connection of sshd has a session of its own."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def keygen(path, kind="ed25519"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path], check=True)
    return path.with_name(path.name + ".pub").read_text().strip()


def rclone_sftp(folder, served):
    """A foreign SFTP server: rclone's, which states md5 and sha1."""
    served.mkdir(exist_ok=True)
    public = keygen(folder / "host")
    (folder / "none").touch()
    port = free_port()
    command = ["rclone", "--config", str(folder / "none.conf"), "serve", "sftp", str(served)]
    command += ["--addr", f"127.0.0.1:{port}", "--key", str(folder / "host"), "--authorized-keys", str(folder / "none")]
    env = {**os.environ, "RCLONE_USER": "crew", "RCLONE_PASS": PASSWORD}
    entry = {
        "type": "sftp",
        "host": "127.0.0.1",
        "port": port,
        "user": "crew",
        "password": PASSWORD,
        "host_key": public,
    }
    return Server(port, command, folder / "server.log", env), entry


def rclone_webdav(folder, served):
    """A WebDAV server, which states no checksum."""
    served.mkdir(exist_ok=True)
    port = free_port()
    command = [
        "rclone",
        "--config",
        str(folder / "none.conf"),
        "serve",
        "webdav",
        str(served),
        "--addr",
        f"127.0.0.1:{port}",
    ]
    env = {**os.environ, "RCLONE_USER": "crew", "RCLONE_PASS": PASSWORD}
    entry = {"type": "webdav", "url": f"http://127.0.0.1:{port}", "user": "crew", "password": PASSWORD}
    return Server(port, command, folder / "server.log", env), entry


def openssh(folder, served):
    """OpenSSH's own server, run by root for root, with key login and two host keys."""
    served.mkdir(exist_ok=True)
    port = free_port()
    kinds = ("ed25519", "ecdsa")
    public = [keygen(folder / f"host_{kind}", kind) for kind in kinds]
    (folder / "authorized").write_text(keygen(folder / "user") + "\n")
    config = [f"Port {port}", "ListenAddress 127.0.0.1", "UsePAM no", "StrictModes no", "PidFile none"]
    config += [f"HostKey {folder}/host_{kind}" for kind in kinds]
    config += [
        f"AuthorizedKeysFile {folder}/authorized",
        "PermitRootLogin prohibit-password",
        "Subsystem sftp internal-sftp",
    ]
    (folder / "sshd_config").write_text("\n".join(config) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
    entry = {"type": "sftp", "host": "127.0.0.1", "port": port, "user": "root", "path": str(served)}
    entry |= {"private_key": (folder / "user").read_text(), "host_key": "\n".join(public)}
    return Server(port, command, folder / "server.log"), entry


def random_bytes(seed, size):
    """Bytes that no compression makes smaller, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


def product(encode, name, files, title="A talk", start="2026-03-01T09:00:00.000Z"):
    """A finished product below the data folder of an encode instance; `files` maps name to size or content."""
    folder = encode / "done" / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for file, content in files.items():
        data = random_bytes(f"{name}/{file}", content) if isinstance(content, int) else content
        (folder / file).write_bytes(data)
        rows.append({"name": file, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "format": "mp4"})
    ranges = [{"source": "cam/main", "start": start, "end": start, "first_seq": 1, "last_seq": 1}]
    ranges[0]["segments"] = [{"name": "20260301/09/a.ts", "sha256": "0" * 64}]
    manifest = {
        "id": name,
        "title": title,
        "presenters": ["Ada"],
        "source": "cam/main",
        "ranges": ranges,
        "files": rows,
    }
    (folder / "manifest.json.new").write_text(json.dumps(manifest))
    (folder / "manifest.json.new").replace(folder / "manifest.json")
    ids = sorted(path.parent.name for path in encode.glob("done/*/manifest.json"))
    (encode / "done/index.json").write_text(json.dumps(ids))
    return folder


@dataclass
class Worker:
    """An instance of upload or sync, run as on a station: config.json, credential, runtime folder."""

    folder: Path
    role: str
    config: dict
    secrets: dict = field(default_factory=dict)
    processes: list = field(default_factory=list)

    def __post_init__(self):
        self.folder.mkdir(exist_ok=True)
        self.data = self.folder / "data"
        self.run_folder = self.folder / "run"
        (self.folder / "credentials").mkdir(exist_ok=True)
        self.write()

    def write(self):
        (self.folder / "config.json").write_text(json.dumps(self.config))
        (self.folder / "credentials/secrets.json").write_text(json.dumps(self.secrets))

    def start(self):
        env = {**os.environ, "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"), "PYTHONPATH": str(REPOSITORY)}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"station.{self.role}", "--config", str(self.folder / "config.json")],
                stdout=log, stderr=log, env=env, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        self.processes.append(process)
        return self

    @property
    def process(self):
        return self.processes[-1]

    def stop(self, number=signal.SIGTERM):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            # What systemd does with the rest of the unit's processes.
            for child in children(self.run_folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        return self.process.returncode

    def json(self, name):
        return json.loads((self.data / name).read_text())

    def receipt(self, name, seconds=60.0):
        return wait_for(lambda: self.json(f"receipts/{name}.json"), seconds, lambda: f"receipt {name}; {self.log()}")

    def log(self):
        return (self.folder / "log").read_text()


def children(run_folder):
    """Processes that a worker started: rclone, whose home is the worker's runtime folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"HOME={run_folder}\0".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def upload_config(folder, encode, target, *, url=None, role="upload", kind="products", **options):
    """config.json and secrets of an instance as the bundle makes them."""
    secret = {key: value for key, value in target.items() if key in ("password", "private_key", "secret_access_key")}
    public = {key: value for key, value in target.items() if key not in secret}
    source = {"role": "encode", "station": "enc", "instance": "talks", "kind": kind}
    source |= {"url": url or "http://127.0.0.1:9/", "path": None if url else str(encode)}
    config = {
        "schema": 1, "event": "demo", "room": "hall_a", "station": "enc", "role": role, "instance": folder.name,
        "options": {"from": "enc/talks", "target": "archive", **options},
        "budget": {"input_timeout": 0.5, "media_tick": 0.3},
        "sources": {"enc/talks": source}, "targets": {"archive": public},
    }  # fmt: skip
    return Worker(folder, role, config, {"targets": {"archive": secret}} if secret else {})


def tree(folder):
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def same(product_folder, uploaded):
    files = [name for name in tree(product_folder) if not name.startswith("index")]
    return files and all((uploaded / name).read_bytes() == (product_folder / name).read_bytes() for name in files)


def has(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is not None
