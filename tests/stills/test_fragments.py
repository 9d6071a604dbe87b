"""The datagrams of a picture, to the byte."""

import pytest

from station.stills import fragments

THOUSAND = bytes(range(250)) * 4


def parts(number, data, size):
    return [one.split(b"\r\n", 4) for one in fragments.split(number, data, size)]


def test_the_example_of_the_reference():
    assert fragments.payload(0, 1000, 512) == 486
    found = fragments.split(0, THOUSAND, 512)
    assert found == [
        b"0\r\n1000\r\n0\r\n486\r\n" + THOUSAND[:486],
        b"0\r\n1000\r\n486\r\n486\r\n" + THOUSAND[486:972],
        b"0\r\n1000\r\n972\r\n28\r\n" + THOUSAND[972:],
    ]
    assert max(map(len, found)) <= 508


def test_multicast_has_one_byte_less():
    assert fragments.payload(0, 1000, fragments.MULTICAST) == 485


@pytest.mark.parametrize("size", [64, 65, 100, 511, 512, 513, 1024, 65535])
@pytest.mark.parametrize("total", [1, 485, 486, 487, 20000])
@pytest.mark.parametrize("number", [0, 9, 10, 12345])
def test_pieces_make_the_picture_and_no_datagram_exceeds_its_size(number, total, size):
    data = bytes(at % 251 for at in range(total))
    found = parts(number, data, size)
    assert b"".join(part[4] for part in found) == data
    place = 0
    for part in found:
        assert part[:4] == [b"%d" % value for value in (number, total, place, len(part[4]))]
        place += len(part[4])
    assert all(len(one) <= min(512, size) for one in fragments.split(number, data, size))


def test_an_empty_one_comes_last_where_the_size_divides():
    assert fragments.split(3, bytes(3 * 487), 512)[-1] == b"3\r\n1461\r\n1458\r\n3\r\n\0\0\0"
    data = bytes(2 * 486)
    assert fragments.payload(0, len(data), 512) == 487  # three digits of the size, so one byte more
    data = bytes(974)
    assert [part[2:4] for part in parts(0, data, 512)] == [[b"0", b"487"], [b"487", b"487"], [b"974", b"0"]]


@pytest.mark.parametrize(("asked", "used"), [(-5, 64), (0, 64), (1, 64), (63, 64), (64, 64), (10**9, 65535)])
def test_sizes_that_nobody_can_mean_are_clamped(asked, used):
    assert fragments.clamp(asked) == used
    assert fragments.split(1, THOUSAND, asked) == fragments.split(1, THOUSAND, used)


@pytest.mark.parametrize("size", [0, 64, 100, 511, 512, 1024, 65535])
@pytest.mark.parametrize("total", [0, 1, 486, 972, 1000, 20000, 123456])
def test_the_weight_is_that_of_the_datagrams_or_little_more(size, total):
    exact = sum(map(len, fragments.split(7, bytes(total), size)))
    assert exact <= fragments.weight(7, total, size) <= exact * 1.2 + 40
