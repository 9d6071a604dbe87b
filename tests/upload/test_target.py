"""The store keeps what is finished, whoever logs in; a real client proves it."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from places import PASSWORD, REPOSITORY, interpreters, keygen, product, same, tree, wait_for

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]

on_both = pytest.mark.parametrize("target", interpreters(), indirect=True)


def sftp(target, tmp_path, *lines):
    """Run OpenSSH's client with the user's key."""
    _, entry, _ = target
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{entry['port']} {entry['host_key']}\n")
    options = [
        f"UserKnownHostsFile={known}",
        "IdentitiesOnly=yes",
        f"IdentityFile={tmp_path}/target/user",
        "BatchMode=yes",
    ]
    command = ["sftp", "-F", "none", *[part for option in options for part in ("-o", option)]]
    command += ["-b", "-", "-P", str(entry["port"]), "crew@127.0.0.1"]
    return subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)


@on_both
def test_upload_to_it(target, worker, encode):
    _, entry, store = target
    folder = product(encode, "t1", {"t1.mp4": 3_000_000, "t1.webm": 10})
    upload = worker(entry).start()
    receipt = upload.receipt("t1")
    assert receipt["verified_by"] == "sha1 at the target"
    assert same(folder, store / "demo/hall_a/t1")
    assert {oct(path.stat().st_mode & 0o777) for path in tree(store).values()} == {"0o440"}
    assert receipt["files"][0]["url"] == f"sftp://127.0.0.1:{entry['port']}/demo/hall_a/t1/t1.mp4"


def test_what_is_finished_stays(target, tmp_path):
    """Field note: the crew's account must not be able to change or remove an original."""
    _, _, store = target
    content = tmp_path / "a.ts"
    content.write_bytes(b"original")
    other = tmp_path / "b.ts"
    other.write_bytes(b"something else")
    done = sftp(target, tmp_path, "mkdir hall", f"put {content} hall/a.ts")
    assert done.returncode == 0, done.stderr
    for attempt in (
        f"put {other} hall/a.ts",
        f"reput {other} hall/a.ts",
        "rm hall/a.ts",
        "rename hall/a.ts hall/b.ts",
        "rename hall lost",
        "chmod 777 hall/a.ts",
        "ln -s /etc/passwd hall/passwd",
        "ln hall/a.ts hall/c.ts",
        "rmdir hall",
    ):
        assert sftp(target, tmp_path, attempt).returncode != 0, attempt
        assert list(tree(store)) == ["hall/a.ts"], attempt
        assert (store / "hall/a.ts").read_bytes() == b"original", attempt


@on_both
def test_incoming_is_free_and_finishing_is_final(target, tmp_path):
    _, _, store = target
    content = tmp_path / "a.ts"
    content.write_bytes(b"original")
    done = sftp(
        target, tmp_path, "mkdir .incoming", "mkdir .incoming/x",
        f"put {content} .incoming/x/a", f"put {content} .incoming/x/b",
        "rm .incoming/x/b", f"put {content} .incoming/x/a", "rename .incoming/x hall",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sftp(target, tmp_path, "rename hall .incoming/y").returncode != 0
    assert sftp(target, tmp_path, "rename hall/a .incoming/a").returncode != 0
    assert sftp(target, tmp_path, f"put {content} .incoming/c", "rename .incoming/c hall/a").returncode != 0
    assert (store / "hall/a").stat().st_mode & 0o777 == 0o440


def test_an_index_may_grow(target, tmp_path):
    _, _, store = target
    content = tmp_path / "index.jsonl"
    for text in ("one\n", "one\ntwo\n"):
        content.write_text(text)
        assert sftp(target, tmp_path, f"put {content} index.jsonl").returncode == 0
    assert (store / "index.jsonl").read_text() == "one\ntwo\n"


def test_nothing_above_the_store(target, tmp_path):
    done = sftp(target, tmp_path, "ls /../../../etc", f"get /../../../etc/hostname {tmp_path}/got")
    assert done.returncode != 0
    assert not (tmp_path / "got").exists()


def ssh(target, tmp_path, command):
    _, entry, _ = target
    sftp(target, tmp_path, "pwd")
    return subprocess.run(
        ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "BatchMode=yes",
         "-i", f"{tmp_path}/target/user", "-p", str(entry["port"]), "crew@127.0.0.1", command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_checksums_and_nothing_else(target, tmp_path):
    content = tmp_path / "a b'c.ts"
    content.write_bytes(b"original")
    assert sftp(target, tmp_path, f'put "{content}" "a b\'c.ts"').returncode == 0
    answer = ssh(target, tmp_path, "sha256sum '/a b'\\''c.ts'")
    assert answer.stdout == f"{hashlib.sha256(b'original').hexdigest()}  /a b'c.ts\n"
    for command in ("id", "sh", "sha256sum ../../../../etc/passwd", "sha256sum /etc/passwd", "echo x | sh", "'"):
        answer = ssh(target, tmp_path, command)
        assert answer.returncode != 0, command
        assert answer.stdout == ""


def test_wrong_password_is_refused(target, worker, encode):
    _, entry, _ = target
    product(encode, "t1", {"t1.mp4": 10})
    upload = worker(entry | {"password": "wrong"}).start()
    row = wait_for(lambda: upload.json("failed.json")["failed"][0])
    assert "unable to authenticate" in row["last_error"]


@on_both
def test_half_a_file_may_be_sent_again(target, tmp_path):
    """A session that breaks off in the middle must not make half a file final."""
    _, entry, store = target
    content = tmp_path / "a.ts"
    content.write_bytes(bytes(20_000_000))
    command = [
        "timeout",
        "-s",
        "KILL",
        "1.5",
        "sftp",
        "-l",
        "40000",
        "-F",
        "none",
        "-o",
        f"UserKnownHostsFile={tmp_path}/known",
    ]
    command += ["-i", f"{tmp_path}/target/user", "-b", "-", "-P", str(entry["port"]), "crew@127.0.0.1"]
    sftp(target, tmp_path, "pwd")
    subprocess.run(command, input=f"put {content} a.ts\n", text=True, capture_output=True, check=False)
    half = wait_for(lambda: (store / "a.ts").stat())
    assert 0 < half.st_size < 20_000_000
    wait_for(lambda: sftp(target, tmp_path, f"reput {content} a.ts").returncode == 0)
    assert (store / "a.ts").stat().st_size == 20_000_000
    assert (store / "a.ts").stat().st_mode & 0o777 == 0o440


@pytest.mark.parametrize("target", [sys.executable], indirect=True)
def test_wrong_host_key_in_the_inventory(target, tmp_path):
    config = json.loads((tmp_path / "target/config.json").read_text())
    config["options"]["host_key"] = keygen(tmp_path / "other")
    (tmp_path / "target/config.json").write_text(json.dumps(config))
    env = {**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path / "target"), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "station.target", "--config", str(tmp_path / "target/config.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "options.host_key" in done.stderr
    assert PASSWORD not in done.stderr
