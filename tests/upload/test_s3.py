"""An upload to S3, as far as a small stand-in can show it."""

import fake_s3
import pytest
from places import product, tree, wait_for

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]

SECRET = "the/secret+half=of-the-key"


@pytest.fixture
def bucket():
    server = fake_s3.start()
    yield server
    server.shutdown()
    server.server_close()


def test_receipt_after_reading_back(bucket, worker, encode):
    folder = product(encode, "t1", {"a.mp4": 100_000, "b (1).webm": 5})
    target = {"type": "s3", "endpoint": f"http://127.0.0.1:{bucket.server_port}", "bucket": "talks", "path": "2026"}
    upload = worker(target | {"access_key_id": "AKID", "secret_access_key": SECRET}).start()
    receipt = upload.receipt("t1")
    assert receipt["verified_by"] == "sha256, read back"
    assert receipt["files"][0]["url"] == "s3://talks/2026/demo/hall_a/t1/a.mp4"
    place = "/talks/2026/demo/hall_a/t1/"
    wait_for(lambda: len(bucket.objects) == 3)
    assert {name.removeprefix(place): data for name, data in bucket.objects.items()} == {
        name: path.read_bytes() for name, path in tree(folder).items()
    }
    assert not [request for request in bucket.requests if request == "PUT /talks"], "the bucket is not ours to make"
    assert SECRET not in upload.log() + (upload.data / "status.json").read_text()


def test_rotten_object_is_found(bucket, worker, encode, monkeypatch):
    """What S3 says of an object is not believed: it is read back."""
    product(encode, "t1", {"a.mp4": 1000})
    put = fake_s3.Bucket.do_PUT
    rotten = []

    def rot(handler):
        put(handler)
        name = next((name for name in bucket.objects if name.endswith("a.mp4")), None)
        if name and not rotten:
            # The checksum that it states stays that of the upload.
            rotten.append(fake_s3.md5(bucket.objects[name]))
            bucket.objects[name] = b"x" * 1000

    def facts(handler, name):
        lied = rotten[0] if rotten and bucket.objects[name] == b"x" * 1000 else fake_s3.md5(bucket.objects[name])
        return {"ETag": f'"{lied}"', "Last_Modified": "Sun, 01 Mar 2026 09:00:00 GMT"}

    monkeypatch.setattr(fake_s3.Bucket, "do_PUT", rot)
    monkeypatch.setattr(fake_s3.Bucket, "facts", facts)
    target = {"type": "s3", "endpoint": f"http://127.0.0.1:{bucket.server_port}", "bucket": "talks"}
    upload = worker(target | {"access_key_id": "AKID", "secret_access_key": SECRET}).start()
    upload.receipt("t1")
    assert rotten
    assert "failed, next try" in upload.log()
    assert bucket.objects["/talks/demo/hall_a/t1/a.mp4"] != b"x" * 1000
