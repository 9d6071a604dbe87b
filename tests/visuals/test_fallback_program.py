"""The watchdog's program against a server of visuals, both as their own processes on Debian's python."""

import asyncio
import json
import os
import subprocess
import time

import pytest

from station import fallback
from station.config import Config, ConfigError, Paths, load
from station.visuals import message_log, settings
from station.visuals.directory import Listing
from tests.visuals.kit_bus import eventually as until
from tests.visuals.kit_core import LOGIN, ONE, OPTIONS, PYTHON, ROOT, Server
from tests.visuals.kit_fallback import Manager, Original

FAST = {"check": 0.3, "silence": 1.0, "channels_every": 0.5}


class Program:
    """`python3 -m station.fallback` with options, in a folder."""

    def __init__(self, folder, server, environ=None, **options):
        self.environ = environ or {}
        folder.mkdir(exist_ok=True)
        self.folder, self.config = folder, folder / "fallback.json"
        shared = {"stomp_port": server.port, "token": OPTIONS["token"], "broadcasters": OPTIONS["broadcasters"]}
        source = {"role": "visuals", "kind": "visuals", "url": "http://127.0.0.1/", "address": "127.0.0.1"}
        sources = {"localhost/main": {**source, "options": shared}}
        self.config.write_text(json.dumps({"from": ["localhost/main"], "sources": sources, **FAST, **options}))
        self.process = None

    def command(self, *arguments, **more):
        return {
            "args": [PYTHON, "-m", "station.fallback", "--config", str(self.config), *arguments],
            "cwd": self.folder,
            "env": {**os.environ, "PYTHONPATH": str(ROOT), **self.environ},
            **more,
        }

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(**self.command(stdout=log, stderr=log))
        return self

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(10) if self.process else 0

    def active(self):
        return "now the active one" in (self.folder / "log").read_text()

    def printed(self, *topic):
        return subprocess.run(**self.command("--log", *topic, capture_output=True, text=True, check=True)).stdout


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def connected(server):
    """Make clients that logged in, or need not."""
    made = []

    def connect(*headers):
        made.append(server.connected(*headers))
        return made[-1]

    yield connect
    for client in made:
        client.socket.close()


@pytest.fixture
def programs(tmp_path, server):
    made = []

    def start(name, **options):
        made.append(Program(tmp_path / name, server, **options).start())
        return made[-1]

    yield start
    for program in made:
        program.stop()


def eventually(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def until_message(client, body, seconds=20.0):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        frame = client.frame(left)
        assert frame is not None
        if frame.command == "MESSAGE" and frame.body == body:
            return frame
    raise AssertionError(f"no {body!r}")


@pytest.mark.pace
@pytest.mark.media
def test_a_radio_sees_the_default_the_real_message_and_the_default_again(server, connected, programs):
    radio = connected()
    radio.send("SUBSCRIBE", destination=ONE + "image")
    first = programs("a")
    frame = until_message(radio, b"SHOW https://example.org/1.png")
    assert set(frame.headers) == {
        "destination", "when", "trigger-time", "message-id", "expires", "priority", "timestamp",
    }  # fmt: skip
    assert (frame.headers["destination"], frame.headers["trigger-time"]) == (ONE + "image", "NOW")
    assert (frame.headers["expires"], frame.headers["priority"]) == ("0", "0")
    assert int(frame.headers["message-id"]) > 2**64
    studio = connected(LOGIN)
    studio.send("SEND", destination=ONE + "image", body=b"SHOW https://example.org/real.png", receipt="1")
    until_message(radio, b"SHOW https://example.org/real.png")
    said = time.monotonic()
    until_message(radio, b"SHOW https://example.org/1.png")
    assert FAST["silence"] <= time.monotonic() - said < FAST["silence"] + FAST["check"] + 0.3

    second = programs("b")
    eventually(lambda: "watching" in (second.folder / "log").read_text())
    first.process.kill()  # the lock goes with the connection
    first.process.wait()
    gone = time.monotonic()
    until_message(radio, b"SHOW https://example.org/1.png")
    assert time.monotonic() - gone < FAST["silence"] + 2 * FAST["check"]
    assert second.stop() == 0
    assert "Traceback" not in (second.folder / "log").read_text()
    lines = second.printed(ONE + "image").splitlines()
    assert lines[0].endswith("SHOW https://example.org/1.png")
    assert any(line.endswith("SHOW https://example.org/real.png") for line in lines)
    assert all(ONE + "image" in line for line in lines)
    stamps = [line[:20] for line in second.printed().splitlines()]
    assert stamps == sorted(stamps, reverse=True)
    assert "unless-newer" not in (second.folder / "fallback-data" / message_log.FILE).read_bytes().decode("latin-1")


@pytest.mark.media
def test_it_outlives_the_server_and_catches_up(server, connected, programs):
    radio = connected()
    radio.send("SUBSCRIBE", destination=ONE + "text")
    program = programs("a", silence=1.5)
    until_message(radio, b"TEXT One")
    server.stop()
    server.start()
    studio = connected(LOGIN)
    studio.send("SEND", destination=ONE + "text", body=b"TEXT real", receipt="1")
    assert studio.frame().command == "RECEIPT"
    radio = connected()
    radio.send("SUBSCRIBE", destination=ONE + "text")
    began = time.monotonic()
    assert radio.frame().body == b"TEXT real"
    until_message(radio, b"TEXT One", 8)
    assert time.monotonic() - began > 1.0
    assert program.process.poll() is None


@pytest.mark.media
def test_both_kinds_of_manager_get_the_log_and_list_the_channels(server, programs):
    async def main():
        async with Original() as api, Manager() as manager:
            old = programs("old", environ={"RADIODNS_API_URL": api.api, "FB_IMAGE_LOCATIONS": "https://cdn.example/"})
            new = programs("new", manager=manager.url, manager_token=manager.TOKEN)

            def told():
                bodies = {form["message"] for form in api.calls("add_log")}
                return {"TEXT This is One", "SHOW https://cdn.example/one.png"} <= bodies and api.calls("cleanup_logs")

            await until(lambda: old.active() or new.active())
            if new.active():
                await until(lambda: any(row["body"].startswith("SHOW") for row in manager.messages.values()))
                new.process.kill()
            await until(told, 10)
            await until(lambda: new.process.poll() is not None or manager.messages)
            assert any(row["source"].endswith("/main") for row in manager.messages.values())
            assert any(path.startswith("/v1/visuals/directory?wait=") for path in manager.asked)
            assert ("get_channel_default", {"id": "11"}) in api.asked
            for program in (old, new):
                text = (program.folder / "log").read_text()
                assert "s3cr3t" not in text
                assert manager.TOKEN not in text
                assert "Traceback" not in text

    asyncio.run(main())


def config(tmp_path, **options):
    paths = Paths(tmp_path, tmp_path, tmp_path, tmp_path / "m", tmp_path / "c")
    return Config("event", None, "s", "127.0.0.1", "fallback", "main", options, {}, {}, paths)


def test_the_originals_variables_come_before_the_options(tmp_path):
    found = fallback.Settings(config(tmp_path), {})
    assert (found.times.silence, found.times.check, found.times.refresh) == (60, 15, 60)
    assert (found.log_age, found.log_cleanup, found.picture_base, found.legacy_url) == (86400, 3600, "", None)
    environment = {
        "FB_CHANNEL_CACHE": "1", "FB_FALLBACK_CHECK": "2", "FB_FALLBACK_TIME": "3", "FB_LOGS_MAX_AGE": "1200",
        "FB_LOGS_CLEANUP": "5", "FB_IMAGE_LOCATIONS": "https://p/", "RADIODNS_API_URL": "http://h/s/", "FB_QUEUE": "x",
    }  # fmt: skip
    found = fallback.Settings(config(tmp_path, silence=9, picture_base="https://q/"), environment)
    assert (found.times.silence, found.times.check, found.times.refresh) == (3, 2, 1)
    assert (found.log_age, found.log_cleanup, found.picture_base) == (1200, 5, "https://p/")
    assert found.legacy_url == "http://h/s/"
    for key, value in (("FB_FALLBACK_TIME", "soon"), ("FB_FALLBACK_CHECK", "0")):
        with pytest.raises(ConfigError, match=key):
            fallback.Settings(config(tmp_path), {key: value})
    with pytest.raises(ConfigError, match="known are none"):
        fallback.Settings(config(tmp_path, **{"from": ["a/b"]}), {})


def test_the_example_reaches_the_example_of_visuals(tmp_path):
    path = tmp_path / "fallback.json"
    path.write_text(json.dumps(fallback.EXAMPLE))
    found = load(path, "fallback")
    (source,) = found.sources.values()
    other = settings.EXAMPLE
    assert (source.address, source.options["token"]) == (other["stomp_address"], other["token"])
    assert source.options["stomp_port"] == other["stomp_port"]
    topics = {channel.topic for channel in Listing.from_json(other["broadcasters"]).channels}
    listed = fallback.Settings(found, {}).listing.channels
    assert {channel.topic for channel in listed} <= topics
    assert all(channel.picture and channel.text for channel in listed)
    assert found.paths.data == tmp_path / "fallback-data"
