"""The role record: a copy that agrees, whatever happens on the way."""

import contextlib
import http.server
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from station.media import MediaFolder
from tests.media import kit
from tests.media.kit import wait_for
from tests.ports import free_port

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]


class Handler(http.server.SimpleHTTPRequestHandler):
    """A source that tears each first transfer of a segment half-way, and counts what is asked of it."""

    tear: int
    torn: set
    asked: list

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Range")))
        begin, end = 0, None
        path = self.translate_path(self.path)
        try:
            data = Path(path).read_bytes()
        except OSError:
            self.send_error(404)
            return
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data)), len(data) - 1)
            if begin >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            data = data[begin : end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.path.endswith(".ts") and self.path not in self.torn:
            self.torn.add(self.path)
            data = data[: len(data) // self.tear]
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


class Tearing:
    def __init__(self, folder, tear=1):
        Handler.tear = tear
        handler = partial(Handler, directory=str(folder))
        Handler.torn, Handler.asked = set(), []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def record(tmp_path, closing):
    def make(port, name="record", **rest):
        url = f"http://127.0.0.1:{port}/"
        source = {"role": "ingest", "station": "cam", "instance": "main", "kind": "media", "url": url, "path": None}
        options = {"from": "cam/main", **rest.pop("options", {})}
        return closing(kit.Instance(tmp_path / name, "record", options, sources={"cam/main": source}, **rest))

    return make


def agree(instance, media):
    """index and files of the copy are those of the source"""
    ours = [segment.line() for segment in instance.segments()]
    theirs = [segment.line() for segment in media.index.segments]
    return ours == theirs and all(
        (instance.data / segment.name).read_bytes() == (media.folder / segment.name).read_bytes()
        for segment in media.index.segments
    )


def test_catches_up_after_a_cut_until_both_agree(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 3)
    port = free_port()
    instance = record(port)
    process = instance.start()
    # The source is not there yet: a healthy state.
    assert instance.wait_state("waiting")["warnings"] == []
    server = closing(kit.serve(media.folder, port, tmp_path / "nginx.txt"))
    wait_for(lambda: agree(instance, media))
    assert instance.wait_state("running")
    server.close()
    for number in range(3, 33):  # the 60 s of the cut
        kit.add(media, number, os.urandom(20_000))
    instance.wait_state("waiting")
    closing(kit.serve(media.folder, port, tmp_path / "nginx.txt"))
    wait_for(lambda: agree(instance, media), 10)
    assert instance.wait_state("running")["behind"]["segments"] == 0
    assert kit.playlist(instance.data / "live.m3u8")["names"][-1] == media.index.last.name
    assert process.stop() == 0


def test_resumes_torn_transfers(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 4, size=300_000)
    server = closing(Tearing(media.folder, 2))
    instance = record(server.port)
    instance.start()
    wait_for(lambda: agree(instance, media))
    resumed = [wanted for path, wanted in Handler.asked if path.endswith(".ts") and wanted]
    assert len(resumed) == 4
    assert all(wanted.startswith("bytes=150000-") for wanted in resumed)


def test_survives_being_killed_and_asks_only_for_new_lines(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 40, size=100_000)
    server = closing(Tearing(media.folder))
    instance = record(server.port, options={"parallel": 1})
    process = instance.start()
    wait_for(lambda: 3 <= len(instance.segments()) < 40)
    process.popen.send_signal(signal.SIGKILL)
    process.popen.wait()
    kept = [segment.name for segment in instance.segments()]
    Handler.asked.clear()
    instance.start()
    wait_for(lambda: agree(instance, media), 60)
    assert not [path for path, _ in Handler.asked if path.lstrip("/") in kept]
    Handler.asked.clear()
    kit.add(media, 40, b"new")
    wait_for(lambda: agree(instance, media))
    ranges = [wanted for path, wanted in Handler.asked if path == "/index.jsonl"]
    assert all(int(wanted.removeprefix("bytes=").partition("-")[0]) > 10_000 for wanted in ranges)


def test_refuses_what_is_not_as_promised_and_goes_on(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 5)
    first, second, third = media.index.segments[1:4]
    (media.folder / first.name).write_bytes(os.urandom(first.size))
    (media.folder / second.name).write_bytes(b"short")
    (media.folder / third.name).unlink()
    closing(kit.serve(media.folder, port := free_port(), tmp_path / "nginx.txt"))
    instance = record(port)
    instance.start()
    instance.wait_segments(2)
    # The short one may be on its way for ever; the others are named.
    warning = instance.wait_warning("refused")
    assert first.name in warning["message"]
    names = {segment.name for segment in instance.segments()}
    assert names == {media.index.segments[0].name, media.index.segments[4].name}
    assert not list((instance.data / "partial").glob("*")) or all(
        path.stat().st_size < 100 for path in (instance.data / "partial").iterdir()
    )


def test_keeps_what_the_source_lost(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 4)
    closing(kit.serve(media.folder, port := free_port(), tmp_path / "nginx.txt"))
    instance = record(port)
    instance.start()
    wait_for(lambda: agree(instance, media))
    old = instance.segments()
    # A new disk, empty: the ingest begins again, with later names.
    for segment in media.index.segments:
        (media.folder / segment.name).unlink()
    media.index.rewrite([])
    kit.add(media, 100, b"x" * 1000)
    found = wait_for(lambda: len(found := instance.segments()) == 5 and found)
    assert found[:4] == old
    assert all((instance.data / segment.name).exists() for segment in old)


def test_what_was_pruned_is_not_fetched_again(record, tmp_path, closing):
    media = kit.recording(tmp_path / "source", 5)
    closing(kit.serve(media.folder, port := free_port(), tmp_path / "nginx.txt"))
    instance = record(port)
    process = instance.start()
    wait_for(lambda: agree(instance, media))
    process.stop()
    copy = MediaFolder(instance.data, 2)
    copy.take_off(copy.index.segments[:2], "receipt")
    instance.start()
    kit.add(media, 5, b"x" * 1000)
    wait_for(lambda: media.index.last in instance.segments())
    assert [segment.seq for segment in instance.segments()] == [2, 3, 4, 5]


def test_full_disk_is_said_and_waited_for(record, tmp_path, closing, small_disk):
    media = kit.recording(tmp_path / "source", 12, size=1_000_000)
    closing(kit.serve(media.folder, port := free_port(), tmp_path / "nginx.txt"))
    disk = small_disk(8)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(4_000_000))
    instance = record(port, data=disk / "data")
    process = instance.start()
    metrics = instance.folder / "run" / "metrics.prom"
    wait_for(lambda: 'code="disk_full"' in metrics.read_text())
    # Nothing is listed that is not whole, and a minute later nothing is either.
    time.sleep(1)
    for segment in instance.segments():
        assert (instance.data / segment.name).stat().st_size == segment.size
    listed = len(instance.segments())
    ballast.unlink()
    instance.wait_segments(listed + 2)
    assert process.stop() == 0


def test_without_its_source_in_the_configuration(tmp_path, closing):
    instance = closing(kit.Instance(tmp_path / "record", "record", {"from": "cam/main"}))
    assert instance.start().popen.wait(10) == 78
    assert "sources.cam/main" in instance.log()
