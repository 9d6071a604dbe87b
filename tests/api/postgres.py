"""A PostgreSQL of the tests' own: Debian's programs, a cluster in a folder that goes away again."""

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def as_postgres(*command) -> None:
    """Run one of its programs, which refuse to work as root."""
    change = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*change, *map(str, command)], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def cluster():
    """The address of a running server, without a database's name."""
    if not PROGRAMS.exists():
        subprocess.run(["apt-get", "install", "-yq", "--no-install-recommends", "postgresql"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="stationmaster-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    as_postgres(PROGRAMS / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
    # a crash of the tests' own database is not what they are about
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"
    as_postgres(PROGRAMS / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    yield f"postgresql://postgres@127.0.0.1:{port}"
    as_postgres(PROGRAMS / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder)


_numbers = itertools.count()


@pytest.fixture
def postgres(cluster):
    """The address of an empty database."""
    import psycopg

    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{cluster}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{cluster}/{name}"
