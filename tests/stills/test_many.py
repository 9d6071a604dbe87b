"""A thousand clients: each gets every picture, whole and in its turn, whatever one does that never reads."""

import itertools
import statistics

import pytest

from tests.ports import free_port
from tests.stills.kit_core import Program, images, in_turn
from tests.stills.kit_many import Crowd, room_for

pytestmark = pytest.mark.media
COUNT, LAZY, IPS, SIZE, PICTURES = 1000, 20, 10, 20_000, 7
SECONDS = 2.0


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    assert room_for(COUNT + LAZY), "`ulimit -Hn` must allow 2,300 open files"
    folder, port = tmp_path_factory.mktemp("many"), free_port()
    one = {"images": images(folder, PICTURES, SIZE - 650), "ips": IPS, "method": "tcp_push", "port": port}
    limits = {"clients": 3 * COUNT, "per_address": 3 * COUNT}
    program = Program(folder, {"http_port": 0, "streams": {"one": one}, "limits": limits}).until("streams one")
    crowd = Crowd(port)
    crowd.program = program
    crowd.enter(COUNT)
    crowd.enter(LAZY, read=False)
    crowd.send(b"START\r\n\r\n")
    crowd.turn(SECONDS)
    yield crowd
    crowd.close()
    assert program.stop() == 0
    assert "Traceback" not in program.log.read_text()


@pytest.fixture(scope="module")
def eager(crowd):
    return [one for one in crowd.got.values() if one.numbers]


def test_each_gets_each_picture_in_its_turn(eager):
    assert len(eager) == COUNT
    for one in eager:
        assert one.numbers[0] == 0
        assert in_turn(one.numbers, PICTURES), one.numbers


def test_they_come_at_the_streams_pace(eager):
    counts = [len(one.numbers) for one in eager]
    assert min(counts) > 0.4 * SECONDS * IPS, "somebody is left behind"
    assert max(counts) <= SECONDS * IPS + 2
    gaps = [after - before for one in eager for before, after in itertools.pairwise(one.times)]
    assert abs(statistics.fmean(gaps) - 1 / IPS) < 0.06


def test_when_all_have_gone_it_rests(crowd, eager):
    for control in crowd.controls:
        control.close()
    for one in crowd.got.values():
        one.plug.close()
    crowd.program.until("is gone")
    newcomer = Crowd(crowd.port)
    newcomer.enter(1)
    newcomer.send(b"START\r\n\r\n")
    newcomer.turn(0.5)
    assert next(iter(newcomer.got.values())).numbers[:2] == [0, 1]
    newcomer.close()
