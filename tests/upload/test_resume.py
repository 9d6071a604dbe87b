"""A large file to an SSH server goes on in the middle after a cut."""

import signal

import pytest
from places import has, product, same, tree, wait_for

from station.rclone import RcloneError
from station.remote import open_remote
from station.sftp_resume import LARGE, OVERLAP, Sender

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]

SIZE = LARGE + (8 << 20)


def half(served):
    return wait_for(
        lambda: next((p for n, p in tree(served).items() if ".incoming" in n and p.stat().st_size > 2 * OVERLAP), 0)
    )


WITH_SSHD = [pytest.mark.soak, pytest.mark.skipif(not has("sshd"), reason="no sshd")]


@pytest.fixture(
    params=["target", pytest.param("openssh", marks=WITH_SSHD), pytest.param("sftp", marks=pytest.mark.soak)]
)
def place(request, serve, served):
    """A server, its entry of event_targets, its folder, and whether it can go on in a file."""
    if request.param == "target":
        server, entry, folder = request.getfixturevalue("target")
        return server, entry, folder, True
    server, entry = serve(request.param)
    return server, entry, served, request.param != "sftp"


def test_goes_on_in_the_middle(place, worker, encode):
    server, entry, folder, can = place
    original = product(encode, "t1", {"a.mp4": SIZE})
    upload = worker(entry, rate_limit="5M").start()
    half(folder)
    server.kill()
    row = wait_for(lambda: upload.json("failed.json")["failed"][0], what=upload.log)
    assert row["last_error"]
    reached = max(path.stat().st_size for path in tree(folder).values())
    assert 2 * OVERLAP < reached < SIZE
    upload.stop()
    upload.config["options"].pop("rate_limit")
    upload.write()
    server.start()
    upload.start().receipt("t1")
    assert same(original, folder / "demo/hall_a/t1")
    begun = f"going on at {reached - OVERLAP} of {SIZE} bytes"
    assert begun in upload.log()
    assert ("is sent anew" in upload.log()) is not can


@pytest.mark.soak
def test_another_beginning_is_noticed(target, worker, encode):
    """What lies there from before is not trusted: the whole is verified, and sent anew if it is not the file."""
    _, entry, folder = target
    original = product(encode, "t1", {"a.mp4": SIZE})
    upload = worker(entry, rate_limit="5M").start()
    path = half(folder)
    upload.stop(signal.SIGKILL)
    with path.open("r+b") as file:
        file.write(b"something else")
    upload.config["options"].pop("rate_limit")
    upload.write()
    upload.start().receipt("t1")
    assert same(original, folder / "demo/hall_a/t1")
    assert "differs from the original" in upload.log()


@pytest.mark.parametrize(
    "change",
    [
        {"password": "not-the-right-one"},
        {"host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDMDJsoenhJFieVsSBFN5y3gXDYEMWE9RdP63w3YXSW5"},
    ],
)
def test_the_same_refusals(change, target, tmp_path):
    entry = target[1] | change
    (tmp_path / "a").write_bytes(b"x")
    remote = open_remote("archive", entry, tmp_path / "run")
    with pytest.raises(RcloneError, match=r"unable to authenticate|key mismatch") as caught:
        Sender(remote, entry, lambda: None, lambda p: None, lambda: None).send(tmp_path / "a", "x/a")
    assert "not-the-right-one" not in str(caught.value)
