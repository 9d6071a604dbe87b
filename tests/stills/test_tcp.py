"""The old methods over TCP, row by row of the reference, over real sockets."""

import contextlib
import itertools
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from station.stills import tcp, tcp_client
from station.stills.limits import LimitSettings
from tests.ports import free_port
from tests.stills.kit_core import LOOPBACK, Client, Running, stream, wait

pytestmark = pytest.mark.media
COUNT = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def running(folder):
    """One push and one pull stream, of three pictures."""
    running = Running(
        stream(folder, "tcp_push", COUNT, key="push", id=1, ips=50.0),
        stream(folder, "tcp_pull", COUNT, key="pull", id=2),
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def push(running):
    return running.server.streams["push"].settings.port


@pytest.fixture(scope="module")
def pull(running):
    return running.server.streams["pull"].settings.port


@pytest.fixture(autouse=True)
def nobody_left(running):
    """Whatever a client does, nothing of it stays."""
    yield
    wait(lambda: running.server.limits.clients == 0)
    for one in running.server.streams.values():
        assert one.viewers == 0
        assert one._timer is None, "a timer runs for nobody"


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def written(folder, number):
    return (folder / f"{number}.jpg").read_bytes()


@pytest.fixture(params=LOOPBACK)
def host(request):
    return request.param


def test_push_sends_every_picture_in_turn(host, push, folder):
    with Client(push, host).open("START") as client:
        for number in (0, 1, 2, 0, 1):
            assert client.frame() == (number, written(folder, number))


def test_pull_answers_each_get(host, pull, folder):
    with Client(pull, host).open() as client:
        for asked, number in ((-1, 0), (-1, 1), (-1, 2), (-1, 0), (2, 2), (-1, 0), (1, 1), (-1, 2)):
            client.send(f"GET {asked}")
            assert client.frame() == (number, written(folder, number))
        client.quiet()


def test_the_frame_is_number_length_and_bytes(pull, folder):
    with Client(pull).open("GET 2") as client:
        data = written(folder, 2)
        wanted = b"2\r\n%d\r\n%b" % (len(data), data)
        got = b""
        while len(got) < len(wanted):
            got += client.data.recv(100)
        assert got == wanted


def test_the_handshakes_get_is_no_request(push, pull):
    for port in (push, pull):
        with Client(port).open() as client:
            client.quiet()


def test_a_get_on_push_is_ignored(push):
    with Client(push).open("GET -1", "GET 2") as client:
        assert client.quiet().send("START").numbers(2) == [0, 1]


def test_start_and_pause_on_pull_are_ignored(pull):
    with Client(pull).open("START", "PAUSE") as client:
        assert client.quiet().send("GET -1").numbers(1) == [0]


def test_out_of_range_sends_nothing_and_the_pointer_stays(pull):
    with Client(pull).open("GET 1") as client:
        assert client.numbers(1) == [1]
        client.send("GET 99999999999999999999", "GET 999999999", "GET -2", "GET 3")
        assert client.quiet().send("GET -1").numbers(1) == [2]


def test_a_port_that_is_told_again_is_ignored(pull):
    with Client(pull).open("GET -1") as client, socket.create_server(("127.0.0.1", 0)) as other:
        assert client.numbers(1) == [0]
        client.send(f"LISTEN_PORT {other.getsockname()[1]}", f"LISTEN_PORT {client.listens}", "GET -1")
        assert client.numbers(1) == [1], "the pointer is that of the connection"
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()


def test_start_may_come_before_the_port(push):
    with Client(push).send("START") as client:
        assert client.open().numbers(2) == [0, 1]


def test_pause_stops_and_start_goes_on_from_there(push):
    with Client(push).open("START") as client:
        assert client.numbers(2) == [0, 1]
        client.send("PAUSE")
        last = 1
        with contextlib.suppress(TimeoutError):
            while True:
                last, _ = client.frame(0.15)
        assert client.quiet().send("START").numbers(2) == [(last + 1) % COUNT, (last + 2) % COUNT]


def test_a_second_start_changes_nothing(running, push):
    with Client(push).open("START", "START") as client:
        client.numbers(1)
        client.send("START")
        began = time.monotonic()
        assert client.numbers(10) == [1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
        assert time.monotonic() - began > 10 / 50 - 0.03, "it runs faster"
        assert running.server.streams["push"].viewers == 1


@pytest.mark.pace
def test_the_first_picture_comes_within_a_period(push):
    with Client(push).open() as client:
        began = time.monotonic()
        client.send("START").numbers(1)
        assert time.monotonic() - began < 1 / 50 + 0.5


def test_end_closes_both(push, pull):
    for port in (push, pull):
        with Client(port).open("START", "GET 0") as client:
            client.numbers(1)
            client.send("END").gone()


def test_what_was_asked_for_before_end_still_comes(pull, folder):
    with Client(pull) as client:
        client.control.sendall(f"LISTEN_PORT {client.listens}\r\nGET 0\r\nGET 1\r\nEND\r\n".encode())
        client.accept()
        assert client.frame() == (0, written(folder, 0))
        assert client.frame() == (1, written(folder, 1))
        client.gone()


def test_requests_in_pieces(pull):
    with Client(pull) as client:
        for byte in f"GET 1\r\nLISTEN_PORT {client.listens}\r\n\r\nGET -1\r\n\r\nGET 2\r\n\r\n".encode():
            client.control.sendall(bytes([byte]))
            time.sleep(0.001)
        assert client.accept().numbers(2) == [0, 2]


def test_several_requests_at_once_keep_their_order(pull):
    with Client(pull) as client:
        client.open("GET -1", "GET -1", "GET 0", "GET 2", "GET -1")
        assert client.numbers(5) == [0, 1, 0, 2, 0]


def test_line_ends_blank_lines_and_unknown_words(pull):
    with Client(pull).open() as client:
        client.control.sendall(
            b"\r\n\r\n\nALIVE 1\r\nHELLO\r\nget 0\r\nGET\r\nGET x\r\nGET 1.5\r\n  \r\n  GET   2  now\n"
        )
        assert client.numbers(1) == [2]
        client.quiet()


def test_garbage_and_endless_lines_harm_nobody(pull):
    with Client(pull).open() as client:
        client.control.sendall(bytes(range(256)) + b"\r\n" + b"GET 1" * 100_000)
        client.control.sendall(b"\r\n\xff\xfe GET 1\r\nLISTEN_PORT 0\r\nLISTEN_PORT 65536\r\nLISTEN_PORT -1\r\n")
        assert client.quiet().send("GET 0").numbers(1) == [0]


@pytest.mark.parametrize("words", ["GET 0\r\n", "START\r\nPAUSE\r\n"])
def test_who_floods_with_words_delays_nobody(words, push, pull):
    ended = threading.Event()
    with Client(pull if "GET" in words else push).open() as flood, Client(push).open("START") as client:
        flood.control.settimeout(0.2)
        flood.data.settimeout(0.2)

        def write():
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    flood.control.send(words.encode() * 40_000)

        def read():
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    flood.data.recv(1 << 20)

        threads = [threading.Thread(target=work) for work in (write, read)]
        try:
            for thread in threads:
                thread.start()
            client.numbers(3)
            began = time.monotonic()
            client.numbers(25)  # half a second's
            assert time.monotonic() - began < 4
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def test_data_goes_to_the_clients_own_address_only(pull):
    with Client(pull, source="127.0.0.2") as client, socket.create_server(("127.0.0.1", client.listens)) as other:
        client.open("GET 0")
        assert client.data.getpeername()[0].startswith("127.")
        assert client.numbers(1) == [0]
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_port_with_nobody_behind_it_may_be_told_anew(pull):
    with Client(pull) as client:
        client.send(f"LISTEN_PORT {free_port()}")
        end = time.monotonic() + 5
        client.door.settimeout(0.05)
        while client.data is None:
            assert time.monotonic() < end
            client.send(f"LISTEN_PORT {client.listens}")
            try:
                client.accept()
            except TimeoutError:
                continue
        assert client.send("GET -1").numbers(1) == [0]


@pytest.mark.parametrize("which", ["control", "data"])
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_client_that_vanishes_is_let_go(which, reset, push):
    with Client(push).open("START") as client:
        client.numbers(1)
        plug = getattr(client, which)
        if reset:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plug.close()
        other = client.data if which == "control" else client.control
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, which, other)
            client.gone()


@pytest.mark.parametrize(("method", "words"), [("push", ["START"]), ("pull", ["GET -1", "GET -1", "GET -1"])])
def test_who_only_ends_what_it_sends_itself_goes_on_reading(method, words, request):
    """As a client of Java does with shutdownOutput()."""
    with Client(request.getfixturevalue(method)).open() as client:
        client.data.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        client.send(*words)
        assert client.numbers(3) == [0, 1, 2]


def test_no_more_clients_than_allowed(folder):
    running = Running(stream(folder, "tcp_pull"), limits=LimitSettings(clients=3, per_address=2))
    port = running.server.streams["tcp_pull"].settings.port
    try:
        first, second = Client(port).open(), Client(port).open()
        with Client(port) as third:
            assert third.control.recv(1) == b"", "a third one of an address"
        other = Client(port, source="127.0.0.2").open()
        with Client(port, source="127.0.0.3") as fourth:
            assert fourth.control.recv(1) == b"", "a fourth one altogether"
        first.close()
        wait(lambda: running.server.limits.clients == 2)
        with Client(port).open("GET 0") as third:
            assert third.numbers(1) == [0]
        assert running.server.limits.refused == {"per_address": 1, "clients": 1}
        second.close()
        other.close()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Streams whose pictures are too large for the kernel to take many."""
    folder = tmp_path_factory.mktemp("large")
    running = Running(
        stream(folder, "tcp_push", 20, 200_000, key="push", id=1, ips=100.0),
        stream(folder, "tcp_pull", 20, 200_000, key="pull", id=2),
    )
    yield running
    running.stop()


@pytest.mark.pace
def test_who_does_not_read_skips_and_delays_nobody(large):
    one = large.server.streams["push"]
    tally = one.tally("tcp_push")
    with Client(one.settings.port, buffer=4096).open("START") as lazy, Client(one.settings.port).open() as eager:
        wait(lambda: tally.skipped > 20)
        began = time.monotonic()
        assert eager.send("START").numbers(30) == [number % 20 for number in range(30)]
        assert time.monotonic() - began < 30 / 100 + 2, "it waits for the other one"
        got = [lazy.frame() for _ in range(12)]
        assert all(data.endswith(b"x" * 200_000) and b"%06d" % number in data for number, data in got)
        steps = [(after[0] - before[0]) % 20 for before, after in itertools.pairwise(got)]
        assert any(step != 1 for step in steps), "nothing was skipped"
    wait(lambda: large.server.limits.clients == 0)


def test_gets_wait_until_they_are_read(large):
    one = large.server.streams["pull"]
    with Client(one.settings.port, buffer=4096).open() as client:
        client.send(*["GET -1"] * 40)
        wait(lambda: one.tally("tcp_pull").sent >= 1)
        assert client.numbers(40) == [number % 20 for number in range(40)]
    wait(lambda: large.server.limits.clients == 0)


def test_who_pulls_and_never_reads_is_bounded_and_let_go(large, monkeypatch):
    monkeypatch.setattr(tcp_client, "DEAD", 0.4)
    monkeypatch.setattr(tcp, "WAITING", 50)
    one = large.server.streams["pull"]
    tally = one.tally("tcp_pull")
    skipped, sent = tally.skipped, tally.sent
    with Client(one.settings.port, buffer=4096).open() as client:
        client.send(*["GET 0"] * 500)
        wait(lambda: tally.skipped - skipped > 400)
        assert tally.sent - sent < 20
        wait(lambda: large.server.limits.clients == 0, 10)


def test_a_port_that_is_taken_is_named(folder):
    one = stream(folder, "tcp_push", key="mine")
    with (
        socket.create_server(("127.0.0.1", one.port)),
        pytest.raises(OSError, match=f"stream mine: TCP port {one.port} is taken by another program"),
    ):
        Running(one)


def test_it_listens_where_it_is_told(folder):
    one = stream(folder, "tcp_pull")
    running = Running(one, listen_address="127.0.0.2")
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", one.port), 1)
        socket.create_connection(("127.0.0.2", one.port), 1).close()
    finally:
        running.stop()


def test_a_stop_closes_all(folder):
    running = Running(stream(folder, "tcp_push"))
    before = open_files()
    with Client(running.server.streams["tcp_push"].settings.port).open("START") as client:
        client.numbers(1)
        running.stop()
        client.gone()
    assert open_files() < before
