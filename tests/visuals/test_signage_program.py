"""The program as it runs on a station, beside an instance of visuals that is alone: real sockets, Debian's Python."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.ports import free_port

PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.media
CHECKOUT = Path(__file__).resolve().parents[2]


class Programs:
    """Starts station programs in a folder and ends them."""

    def __init__(self, folder):
        self.folder = folder
        self._running = []

    def example(self, module):
        command = [PYTHON, "-m", module, "--example"]
        return json.loads(subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True, timeout=30).stdout)

    def start(self, module, name, configuration):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(configuration))
        with (folder / "log.txt").open("ab") as log:
            command = [PYTHON, "-m", module, "--config", str(folder / "config.json")]
            process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running.append(process)
        return process

    def end(self):
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait(10)


@pytest.fixture
def programs(tmp_path):
    made = Programs(tmp_path)
    yield made
    made.end()


def last(port, topic):
    """The last message of a topic, as a radio gets it when it subscribes; empty without one."""
    found = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as radio:
        radio.sendall(f"CONNECT\n\n\0SUBSCRIBE\ndestination:{topic}\n\n\0DISCONNECT\nreceipt:1\n\n\0".encode())
        while part := radio.recv(65536):
            found += part
    messages = [frame for frame in found.decode().split("\0") if frame.lstrip().startswith("MESSAGE")]
    return messages[-1].partition("\n\n")[2] if messages else ""


def until(true, programs, seconds=15):
    end = time.monotonic() + seconds
    while not (found := true()):
        logs = {path.parent.name: path.read_text() for path in programs.folder.glob("*/log.txt")}
        assert time.monotonic() < end, logs
        time.sleep(0.05)
    return found


def write_talk(folder, title):
    talk = {"id": "1", "title": title, "presenters": [], "start": time.time() - 60, "end": time.time() + 600}
    rooms = {"hall_a": {"title": "Hall A", "talks": [talk]}}
    folder.mkdir(exist_ok=True)
    (folder / "new").write_text(json.dumps({"talks": {"timezone": "UTC", "rooms": rooms}}))
    (folder / "new").rename(folder / "signage-context.json")


def test_examples_of_signage_and_visuals_work_together(programs):
    visuals, signage = programs.example("station.visuals"), programs.example("station.signage")
    stomp, door, other = free_port(), free_port(), free_port()
    visuals |= {"stomp_port": stomp, "http_port": free_port()}
    signage["sources"]["here/visuals"]["options"] |= {"stomp_port": stomp, "http_port": visuals["http_port"]}
    server = programs.start("station.visuals", "visuals", visuals)
    for name in ("one", "two"):
        write_talk(programs.folder / name, "Opening")
    first = programs.start("station.signage", "one", signage | {"http_port": door})
    topic = "/topic/id/demo/hall_a"
    url = until(lambda: last(stomp, f"{topic}-screen/image"), programs).removeprefix("SHOW ")
    assert url.startswith(f"http://127.0.0.1:{door}/pictures/")
    asked = http.client.HTTPConnection("127.0.0.1", door, timeout=5)
    asked.request("GET", url.partition(str(door))[2])
    answer = asked.getresponse()
    assert answer.read().startswith(b"\x89PNG") and "immutable" in answer.headers["Cache-Control"]
    asked.close()
    assert re.fullmatch("TEXT Now: Opening \u2013 until [0-9:]{5}", last(stomp, f"{topic}/text"))
    # what changes while visuals is away is there soon after its return
    server.send_signal(signal.SIGKILL)
    server.wait(10)
    for name in ("one", "two"):
        write_talk(programs.folder / name, "Changed")
    programs.start("station.visuals", "visuals", visuals)
    until(lambda: "Changed" in last(stomp, f"{topic}/text"), programs)
    # the other one takes over from one that dies
    programs.start("station.signage", "two", signage | {"http_port": other})
    time.sleep(1)
    assert f":{door}/" in last(stomp, f"{topic}/image")
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    until(lambda: f":{other}/" in last(stomp, f"{topic}/image"), programs)
