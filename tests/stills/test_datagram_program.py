"""Datagrams and groups of the program as stations run it: Debian's Python and Pillow."""

import contextlib
import socket
import time

import pytest

from tests.ports import free_port
from tests.stills import kit_core
from tests.stills.kit_net import joined

pytestmark = pytest.mark.media
OLD, VIDEO = "239.255.41.3", "239.255.41.4"


def test_all_ways_of_datagrams_and_an_end_that_is_said(tmp_path):
    with contextlib.ExitStack() as stack:
        port = free_port(socket.SOCK_DGRAM) // 2 * 2
        old = stack.enter_context(joined(OLD))
        video, reports = (stack.enter_context(joined(VIDEO, port=one)) for one in (port, port + 1))
        card = {"testcard": {"width": 64, "height": 48, "pictures": 3}, "ips": 20}
        pull, push = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        group = {"method": "mcast_push", "address": OLD, "port": old.getsockname()[1]}
        streams = {
            "a": {**card, **group, "rtp": {"group": VIDEO, "port": port}},
            "b": {**card, "method": "udp_pull", "port": pull},
        }
        streams["c"] = {**card, "method": "udp_push", "port": push}
        program = kit_core.Program(tmp_path, {"http_port": 0, "streams": streams})
        try:
            program.until("streams a (MCAST_PUSH")
            for plug in (old, video, reports):
                plug.settimeout(10)
            assert old.recv(2048).split(b"\r\n")[0] in (b"0", b"1", b"2")
            assert video.recv(2048)[0] == 0x80
            assert reports.recv(2048)[1] == 200
            for own, word in ((pull, b"GET 2"), (push, b"START")):
                words, data = (stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2))
                data.bind(("127.0.0.1", 0))
                data.settimeout(10)
                hello = b"GET 1\r\nLISTEN_PORT %d\r\nFRAGMENT_SIZE 512\r\n\r\n%b\r\n\r\n"
                words.sendto(hello % (data.getsockname()[1], word), ("127.0.0.1", own))
                assert data.recv(2048).split(b"\r\n")[0] == (b"2" if own == pull else b"0")
            began = time.monotonic()
            assert program.stop() == 0
            assert time.monotonic() - began < 5
            assert any(reports.recv(2048)[-8:-4] == b"\x81\xcb\0\1" for _ in range(3))
        finally:
            program.process.kill()
            program.process.wait()
        assert "Traceback" not in program.log.read_text()
