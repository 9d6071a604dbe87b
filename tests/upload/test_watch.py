"""Uploads of an hour are let live, stalls are not; products of another station are fetched first."""

import http.server
import itertools
import os
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from places import product, same, tree, wait_for

from station.rclone import Rclone, RcloneError
from station.remote import open_remote

pytestmark = [pytest.mark.media, pytest.mark.timeout(240)]


@pytest.mark.pace
def test_watchdog_is_fed_while_it_advances(serve, worker, encode, tmp_path, monkeypatch):
    product(encode, "t1", {"a.mp4": 5_000_000})
    _, target = serve("local")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        worker(target, rate_limit="1M").start()
        fed, texts, ready = [], [], False
        while not any("all uploaded: 1" in text for text in texts):
            message = systemd.recv(4096).decode()
            ready = ready or "READY=1" in message
            texts += [line for line in message.splitlines() if line.startswith("STATUS=")]
            if "WATCHDOG=1" in message:
                fed.append(time.monotonic())
    assert ready
    assert max(after - before for before, after in itertools.pairwise(fed)) < 7.5, "half of WatchdogSec"
    assert any("% of 5.0 MB" in text and "left" in text for text in texts), texts


def test_stall_is_noticed(serve, tmp_path, served):
    """The server goes on holding the connection, and takes nothing any more."""
    server, target = serve("sftp")
    (tmp_path / "a.mp4").write_bytes(os.urandom(30_000_000))
    remote = open_remote("archive", target, tmp_path / "run")
    rclone = Rclone(remote, lambda: None, rate=lambda: 5 << 20, stall_limit=3)

    def freeze():
        wait_for(lambda: any(path.stat().st_size > 0 for path in tree(served).values()))
        server.process.send_signal(signal.SIGSTOP)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    begun = time.monotonic()
    with pytest.raises(RcloneError, match="no advance for 3 s"):
        rclone.copy(str(tmp_path), remote.path("x"), ["a.mp4"])
    freezer.join()
    assert time.monotonic() - begun < 25


@pytest.mark.pace
def test_tick_ends_a_transfer_at_once(serve, tmp_path):
    """When the unit is stopped, rclone goes with it."""
    _, target = serve("local")
    (tmp_path / "a.mp4").write_bytes(bytes(10_000_000))
    remote = open_remote("archive", target, tmp_path / "run")

    class Asked(Exception):
        pass

    def tick():
        if time.monotonic() - begun > 1:
            raise Asked

    begun = time.monotonic()
    with pytest.raises(Asked):
        Rclone(remote, tick, rate=lambda: 100_000).copy(str(tmp_path), remote.path("x"), ["a.mp4"])
    assert time.monotonic() - begun < 6


class Station(http.server.SimpleHTTPRequestHandler):
    """A web server with byte ranges and cuts: the first answer to each large file ends in the middle."""

    ranges: list[str] = []  # noqa: RUF012 - one for all requests

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked:
            self.ranges.append(asked)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = len(data) // 2 if len(data) > 100_000 and not asked else len(data)
        self.wfile.write(data[start:cut])


def test_products_of_another_station(serve, worker, encode, served):
    folder = product(encode, "t 1".replace(" ", "-"), {"a (b) #1?.mp4": 400_000, "small.txt": 10})
    Station.ranges.clear()
    _, target = serve("local")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Station, directory=encode)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        upload = worker(target, url=f"http://127.0.0.1:{web.server_port}/")
        upload.start()
        upload.receipt("t-1")
        web.shutdown()
    assert same(folder, served / "demo/hall_a/t-1")
    assert Station.ranges == ["bytes=200000-"]
    wait_for(lambda: not list((upload.data / "spool").iterdir()))
    wait_for(lambda: upload.json("status.json")["state"] == "waiting")
    assert "waiting for enc/talks" in upload.json("status.json")["text"]
    upload.stop()
    assert sorted(path.name for path in folder.iterdir()) == ["a (b) #1?.mp4", "manifest.json", "small.txt"]


def test_a_full_disk_is_said(serve, worker, encode, monkeypatch):
    """The spool leaves room for a recording on the same disk."""
    product(encode, "t1", {"a.mp4": 1000})
    manifest = (encode / "done/t1/manifest.json").read_text().replace('"size": 1000', f'"size": {10**15}')
    (encode / "done/t1/manifest.json").write_text(manifest)
    _, target = serve("local")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Station, directory=encode)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        upload = worker(target, url=f"http://127.0.0.1:{web.server_port}/").start()
        row = wait_for(lambda: upload.json("failed.json")["failed"][0], what=upload.log)
        web.shutdown()
    assert "must stay free" in row["last_error"]
