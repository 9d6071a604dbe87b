"""Raw segments reach a storage, verified, batch by batch, and catch up after a cut."""

import hashlib
import http.server
import threading
from functools import partial

import pytest
from places import random_bytes, tree, upload_config, wait_for

from station import index, utc

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]

DAY = utc.from_text("2026-03-01T09:59:50Z")


def record(folder, numbers, size=4000):
    """Add segments to a recording; returns its index's lines."""
    folder.mkdir(exist_ok=True)
    book = index.Index(folder)
    for number in numbers:
        start = DAY + 2 * number
        stamp = utc.to_stamp(start)
        name = f"{stamp[:8]}/{stamp[9:11]}/hall_a_main_{stamp}_{number:08d}.ts"
        data = random_bytes(name, size)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        book.append(index.Segment(name, number, 2.0 * number, utc.to_text(start), 2.0, 50, size, digest, False, "boot"))
    return book.segments


@pytest.fixture
def sync(tmp_path):
    made = []

    def make(target, folder, **options):
        worker = upload_config(tmp_path / "copy", folder, target, role="sync", kind="media", **{"batch": 10, **options})
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.stop()


def covered(worker):
    """Names of all segments that have a receipt."""
    names = []
    for name in worker.json("receipts/index.json"):
        for part in worker.json(f"receipts/{name}.json")["ranges"]:
            names += [segment["name"] for segment in part["segments"]]
    return names


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_catches_up_over_a_cut(kind, serve, sync, tmp_path, served):
    media = tmp_path / "media"
    first = record(media, range(12))
    (media / "20260301/09/half.ts").write_bytes(b"not listed")
    server, target = serve(kind)
    worker = sync(target, media).start()
    wait_for(lambda: len(covered(worker)) == 12, what=worker.log)
    if server:
        server.kill()
    both = record(media, range(12, 40))
    if server:
        wait_for(lambda: worker.json("status.json")["state"] == "failing")
        row = worker.json("failed.json")["failed"][0]
        assert row["attempts"] >= 1
        assert "connect" in row["last_error"]
        server.start()
    wait_for(lambda: len(covered(worker)) == 40, what=worker.log)
    copy = served / "demo/hall_a/enc_talks"
    wait_for(lambda: (copy / "index.jsonl").read_bytes() == (media / "index.jsonl").read_bytes(), what=worker.log)
    assert [segment.name for segment in both] == sorted(covered(worker))
    assert set(tree(copy)) == {segment.name for segment in both} | {"index.jsonl"}
    assert all((copy / s.name).read_bytes() == (media / s.name).read_bytes() for s in both)
    assert {segment.name[:11] for segment in first} == {"20260301/09", "20260301/10"}
    wait_for(lambda: [name for name in tree(served) if ".incoming" in name] == [])


def test_restart_copies_nothing_twice(serve, sync, tmp_path):
    media = tmp_path / "media"
    record(media, range(6))
    _, target = serve("local")
    worker = sync(target, media).start()
    wait_for(lambda: len(covered(worker)) == 6, what=worker.log)
    worker.stop()
    record(media, range(6, 12))
    worker.start()
    wait_for(lambda: len(covered(worker)) == 12, what=worker.log)
    assert len(worker.json("receipts/index.json")) == 2


def test_a_bad_segment_holds_up_no_other(serve, sync, tmp_path, served):
    media = tmp_path / "media"
    segments = record(media, range(12))
    (media / segments[3].name).write_bytes(b"rotten")
    (media / segments[4].name).unlink()
    _, target = serve("local")
    worker = sync(target, media).start()
    wait_for(lambda: len(covered(worker)) == 10, what=worker.log)
    assert segments[3].name not in covered(worker)
    assert [row["id"] for row in worker.json("failed.json")["failed"]] == [segments[3].name]
    assert not (served / "demo/hall_a/enc_talks" / segments[3].name).exists()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_of_another_station(serve, sync, tmp_path, served):
    media = tmp_path / "media"
    record(media, range(6))
    _, target = serve("local")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=media)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        worker = sync(target, media)
        worker.config["sources"]["enc/talks"] |= {"path": None, "url": f"http://127.0.0.1:{web.server_port}/"}
        worker.write()
        worker.start()
        wait_for(lambda: len(covered(worker)) == 6, what=worker.log)
        web.shutdown()
    assert not (worker.data / "spool").exists()
    assert len(tree(served)) >= 6
