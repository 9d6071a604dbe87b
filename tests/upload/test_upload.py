"""Products reach real servers, verified, with a receipt."""

import json

import pytest
from places import has, product, same, tree, wait_for

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]

KINDS = [
    "local",
    "sftp",
    "webdav",
    pytest.param("openssh", marks=pytest.mark.skipif(not has("sshd"), reason="no sshd")),
]


@pytest.mark.parametrize("kind", KINDS)
def test_receipt_after_verified_upload(kind, serve, worker, encode, served):
    folder = product(encode, "talk-1", {"talk-1.mp4": 300_000, "talk-1 (audio).opus": 20_000, "empty.vtt": 0})
    _, target = serve(kind)
    upload = worker(target).start()
    receipt = upload.receipt("talk-1")
    assert same(folder, served / "demo/hall_a/talk-1")
    assert {row["name"] for row in receipt["files"]} == set(tree(folder))
    assert receipt["ranges"] == json.loads((folder / "manifest.json").read_text())["ranges"]
    assert receipt["target"] == "archive"
    assert receipt["verified_by"] == {"webdav": "sha256, read back"}.get(kind, "sha1 at the target")
    wait_for(lambda: upload.json("status.json")["state"] == "idle")
    assert upload.json("receipts/index.json") == ["talk-1"]
    assert upload.json("failed.json") == {"failed": []}
    assert [name for name in tree(served) if ".incoming" in name] == []
    assert upload.stop() == 0
