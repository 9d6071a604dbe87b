"""The role web: the configuration as rendered, in a real nginx, under the supervisor for foreign daemons."""

import http.client
import os
import re
import signal
import sys
import time

import psutil
import pytest

from stationmaster import units
from tests.media import kit
from tests.media.kit import wait_for
from tests.ports import free_port

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]

TEMPLATES = kit.REPOSITORY / "roles" / "web" / "templates"


@pytest.fixture
def web(tmp_path, closing):
    """A running web instance and a function that asks it."""
    root = tmp_path / "srv"
    media = kit.recording(root / "ingest" / "main", 1)
    (media.folder / ".hidden").write_text("secret")
    (media.folder / "status.json").write_text("{}")
    (media.folder / "preview.jpg").write_bytes(b"\xff\xd8\xff")
    (media.folder / "partial").mkdir()
    (media.folder / "partial" / "torn.ts").write_text("torn")
    (media.folder / "stolen").symlink_to("/etc/passwd")
    (root / "signage/door/pictures").mkdir(parents=True)
    (root / "signage/door/pictures/0a1b.png").write_bytes(b"\x89PNG")
    (root / "applier").mkdir()
    (root / "applier" / "state.json").write_text("{}")
    port = free_port()
    variables = {"options": {"port": port}, "served_roles": ["ingest", "record", "signage"]}
    text = units.render_file(TEMPLATES, "nginx.conf.j2", variables)
    text = text.replace("/srv/stationmaster", str(root))
    config = tmp_path / "nginx.conf"
    # By hand the master is root and would switch to another user; in the unit it is sm-web from the start.
    config.write_text(("user root;\n" if os.getuid() == 0 else "") + text)
    channel = closing(kit.NotifySocket(tmp_path))
    command = [
        sys.executable,
        "-m",
        "station.foreign",
        *("--interval", "0.3", "--timeout", "0.3", "--probe", f"http://127.0.0.1:{port}/healthz"),
    ]
    command += ["--", "/usr/sbin/nginx", "-e", "stderr", "-p", tmp_path, "-c", config]
    process = closing(kit.Process(command, tmp_path / "log.txt", {"NOTIFY_SOCKET": str(channel.path)}))
    wait_for(lambda: channel.has("READY=1"))

    def ask(path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers, body

    return process, channel, ask, media.index.segments[0], tmp_path


def test_serves_media_as_players_need_it(web):
    _, _, ask, segment, _ = web
    path = f"/ingest/main/{segment.name}"
    status, headers, body = ask(path)
    assert (status, len(body), headers["Content-Type"]) == (200, segment.size, "video/mp2t")
    assert "immutable" in headers["Cache-Control"] and headers["Access-Control-Allow-Origin"] == "*"
    status, headers, body = ask(path, Range="bytes=100-199")
    assert (status, len(body), headers["Content-Range"]) == (206, 100, f"bytes 100-199/{segment.size}")
    for name, kind in (
        ("live.m3u8", "application/vnd.apple.mpegurl"),
        ("index.jsonl", "application/x-ndjson"),
        ("preview.jpg", "image/jpeg"),
        ("status.json", "application/json"),
    ):
        status, headers, _ = ask(f"/ingest/main/{name}")
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, kind, "no-cache")
    status, headers, _ = ask("/signage/door/pictures/0a1b.png")
    assert (status, headers["Content-Type"]) == (200, "image/png") and "immutable" in headers["Cache-Control"]
    assert ask("/healthz")[2] == b"ok\n"


HIDDEN = [
    "/",
    "/ingest/",
    "/ingest/main/",
    "/ingest/main/20260301/",
    "/ingest/main/.hidden",
    "/ingest/main/partial/torn.ts",
    "/ingest/main/stolen",
    "/ingest/main/../../applier/state.json",
    "/ingest/main/%2e%2e/%2e%2e/applier/state.json",
    "/applier/state.json",
]


def test_shows_nothing_else_and_is_read_only(web):
    _, _, ask, segment, _ = web
    for path in HIDDEN:
        assert ask(path)[0] in (403, 404), path
    for method in ("PUT", "DELETE", "POST", "MKCOL"):
        assert ask(f"/ingest/main/{segment.name}", method)[0] in (403, 405), method
    assert ask(f"/ingest/main/{segment.name}")[0] == 200


def test_feeds_the_watchdog_only_while_it_serves(web):
    process, channel, _, _, folder = web
    wait_for(lambda: channel.has("WATCHDOG=1"))
    master = int((folder / "nginx.pid").read_text())
    workers = [int(pid) for pid in re.findall(r"\d+", (kit.children_of(master)))]
    for pid in (master, *workers):
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: channel.has("STATUS=does not answer"))
        count = sum("WATCHDOG=1" in text for _, text in channel.messages)
        time.sleep(1.5)
        assert sum("WATCHDOG=1" in text for _, text in channel.messages) == count
    finally:
        for pid in (master, *workers):
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: channel.messages[-1][1].startswith(("STATUS=serving", "WATCHDOG")))
    assert process.stop() == 0


def test_ends_with_the_daemon(web):
    process, _, _, _, folder = web
    master = psutil.Process(int((folder / "nginx.pid").read_text()))
    workers = master.children()
    master.kill()
    assert process.popen.wait(5) == 128 + signal.SIGKILL
    for worker in workers:
        worker.kill()  # in a unit, the control group does


def test_bad_probe_is_a_configuration_error(tmp_path, closing):
    command = [sys.executable, "-m", "station.foreign", "--probe", "ftp://x", "--", "true"]
    process = closing(kit.Process(command, tmp_path / "log.txt"))
    assert process.popen.wait(5) == 78
    assert "tcp://host:port" in process.text()


def test_configuration_is_the_same_for_any_instances():
    """Adding an instance must not restart nginx: the template knows roles only."""
    text = (TEMPLATES / "nginx.conf.j2").read_text()
    assert not re.search(r"\bweb\b|\binstance", re.sub(r"#.*", "", text))
