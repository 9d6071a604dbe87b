"""Ten thousand subscribers: each gets each message once and in order, newcomers are served, who does not read goes."""

import itertools
import time

import pytest

from tests.visuals import kit_core as kit
from tests.visuals.kit_many import Crowd, frame, room_for

pytestmark = pytest.mark.media
COUNT = 10000
TOPIC = f"{kit.ONE}image"
FLOOD = f"{kit.DAB}image"
OLD = frame("CONNECT")
NEW = frame("CONNECT", accept_version="1.2", host="localhost", heart_beat="0,0")
PER_CLIENT = 16 << 10
"""Bytes of the server's memory; a third of that is usual."""
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    assert room_for(COUNT), "`ulimit -Hn` must allow 10,200 open files"
    server = kit.Server(tmp_path_factory.mktemp("many"), heart_beat=10.0).start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def crowd(server):
    """Half of them speak the old dialect, half STOMP 1.2."""
    crowd = Crowd(server.port)
    before = server.memory()
    crowd.old = crowd.enter(COUNT // 2, OLD, frame("SUBSCRIBE", destination=TOPIC, id="1", receipt="s"))
    crowd.new = crowd.enter(COUNT // 2, NEW, frame("SUBSCRIBE", destination=TOPIC, id="1", receipt="s"))
    crowd.cost = (server.memory() - before) / COUNT
    login = frame("CONNECT", accept_version="1.2", host="localhost", heart_beat="0,0", **kit.LOGIN)
    crowd.sender = crowd.add(crowd.dial(login))
    crowd.until(lambda: b"\0" in crowd.got[crowd.sender])
    yield crowd
    crowd.close()


@pytest.fixture(autouse=True)
def fresh(crowd):
    crowd.forget()


def publish(crowd, count, topic=TOPIC, fill=0):
    """Send so many messages at once; return their bodies."""
    bodies = [b"SHOW http://www.example.org/%d" % next(numbers) + b"x" * fill for _ in range(count)]
    sender = crowd.sockets[crowd.sender]
    sender.setblocking(True)
    sender.sendall(b"".join(frame("SEND", body, destination=topic, receipt="r") for body in bodies))
    sender.setblocking(False)
    return bodies


def complete(crowd, who, bodies):
    """Return whether the last of the messages has come to everybody."""
    return all(bodies[-1] in crowd.got[one][-len(bodies[-1]) - 8 :] for one in who)


def test_each_gets_each_message_once_and_in_order(crowd):
    bodies = publish(crowd, 8)
    crowd.until(lambda: complete(crowd, crowd.old + crowd.new, bodies))
    assert crowd.got[crowd.sender].count(b"RECEIPT\n") == len(bodies)
    for one in crowd.old + crowd.new:
        assert crowd.bodies(one) == bodies
    assert not crowd.closed


def test_a_client_costs_little(server, crowd):
    assert crowd.cost < PER_CLIENT
    bodies = publish(crowd, 4)
    crowd.until(lambda: complete(crowd, crowd.old + crowd.new, bodies))
    before = server.memory()
    for _ in range(4):
        bodies = publish(crowd, 4)
        crowd.until(lambda: complete(crowd, crowd.old + crowd.new, bodies))  # noqa: B023
    assert server.memory() - before < COUNT * 1024, "what has been sent is kept"


def test_a_newcomer_is_served_while_all_are_sent_to(crowd):
    busy = False
    # where this process waited for its turn meanwhile, all was there when it looked: then once more
    for _ in range(4):
        bodies = publish(crowd, 10)
        began = time.monotonic()
        newcomer = crowd.add(crowd.dial(NEW))
        crowd.until(lambda: b"\0" in crowd.got[newcomer])  # noqa: B023
        waited, busy = time.monotonic() - began, not complete(crowd, crowd.old + crowd.new, bodies)
        assert crowd.got[newcomer].startswith(b"CONNECTED\n")
        assert waited < 5
        crowd.until(lambda: complete(crowd, crowd.old + crowd.new, bodies))  # noqa: B023
        assert all(crowd.bodies(one) == bodies for one in crowd.new[::100])
        if busy:
            break
        crowd.forget()
    assert busy, "it was served only after all others, each time"


def test_who_does_not_read_is_dropped_and_delays_nobody(server, crowd):
    subscribe = frame("SUBSCRIBE", destination=FLOOD, id="1", receipt="s")
    reader = crowd.enter(1, NEW, subscribe)[0]
    stuck = crowd.idle = crowd.dial(NEW, small=True)
    assert stuck.recv(4096).startswith(b"CONNECTED\n")
    stuck.sendall(subscribe)
    assert b"RECEIPT\n" in stuck.recv(4096)
    publish(crowd, 1)
    crowd.until(lambda: all(crowd.got[one] for one in crowd.old + crowd.new))
    crowd.forget()
    before, flood, slides, waits = server.memory(), [], [], []
    for _ in range(6):  # 4 MB, of which one may wait for it, and a little in the kernel
        flood += publish(crowd, 20, FLOOD, 32 << 10)
        slides += publish(crowd, 1)
        waits.append(crowd.until(lambda: complete(crowd, crowd.old + crowd.new, slides)))  # noqa: B023
    crowd.until(lambda: complete(crowd, [reader], flood))
    assert crowd.bodies(reader) == flood
    assert all(crowd.bodies(one) == slides for one in crowd.old + crowd.new)
    assert max(waits) < 5
    assert server.memory() - before < 16 << 20
    assert not crowd.closed

    stuck.settimeout(10)
    got = bytearray()
    try:
        while data := stuck.recv(1 << 16):
            got += data
    except ConnectionResetError:
        pass
    assert got.count(b"MESSAGE\n") < len(flood), "it was not dropped"
    with server.connected() as client:
        client.alive()
