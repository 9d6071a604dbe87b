"""The words of the old protocol, in whatever pieces and with whatever else between them."""

import pytest

from station.stills import control
from station.stills.control import LINE, Command, Lines

TEXT = b"GET 7\r\nLISTEN_PORT 5000\r\nFRAGMENT_SIZE 512\r\n\r\n"
TEXT += b"GET -1\r\n\r\nSTART\r\n\r\nPAUSE\r\n\r\nALIVE 7\r\n\r\nEND\r\n\r\n"
TOLD = [
    Command("GET", 7),
    Command("LISTEN_PORT", 5000),
    Command("FRAGMENT_SIZE", 512),
    Command("GET", -1),
    Command("START"),
    Command("PAUSE"),
    Command("ALIVE"),
    Command("END"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size(size):
    lines = Lines()
    assert [one for at in range(0, len(TEXT), size) for one in lines.feed(TEXT[at : at + size])] == TOLD


def test_a_datagram_is_whole_without_its_last_end():
    assert list(control.commands(TEXT.rstrip())) == TOLD
    assert list(control.commands(b"")) == []


@pytest.mark.parametrize(
    "line",
    [b"", b" ", b"get 1", b"GET", b"GET one", b"GET 1.0", b"GET +1", b"GET --1", b"GET 1000000000",
     b"GET \xb2", b"\xff\xfe", b"LISTEN_PORT", b"GET1", b"\0GET 1", b"GET 1" + b" " * LINE],
    ids=range(15),
)  # fmt: skip
def test_what_is_no_request(line):
    assert control.parse(line) is None


@pytest.mark.parametrize("line", [b"GET 1", b"GET 1\r", b" GET  1 ", b"GET 1 more words", b"\tGET\t1"])
def test_what_is_one(line):
    assert control.parse(line) == Command("GET", 1)


def test_a_line_without_end_is_not_kept():
    lines = Lines()
    for _ in range(1000):
        assert lines.feed(b"GET 1 " * 100) == []
        assert len(lines._rest) <= LINE
    assert lines.feed(b"GET 2") == []
    assert lines.feed(b"\r\nGET 3\r\n") == [Command("GET", 3)], "the end of a long line is no line"
