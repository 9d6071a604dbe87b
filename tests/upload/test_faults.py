"""What happens in the field: cuts, crashes, wrong keys, rotten files, replaced talks, slow uplinks."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import PASSWORD, REPOSITORY, children, keygen, product, same, tree, wait_for

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]


def failed(upload):
    return wait_for(lambda: upload.json("failed.json")["failed"], what=upload.log)[0]


def staged(served):
    return {name: path.stat().st_size for name, path in tree(served).items() if ".incoming" in name}


def test_server_killed_in_a_transfer(serve, worker, encode, served):
    """The first file is not sent again, the second begins anew, and the receipt comes when the server is back."""
    folder = product(encode, "t1", {"a.mp4": 500_000, "b.webm": 2_000_000})
    server, target = serve("sftp")
    upload = worker(target, rate_limit="1M").start()
    done = wait_for(
        lambda: next((p for n, p in tree(served).items() if n.endswith("a.mp4") and p.stat().st_size == 500_000), 0)
    )
    wait_for(lambda: any(name.endswith("b.webm") and size > 0 for name, size in staged(served).items()))
    written = done.stat().st_ino, done.stat().st_ctime_ns
    server.kill()
    assert failed(upload)["attempts"] >= 1
    assert not (upload.data / "receipts/t1.json").exists()
    assert [name for name in tree(served) if "hall_a" in name] == []
    server.start()
    upload.receipt("t1")
    assert same(folder, served / "demo/hall_a/t1")
    assert (served / "demo/hall_a/t1/a.mp4").stat().st_ino == written[0]
    assert "were there already" in upload.log()
    assert upload.json("failed.json") == {"failed": []}


def test_worker_killed_in_a_transfer(serve, worker, encode, served):
    folder = product(encode, "t1", {"a.mp4": 3_000_000})
    _, target = serve("sftp")
    upload = worker(target, rate_limit="1M").start()
    wait_for(lambda: any(size > 0 for size in staged(served).values()))
    upload.stop(signal.SIGKILL)
    assert not (upload.data / "receipts/t1.json").exists()
    assert [name for name in tree(served) if "hall_a" in name] == []
    upload.start()
    upload.receipt("t1")
    assert same(folder, served / "demo/hall_a/t1")
    assert staged(served) == {}


@pytest.mark.parametrize("kind", ["sftp", pytest.param("webdav", marks=pytest.mark.soak)])
def test_rotten_copy_is_found(kind, serve, worker, encode, served):
    """A file that rots in the staging folder, size unchanged, never gets its name."""
    folder = product(encode, "t1", {"a.mp4": 2_000_000, "b.webm": 2_000_000})
    _, target = serve(kind)
    upload = worker(target, rate_limit="1M").start()
    first = wait_for(
        lambda: next((p for n, p in tree(served).items() if n.endswith("a.mp4") and p.stat().st_size == 2_000_000), 0)
    )
    upload.stop(signal.SIGKILL)
    with first.open("r+b") as file:
        file.seek(1000)
        file.write(b"rot")
    upload.config["options"].pop("rate_limit")
    upload.write()
    upload.start()
    upload.receipt("t1")
    assert same(folder, served / "demo/hall_a/t1")


def test_foreign_file_under_a_final_name_is_kept(serve, worker, encode, served):
    """Nothing at a target is overwritten; the product goes beside it."""
    folder = product(encode, "t1", {"a.mp4": 1000})
    place = served / "demo/hall_a/t1"
    place.mkdir(parents=True)
    (place / "a.mp4").write_bytes(b"x" * 1000)
    _, target = serve("local")
    receipt = worker(target).start().receipt("t1")
    assert (place / "a.mp4").read_bytes() == b"x" * 1000
    version = receipt["manifest_sha256"][:8]
    assert same(folder, served / f"demo/hall_a/t1.{version}")
    assert receipt["files"][0]["url"].endswith(f"/t1.{version}/a.mp4")


def test_replaced_product_goes_again(serve, worker, encode, served):
    product(encode, "t1", {"a.mp4": 1000})
    _, target = serve("local")
    upload = worker(target).start()
    first = upload.receipt("t1")
    folder = product(encode, "t1", {"a.mp4": 1000, "b.mp4": 2000}, title="Corrected")
    second = wait_for(lambda: (new := upload.json("receipts/t1.json")) != first and new, what=upload.log)
    version = second["manifest_sha256"][:8]
    assert second["title"] == "Corrected"
    assert same(folder, served / f"demo/hall_a/t1.{version}")
    assert (served / "demo/hall_a/t1/manifest.json").exists()
    # A recorder reads each receipt once: what is new has a new name.
    assert upload.json("receipts/index.json") == ["t1", f"t1.{version}"]


def test_original_that_differs_from_its_manifest(serve, worker, encode, served):
    product(encode, "t1", {"a.mp4": 1000})
    (encode / "done/t1/a.mp4").write_bytes(b"y" * 1000)
    product(encode, "t2", {"a.mp4": 1000})
    _, target = serve("local")
    upload = worker(target).start()
    upload.receipt("t2")
    assert "differs from what its manifest" in failed(upload)["last_error"]
    assert not (served / "demo/hall_a/t1").exists()
    assert (encode / "done/t1/a.mp4").read_bytes() == b"y" * 1000


def test_wrong_password_backs_off(serve, worker, encode):
    product(encode, "t1", {"a.mp4": 1000})
    _, target = serve("sftp")
    upload = worker(target | {"password": "not-the-right-one"}).start()
    row = wait_for(lambda: (row := failed(upload))["attempts"] >= 2 and row)
    assert "unable to authenticate" in row["last_error"]
    assert row["delay"] > 0.75 * 0.5 * 2 ** (row["attempts"] - 1)
    assert upload.json("status.json")["state"] in ("failing", "uploading")
    assert "not-the-right-one" not in upload.log() + (upload.data / "failed.json").read_text()


def test_a_person_gives_up_and_tries_again(serve, worker, encode):
    product(encode, "t1", {"a.mp4": 1000})
    _, target = serve("sftp")
    upload = worker(target | {"password": "not-the-right-one"}).start()
    failed(upload)
    command = [sys.executable, "-m", "station.upload", "--config", str(upload.folder / "config.json")]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([*command, "--give-up", "t1"], env=env, check=True)
    wait_for(lambda: upload.json("status.json").get("failed") == 1 and upload.json("status.json")["backlog"] == 0)
    attempts = failed(upload)["attempts"]
    time.sleep(2)
    assert failed(upload)["attempts"] == attempts
    upload.stop()
    upload.secrets["targets"]["archive"]["password"] = PASSWORD
    upload.write()
    subprocess.run([*command, "--retry", "t1"], env=env, check=True)
    upload.start().receipt("t1")


def test_unknown_host_key_is_refused(serve, worker, encode, served, tmp_path):
    product(encode, "t1", {"a.mp4": 1000})
    _, target = serve("sftp")
    upload = worker(target | {"host_key": keygen(tmp_path / "other")}).start()
    assert "key mismatch" in failed(upload)["last_error"]
    assert tree(served) == {}
    careless = {key: value for key, value in target.items() if key != "host_key"}
    refused = worker(careless, "careless").start()
    assert refused.process.wait(60) == 78
    assert "targets.archive.host_key: is missing" in refused.log()
    worker(careless | {"accept_any_host_key": True}, "told").start().receipt("t1")


def commands():
    """Arguments and environment of all processes there are now."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield (entry / "cmdline").read_bytes()
            with contextlib.suppress(OSError):
                environ = (entry / "environ").read_bytes()
                # The test's own servers are told theirs; what counts are the worker and its children.
                if b"RCLONE_PASS" not in environ:
                    yield environ


@pytest.mark.parametrize("kind", ["sftp", pytest.param("openssh", marks=pytest.mark.soak)])
def test_secrets_are_nowhere(kind, serve, worker, encode, served):
    product(encode, "t1", {"a.mp4": 3_000_000})
    _, target = serve(kind)
    secret = target.get("password") or target["private_key"].splitlines()[3]
    upload = worker(target, rate_limit="1M").start()
    wait_for(lambda: children(upload.run_folder))
    while not (upload.data / "receipts/t1.json").exists():
        assert upload.process.poll() is None, upload.log()
        for text in commands():
            assert secret.encode() not in text
            assert b"pass = " not in text
    held = list(upload.run_folder.iterdir())
    assert {path.name for path in held} >= {"rclone.conf", "known_hosts"}
    for path in held:
        if path.is_file() and path.name != "metrics.prom":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    hidden = (upload.run_folder / "rclone.conf").read_text()
    obscured = next(
        (line.removeprefix("pass = ") for line in hidden.splitlines() if line.startswith("pass = ")), secret
    )
    for path in [
        *tree(upload.data).values(),
        upload.folder / "log",
        upload.folder / "config.json",
        *tree(served).values(),
    ]:
        content = path.read_bytes()
        assert secret.encode() not in content, path
        assert obscured.encode() not in content, path


def test_rate_is_limited(serve, worker, encode):
    """A busy machine adds time, it takes none away: without the limit it takes a second."""
    size = 8_000_000
    product(encode, "t1", {"a.mp4": size})
    _, target = serve("local")
    upload = worker(target, rate_limit="1M")
    begun = time.monotonic()
    upload.start().receipt("t1")
    seconds, least = time.monotonic() - begun, size / 2**20
    assert 0.6 * least < seconds < 6 * least


def test_progress_is_told(serve, worker, encode):
    product(encode, "t1", {"a.mp4": 4_000_000})
    _, target = serve("local")
    upload = worker(target, rate_limit="1M").start()
    seen = wait_for(lambda: (status := upload.json("status.json")).get("progress", {}).get("bytes") and status)
    assert seen["state"] == "uploading"
    assert seen["progress"]["total"] == 4_000_000 + (encode / "done/t1/manifest.json").stat().st_size
    upload.receipt("t1")
    metrics = (upload.run_folder / "metrics.prom").read_text()
    assert "stationmaster_upload_sent_bytes_total" in metrics
    assert 'stationmaster_upload_backlog{instance="archive"' in metrics


SCRIPT = """#!/usr/bin/env python3
import json, pathlib, sys
job = json.loads(sys.argv[1])
pathlib.Path({told!r}).write_text(sys.argv[1])
assert pathlib.Path(job["manifest"]).exists() and all(pathlib.Path(f).exists() for f in job["files"])
print("the tape robot says", {code})
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 3])
def test_script_does_the_upload(code, serve, worker, encode, served, tmp_path):
    product(encode, "t1", {"a.mp4": 1000}, title="Über alles")
    _, target = serve("sftp")
    program = tmp_path / "upload.py"
    program.write_text(SCRIPT.format(told=str(tmp_path / "told"), code=code))
    program.chmod(0o755)
    upload = worker(target, script=str(program)).start()
    if code == 0:
        receipt = upload.receipt("t1")
        assert receipt["ranges"]
        assert "the tape robot says 0" in receipt["output"]
    else:
        row = failed(upload)
        assert row["last_error"] == "upload.py: exit status 3"
        assert "the tape robot says 3" in row["output"]
        assert not (upload.data / "receipts/t1.json").exists()
    job = json.loads((tmp_path / "told").read_text())
    assert (job["id"], job["title"], job["presenters"], job["room"]) == ("t1", "Über alles", ["Ada"], "hall_a")
    assert PASSWORD not in (tmp_path / "told").read_text()
    assert tree(served) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"name": "../../etc/passwd", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "/etc/passwd", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "a\nb", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "a", "size": 1, "sha256": "x"}]},
        {"files": "none"},
        {"id": "other"},
    ],
)
def test_bad_manifest(change, serve, worker, encode, served):
    folder = product(encode, "t1", {"a.mp4": 10})
    manifest = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    product(encode, "t2", {"a.mp4": 10})
    _, target = serve("local")
    upload = worker(target).start()
    upload.receipt("t2")
    assert "manifest" in failed(upload)["last_error"]
    assert not (served / "demo/hall_a/t1").exists()


def test_torn_receipt_is_no_receipt(serve, worker, encode):
    product(encode, "t1", {"a.mp4": 10})
    _, target = serve("local")
    upload = worker(target)
    (upload.data / "receipts").mkdir(parents=True)
    (upload.data / "receipts/t1.json").write_text('{"id": "t1", "verif')
    upload.start()
    assert upload.receipt("t1")["verified_at"]


@pytest.mark.soak
def test_two_instances_to_one_place(serve, worker, encode, served):
    folder = product(encode, "t1", {"a.mp4": 500_000})
    _, target = serve("sftp")
    both = [worker(target, name).start() for name in ("one", "two")]
    for upload in both:
        upload.receipt("t1")
    assert same(folder, served / "demo/hall_a/t1")
    assert [name for name in tree(served / "demo/hall_a") if not name.startswith("t1/")] == []
