"""Descriptors as other servers of the protocol write and read them."""

from pathlib import Path

import pytest

from station.stills import descriptor
from station.stills.descriptor import Descriptor, DescriptorError

WRITTEN = """ID: 3
Name: hall
Type: JPEG
Address: 192.0.2.7
Port: 10003
Protocol: TCP_PUSH
IPS: 12.5
a/1.jpg
b\\2.jpg
"""


def test_read():
    told = Descriptor(3, "hall", "JPEG", "192.0.2.7", 10003, "TCP_PUSH", 12.5, ("a/1.jpg", "b/2.jpg"), numbered=True)
    assert descriptor.parse(WRITTEN) == told
    assert descriptor.parse(WRITTEN.replace("\n", "\r\n")) == told
    assert told.method == "tcp_push"


def test_the_defaults_are_those_of_the_reference():
    assert descriptor.parse("") == Descriptor(0, "", "", "", 0, "", 1.0, ())
    assert descriptor.parse("").method is None


@pytest.mark.parametrize(
    "line",
    ["a comment of several words", "ID:  5", "Name: two words", "Unknown: 5", "", "ID: ", "ID:", "Port: 1 2"],
)
def test_lines_that_say_nothing(line):
    assert descriptor.parse(line) == Descriptor()


def test_order_does_not_matter_and_the_last_one_counts():
    told = descriptor.parse("b.jpg\nPort: 1\nID: 2\na.jpg\nPort: 3\n")
    assert (told.port, told.id, told.images) == (3, 2, ("b.jpg", "a.jpg"))


@pytest.mark.parametrize(
    ("line", "needed"), [("ID: x", "whole number"), ("Port: 1.5", "whole"), ("IPS: fast", "a number")]
)
def test_a_number_that_is_none_is_named(line, needed):
    with pytest.raises(DescriptorError, match=f"line 2: .*{needed}"):
        descriptor.parse(f"Name: x\n{line}\n")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(DescriptorError, match=r"TCP_SHOVE.*TCP_PUSH, TCP_PULL"):
        _ = Descriptor(protocol="TCP_SHOVE").method


def test_what_is_written_is_in_the_references_order_and_reads_back(tmp_path):
    path = tmp_path / "x"
    told = descriptor.parse(WRITTEN)
    descriptor.write(path, told)
    assert path.read_bytes() == WRITTEN.replace("\\", "/").encode()
    assert descriptor.read(path) == told
    descriptor.write(path, Descriptor())
    assert path.read_text() == "ID: 0\nName: \nType: \nAddress: \nPort: 0\nProtocol: \nIPS: 1.0\n"
    assert descriptor.read(path) == Descriptor(numbered=True)


def test_a_path_of_any_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"caf\xe9.jpg\n")
    descriptor.write(path, descriptor.read(path))
    assert path.read_bytes().endswith(b"\ncaf\xe9.jpg\n")


@pytest.mark.parametrize("told", [Descriptor(images=("my picture.jpg",)), Descriptor(name="two words")])
def test_what_nobody_could_read_back_is_not_written(told, tmp_path):
    with pytest.raises(DescriptorError, match="has a space"):
        descriptor.write(tmp_path / "x", told)
    assert not (tmp_path / "x").exists()


def test_files_that_cannot_be_are_named(tmp_path):
    with pytest.raises(DescriptorError, match=r"none: cannot be read: No such file"):
        descriptor.read(tmp_path / "none")
    with pytest.raises(DescriptorError, match=r"/none/x: cannot be written: No such file"):
        descriptor.write(tmp_path / "none" / "x", Descriptor())


def test_images_count_from_the_descriptor_or_from_here(tmp_path, monkeypatch):
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert descriptor.image_path("a.jpg", tmp_path / "flux") == tmp_path / "flux" / "a.jpg"
    assert descriptor.image_path("b.jpg", tmp_path / "flux") == Path("b.jpg")
    assert descriptor.image_path("/c.jpg", tmp_path / "flux") == Path("/c.jpg")
