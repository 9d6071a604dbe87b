"""The program as it is started by hand and by systemd, with Debian's Python."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from tests.ports import free_port
from tests.stills.kit_core import PYTHON, ROOT, Client, Program, image, images, wait

pytestmark = pytest.mark.media


def run(folder, *arguments):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [PYTHON, "-m", "station.stills", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )


def options(folder, **more):
    """One stream of either TCP method."""
    named = images(folder)
    return {
        "http_port": 0,
        "streams": {
            "push": {"images": named, "ips": 20, "method": "tcp_push", "port": free_port()},
            "pull": {"images": named, "method": "tcp_pull", "port": free_port()},
        },
        **more,
    }


def refused(folder, told):
    (folder / "stills.json").write_text(json.dumps(told))
    done = run(folder, "--config", "stills.json")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_the_example_runs(tmp_path):
    example = json.loads(run(tmp_path, "--example").stdout)
    example["http_port"] = free_port()
    for one in example["streams"].values():
        if "method" in one:
            one["port"] = free_port(socket.SOCK_DGRAM if one["method"].startswith("udp") else socket.SOCK_STREAM)
    program = Program(tmp_path, example)
    try:
        program.until("HTTP on port")
        with Client(example["streams"]["push"]["port"]).open("START") as client:
            assert client.numbers(2) == [0, 1]
        with Client(example["streams"]["pull"]["port"]).open("GET 4") as client:
            assert client.numbers(1) == [4]
        socket.create_connection(("127.0.0.1", example["http_port"]), 5).close()
    finally:
        assert program.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_it_ends_at_once_with_clients(number, tmp_path):
    told = options(tmp_path)
    program = Program(tmp_path, told).until("streams pull")
    with Client(told["streams"]["push"]["port"]).open("START") as client:
        client.numbers(1)
        began = time.monotonic()
        program.process.send_signal(number)
        assert program.process.wait(10) == 0
        assert time.monotonic() - began < 5
        client.gone()
    assert "Traceback" not in program.log.read_text()


@pytest.mark.pace
def test_it_costs_nothing_when_idle(tmp_path):
    told = options(tmp_path)
    told["streams"]["push"]["ips"] = 100
    program = Program(tmp_path, told).until("streams pull")
    with Client(told["streams"]["push"]["port"]).open("START") as client:
        client.numbers(3)
    program.until("is gone")
    with Client(told["streams"]["push"]["port"]).open("START", "PAUSE"):
        before = program.seconds()
        time.sleep(1.5)
        assert program.seconds() - before <= 0.02, "more than a hundredth of a core (a tick is 0.01 s)"
    assert program.stop() == 0


def test_all_pictures_that_cannot_be_used_are_named(tmp_path):
    told = options(tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    told["streams"]["push"]["images"] = ["0.jpg", "text.jpg"]
    told["streams"]["pull"]["images"] = ["absent.jpg"]
    code, text = refused(tmp_path, told)
    assert code == 78
    assert "options.streams: 2 pictures cannot be used, mend or leave out: " in text
    assert f"push: {tmp_path}/text.jpg: is no picture" in text
    assert f"pull: {tmp_path}/absent.jpg: no such file" in text


def test_a_port_that_is_taken_is_named(tmp_path):
    told = options(tmp_path)
    with socket.create_server(("127.0.0.1", told["streams"]["pull"]["port"])):
        code, text = refused(tmp_path, told)
    assert code == 1
    assert (
        f"stream pull: TCP port {told['streams']['pull']['port']} is taken by another program; give it another" in text
    )


def test_it_may_start_again_at_once(tmp_path):
    told = options(tmp_path)
    for _ in range(2):
        program = Program(tmp_path, told).until("streams pull")
        with Client(told["streams"]["pull"]["port"]).open("GET 0") as client:
            client.numbers(1)
            program.stop()
            client.gone()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "tcp_push", "port": 0}, "port: is missing"),
        ({"method": "tcp_shove", "port": 2000}, "allowed are tcp_push"),
        ({"method": "mcast_push", "port": 2000, "address": "192.0.2.1"}, "needed is a multicast group"),
        ({"ips": 0}, "0.01 to 100"),
        ({"name": "two words"}, "one word"),
        ({"type": "TIFF"}, "allowed are GIF"),
        ({"images": []}, "has no image"),
        ({"testcard": {}}, "needs one of"),
        ({"from": "a/b"}, "needs one of"),
        ({"id": 7}, "as that of"),
        ({"rtp": {"group": "239.1.1.1", "port": 5001}}, "even port"),
    ],
    ids=["port", "method", "group", "pace", "name", "type", "none", "two", "reference", "id", "odd"],
)
def test_what_cannot_be_is_refused_with_its_key(change, said, tmp_path):
    from station.config import ConfigError, load
    from station.stills import settings

    told = options(tmp_path)
    told["streams"]["pull"]["id"] = 7
    told["streams"]["push"] |= change
    (tmp_path / "stills.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=f"options.streams.(push|pull).*{said}"):
        settings.read(load(tmp_path / "stills.json", "stills"))


def test_a_flux_is_what_options_do_not_say(tmp_path):
    from station.config import load
    from station.stills import settings

    image(tmp_path / "a.png")
    (tmp_path / "flux").write_text("ID: 0\nName: old\nType: BMP\nPort: 4000\nProtocol: TCP_PULL\nIPS: 3\na.png\n")
    told = {
        "streams": {
            "x": {"flux": "flux"},
            "y": {"flux": "flux", "id": 9, "ips": 2, "port": 4001},
            "z": {"testcard": {}},
        }
    }
    (tmp_path / "stills.json").write_text(json.dumps(told))
    x, y, z = settings.read(load(tmp_path / "stills.json", "stills")).streams
    assert (x.id, x.name, x.kind, x.port, x.protocol, x.ips) == (0, "old", "BMP", 4000, "TCP_PULL", 3.0)
    assert x.images == (str(tmp_path / "a.png"),)
    assert (y.id, y.ips, y.port, z.id, z.type) == (9, 2.0, 4001, 3, "JPG")


def test_a_stream_of_another_type_is_converted(tmp_path):
    image(tmp_path / "a.png")
    port = free_port()
    one = {"images": ["a.png"], "type": "GIF", "method": "tcp_pull", "port": port}
    program = Program(tmp_path, {"http_port": 0, "streams": {"one": one}}).until("streams one")
    with Client(port).open("GET -1") as client:
        assert client.frame()[1].startswith(b"GIF8")
    wait(lambda: "is gone" in program.log.read_text())
    assert program.stop() == 0
