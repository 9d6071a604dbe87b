"""Whatever bytes come: the parser gives frames or says what is wrong, and the process lives and leaks nothing."""

import contextlib
import itertools
import random
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.visuals import frames
from station.visuals.frames import Malformed, Parser
from tests.visuals import kit_core as kit

pytestmark = pytest.mark.media
PIECES = [
    b"CONNECT", b"STOMP", b"SEND", b"SUBSCRIBE", b"UNSUBSCRIBE", b"DISCONNECT", b"ACK", b"BEGIN", b"\n", b"\n\n", b"\0",
    b"\r\n", b":", b"\\", b"\\n", b"\\x", b"destination:", b"id:", b"receipt:1", b"content-length:", b"5", b"-1",
    b"99999999999", b"heart-beat:1,1", b"accept-version:1.2", b"accept-version:1.1", b"login:1.studio",
    b"passcode:secret-of-one", b"/topic/fm/ch/c221/09580/text", b"/topic/*/text", b"/topic/fm/", b"\xff\xfe", b" ",
    "é".encode(), b"x" * 3000, b"link:a\n" * 70, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
]  # fmt: skip
STARTS = [
    b"",
    b"CONNECT\n\n\0",
    b"CONNECT\nlogin:1.studio\npasscode:secret-of-one\n\n\0",
    b"CONNECT\naccept-version:1.2\nlogin:1.studio\npasscode:secret-of-one\n\n\0",
]
stream = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=40).map(b"".join)
dialects = st.sampled_from([None, frames.REFERENCE, frames.V11, frames.V12])


def parse(dialect, chunks):
    parser = Parser()
    parser.dialect = dialect
    found = []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (frame := parser.next()) is not None:
                assert frame.command or dialect not in (None, frames.REFERENCE) or frame.headers or frame.body
                found.append((frame.command, tuple(frame.headers.items()), frame.body))
            assert len(parser) <= frames.MAX_HEAD + frames.MAX_BODY + len(chunk)
    except Malformed:
        found.append("malformed")
    return found


@settings(max_examples=120)
@given(dialects, stream, st.lists(st.integers(0, 300), max_size=8))
def test_frames_do_not_depend_on_how_the_bytes_arrive(dialect, data, cuts):
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert parse(dialect, [data]) == parse(dialect, pieces) == parse(dialect, [bytes([byte]) for byte in data])


HEADER = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=10)


@settings(max_examples=80)
@given(st.sampled_from([frames.V11, frames.V12]), st.dictionaries(HEADER, HEADER, max_size=5), st.binary(max_size=50))
def test_what_is_put_together_is_taken_apart_the_same(dialect, headers, body):
    if dialect == frames.V11 and any("\r" in text for pair in headers.items() for text in pair):
        return
    raw = frames.encode(dialect, "SEND", headers.items(), body)
    expected = {**headers, **({"content-length": str(len(body))} if body and "content-length" not in headers else {})}
    if "content-length" not in headers:
        assert parse(dialect, [raw]) == [("SEND", tuple(expected.items()), body)]


@pytest.mark.parametrize("dialect", [None, frames.REFERENCE, frames.V11, frames.V12])
@pytest.mark.parametrize("endless", [b"x", b"a:b\n", b"SEND\nx:y\n\n" + b"z" * 1000, b"\0x"])
def test_endless_frames_are_refused_in_bounded_memory_and_time(dialect, endless):
    parser = Parser()
    parser.dialect = dialect
    began = time.process_time()
    parser.feed(b"SEND\n" if not endless.startswith(b"\0") else b"")
    with contextlib.suppress(Malformed):
        for _ in range(6000):
            parser.feed(endless)
            parser.next()
            assert len(parser) <= frames.MAX_HEAD + frames.MAX_BODY + 2 * len(endless)
    assert time.process_time() - began < 2


def test_random_bytes_over_real_sockets_harm_nobody(tmp_path):
    server = kit.Server(tmp_path, connect_timeout=0.5).start()
    try:
        dice = random.Random(4)  # noqa: S311 - the same attack each time
        with server.connected(kit.LOGIN) as witness:
            witness.send("SUBSCRIBE", destination=kit.ONE + "text", id="w").sync()
            attack(server, dice, 150)
            wait_for_files(server, 0)
            memory, files = server.memory(), server.files()
            attack(server, dice, 350)
            wait_for_files(server, files)
            assert server.memory() - memory < 6 << 20
            witness.send("SEND", {"destination": kit.ONE + "text"}, b"still here")
            while (frame := witness.frame()).body != b"still here":
                assert frame.command == "MESSAGE"
    finally:
        assert server.stop() == 0
    log = server.log.read_text()
    assert "Traceback" not in log and "internal error" not in log and "secret-of-one" not in log


def attack(server, dice, count):
    for number in range(count):
        data = b"".join(dice.choice(PIECES) if dice.random() < 0.8 else dice.randbytes(20) for _ in range(60))
        start = dice.choice(
            [b"", b"CONNECT\n\n\0", b"CONNECT\naccept-version:1.2\nlogin:1.studio\npasscode:secret-of-one\n\n\0"]
        )
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 2) as plug:
            if number % 3 == 0:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
            plug.sendall(start + data)
            if number % 5 == 0:
                plug.settimeout(0.05)
                plug.recv(1 << 16)


def wait_for_files(server, files):
    end = time.monotonic() + 8
    while True:
        now = server.files()
        if (files and now <= files) or (not files and now < 25):
            return
        assert time.monotonic() < end, f"{now} files are open"
        time.sleep(0.05)
