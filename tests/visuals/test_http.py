"""The HTTP door: long polls, server-sent events, pictures, health, metrics, limits."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time

import aiohttp
import pytest

from station import http_connection
from station.visuals import history, longpoll, message, streams, websocket
from station.visuals.exposition import TOPICS, Exposition
from station.visuals.hub import Hub
from tests.labkit import until
from tests.ports import free_port
from tests.visuals.kit_http import ONE, House

IMAGE, TEXT = f"{ONE}image", f"{ONE}text"
PUSH = "/radiodns/push/1.0/fm/ce1/c221/09580"
PYTHONS = ["/usr/bin/python3", sys.executable]
"""With the aiohttp of Debian, and with that of this checkout."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "one.png").write_bytes(b"\x89PNG")
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module", params=PYTHONS, ids=["debian", "venv"])
def house(request, tmp_path_factory, pictures):
    files = {"one.png": str(pictures / "one.png"), "gone.png": str(pictures / "gone.png")}
    made = House(
        tmp_path_factory.mktemp("house"), free_port(), request.param, pictures=files, heartbeat=0.3, poll=0.5,
        per_address=40, head_timeout=1.0,
    ).start()  # fmt: skip
    yield made
    assert made.stop() < 5
    assert "Traceback" not in made.log() and "Warning" not in made.log(), made.log()


def ask(house, path, **headers):
    """Return status, headers and text of an answer."""

    async def one():
        async with aiohttp.ClientSession() as client, client.get(house.url + path, headers=headers) as answer:
            return answer.status, answer.headers, await answer.text(errors="replace")

    return asyncio.run(one())


class Events:
    """A stream of server-sent events, read by a plain socket as a receiver does."""

    def __init__(self, house, path, **headers):
        self.socket = socket.create_connection(("127.0.0.1", house.port))
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        # by HTTP/1.0 rules there are no chunks, so an answer in chunks would be taken for data
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        self.text = ""
        self.until("retry: ")

    def until(self, what, seconds=20.0):
        self.socket.settimeout(seconds)
        end = time.monotonic() + seconds
        while what not in self.text and time.monotonic() < end:
            data = self.socket.recv(65536)
            assert data, f"closed before {what!r}: {self.text}"
            self.text += data.decode()
        assert what in self.text, self.text
        return self.text

    def events(self):
        """Return (event, data, id) of all that came."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
        return found

    def close(self):
        self.socket.close()


@pytest.fixture
def stream(house):
    with contextlib.ExitStack() as stack:

        def make(path=PUSH, **headers):
            return stack.enter_context(contextlib.closing(Events(house, path, **headers)))

        yield make
    assert until(lambda: house.told()["connections"] == 0, 15)


@pytest.mark.media
def test_a_poll_gets_the_last_value_at_once_and_then_waits(house):
    house.send((IMAGE, "SHOW http://example.org/1.png", {"link": "http://example.org/1", "trigger-time": "NOW"}))
    status, headers, text = ask(house, f"/radiodns/vis/vis.json?topic={IMAGE}")
    told = json.loads(text)
    assert (status, told["body"]) == (200, "SHOW http://example.org/1.png")
    assert told["headers"]["RadioVIS-Destination"] == IMAGE
    assert told["headers"]["RadioVIS-Link"] == "http://example.org/1"
    assert told["headers"]["RadioVIS-Trigger-Time"] == "NOW"
    assert headers["Access-Control-Allow-Origin"] == "*"
    known = told["headers"]["RadioVIS-Message-ID"]
    began = time.monotonic()
    assert ask(house, f"/radiodns/vis/vis.json?topic={IMAGE}&last_id={known}")[0] == 408
    assert 0.4 < time.monotonic() - began < 5


@pytest.mark.media
def test_a_poll_that_waits_is_answered_by_the_next_message(house):
    house.send((IMAGE, "SHOW a", {"message-id": "first"}))

    async def both():
        async with aiohttp.ClientSession(house.url) as client:
            waiting = asyncio.create_task(client.get(f"/radiodns/vis/vis?topic={IMAGE}&last_id=first"))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            house.send((IMAGE, "SHOW b", {"message-id": "second"}))
            answer = await waiting
            return answer.headers["RadioVIS-Message-ID"], await answer.text(), answer.content_type

    assert asyncio.run(both()) == ("second", "SHOW b", "text/plain")


@pytest.mark.media
def test_what_came_between_two_polls_is_not_lost(house):
    house.send((TEXT, "TEXT 1", {"message-id": "t1"}))
    ask(house, f"/comet?topic={TEXT}")
    house.send((TEXT, "TEXT 2", {"message-id": "t2"}), (TEXT, "TEXT 3", {"message-id": "t3"}))
    assert ask(house, f"/comet?topic={TEXT}&last_id=t1")[2] == "TEXT 2"
    assert ask(house, f"/comet?topic={TEXT}&last_id=t2")[2] == "TEXT 3"
    assert ask(house, f"/comet?topic={TEXT}&last_id=t3")[0] == 408
    assert ask(house, f"/comet?topic={TEXT}&last_id=unknown")[2] == "TEXT 3"


@pytest.mark.media
def test_fm_topics_are_resolved_as_for_stomp(house):
    house.send(("/topic/fm/ce1/c999/10000/text", "TEXT other frequency"))
    for topic in ("/topic/fm/ch/c999/08800/text", "/topic/fm/ce1/c999/*/text"):
        told = json.loads(ask(house, f"/radiodns/vis/vis.json?topic={topic}")[2])
        assert (told["body"], told["headers"]["RadioVIS-Destination"]) == ("TEXT other frequency", topic)
    assert ask(house, "/radiodns/vis/vis.json?topic=/topic/fm/ce1/zzzz/1/text")[0] == 400
    assert ask(house, "/radiodns/vis/vis.json")[0] == 400
    assert ask(house, "/comet?" + "&".join(f"topic=/topic/id/x/{one}" for one in range(17)))[0] == 400


@pytest.mark.media
def test_a_callback_is_a_name_and_nothing_else(house):
    house.send((TEXT, "TEXT </script>\u2028", {"message-id": "x"}))
    status, headers, text = ask(house, f"/radiodns/vis/vis.json?topic={TEXT}&callback=radio.show")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/javascript")
    assert text.startswith("/**/radio.show({") and text.endswith("});") and "\u2028" not in text
    assert headers["X-Content-Type-Options"] == "nosniff"
    for bad in ("alert(1)//", "a b", "", "a" * 101, "ä", "a%0A"):
        assert ask(house, f"/radiodns/vis/vis.json?topic={TEXT}&callback={bad}")[0] == 400


@pytest.mark.media
def test_events_begin_with_the_last_values_and_go_on(house, stream):
    house.send((IMAGE, "SHOW http://example.org/1.png", {"link": "http://l", "message-id": "ei1"}))
    house.send((TEXT, "TEXT grüße\nzwei", {"message-id": "et1"}))
    one = stream()
    one.until('"et1"')
    (kind, image, _), (_, text, known) = one.events()
    assert (kind, image["src"], image["link"], image["message_id"]) == (
        "image", "http://example.org/1.png", "http://l", "ei1",
    )  # fmt: skip
    assert text["body"] == "grüße\nzwei"
    one.until("\n: \n")
    house.send((IMAGE, "SHOW http://example.org/2.png", {"message-id": "ei2", "trigger-time": "2030-01-01T00:00:00Z"}))
    one.until('"ei2"')
    assert one.events()[-1][1]["trigger_time"] == "2030-01-01T00:00:00Z"
    assert "text/event-stream" in one.text and "Access-Control-Allow-Origin: *" in one.text
    again = stream(**{"Last-Event-ID": known})
    again.until('"ei2"')
    assert [data["message_id"] for _, data, _ in again.events()] == ["ei2"], "what was known came again"
    last = again.events()[-1][2]
    house.send((TEXT, "TEXT 2", {"message-id": "et2"}), (TEXT, "TEXT 3", {"message-id": "et3"}))
    third = stream(f"{PUSH}?last_id={last}")
    third.until('"et3"')
    assert [data["message_id"] for _, data, _ in third.events()] == ["et2", "et3"], "something was lost"


@pytest.mark.media
def test_a_message_that_shows_nothing_is_no_event(house, stream):
    house.send((IMAGE, "HIDE", {"message-id": "none"}), (TEXT, "without a word", {"message-id": "bare"}))
    one = stream()
    one.until('"bare"')
    assert [(kind, data.get("body")) for kind, data, _ in one.events()] == [("text", "without a word")]


@pytest.mark.media
def test_a_script_sees_the_heartbeat_if_it_wants(stream):
    one = stream(f"{PUSH}?beat=1&types=text")
    one.until("event: beat")
    _, told, _ = next(event for event in one.events() if event[0] == "beat")
    assert abs(told["now"] / 1000 - time.time()) < 5 and len(told["version"]) == 12


@pytest.mark.media
@pytest.mark.parametrize("query", ["?types=other", "?types=", "?types=text,text"])
def test_unknown_types_are_refused(house, query):
    assert ask(house, PUSH + query)[0] == 400


@pytest.mark.media
def test_only_pictures_that_are_named_are_served(house, pictures):
    status, headers, _ = ask(house, "/pictures/one.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    for path in ("gone.png", "secret.txt", "..%2Fsecret.txt", "%2Fetc%2Fpasswd", f"{pictures}/secret.txt"):
        assert ask(house, f"/pictures/{path}")[0] == 404


@pytest.mark.media
def test_health_and_metrics_tell_how_it_is(house, stream):
    assert json.loads(ask(house, "/healthz")[2]) == {"bus": {"connected": True, "caught_up": True}}
    house.send((TEXT, "TEXT counted"))
    one = stream()
    one.until("counted")
    status, headers, text = ask(house, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'stationmaster_visuals_clients{role="visuals"} 1\n' in text
    assert f'stationmaster_visuals_messages_total{{role="visuals",topic="{TEXT}"}}' in text
    assert "secret" not in text
    assert "stationmaster_visuals_clients" in (house.folder / "metrics.prom").read_text()


@pytest.mark.media
def test_errors_are_text_that_every_page_may_read_and_polls_may_be_asked_for_by_scripts(house):
    async def options(path):
        async with aiohttp.ClientSession(house.url) as client, client.options(path) as answer:
            return answer.status, answer.headers

    for path in ("/nothing", "/pictures/gone.png", "/screen-files/index.html", "/screen-files/none.js"):
        status, headers, text = ask(house, path)
        assert (status, headers["Content-Type"].split(";")[0]) == (404, "text/plain") and "{" not in text
        assert headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/comet", "/radiodns/vis/vis.json"):
        status, headers = asyncio.run(options(path))
        assert (status, headers["Access-Control-Allow-Methods"]) == (204, "GET")
        assert "Last-Event-ID" in headers["Access-Control-Allow-Headers"]
        assert headers["Access-Control-Allow-Origin"] == "*"
    assert asyncio.run(options("/healthz"))[0] == 405


@pytest.mark.media
def test_requests_that_are_too_large_are_refused(house):
    assert ask(house, "/healthz?" + "a" * 9000)[0] == 400
    assert ask(house, "/healthz", other="a" * 9000)[0] == 400


@pytest.mark.media
def test_a_client_that_sends_requests_without_end_costs_nothing(house):
    before = house.memory()
    house.send((TEXT, "TEXT x", {"message-id": "flood"}))
    with socket.create_connection(("127.0.0.1", house.port)) as flood, contextlib.suppress(OSError):
        # it is dropped, or (by newer versions of aiohttp) no longer read from
        flood.settimeout(1)
        line = f"GET /comet?topic={TEXT}&last_id=flood HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for _ in range(300):
            flood.sendall(line * 50)
            time.sleep(0.001)
    assert house.memory() - before < 10_000_000
    assert json.loads(ask(house, "/healthz")[2])


@pytest.mark.media
def test_a_client_that_never_asks_is_dropped(house):
    with socket.create_connection(("127.0.0.1", house.port)) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        slow.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(100) == b""


@pytest.mark.media
def test_one_address_has_its_share_of_connections(house):
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", house.port)))
        with socket.create_connection(("127.0.0.1", house.port)) as one:
            one.settimeout(5)
            assert one.recv(100).startswith(b"HTTP/1.1 503 ")
    assert until(lambda: ask(house, "/healthz")[0] == 200, 15)


@pytest.mark.media
def test_a_slow_stream_is_dropped_and_delays_nobody(house, stream):
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", house.port))
    slow.sendall(f"GET {PUSH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert until(lambda: house.told()["connections"] == 1, 15)
    fast = stream()
    body = "TEXT " + "x" * 20000
    for number in range(0, 600, 20):
        house.send(*((TEXT, body, {"message-id": f"slow-{one}"}) for one in range(number, number + 20)))
        fast.until(f'"slow-{number + 19}"')
        fast.text = ""
    assert until(lambda: house.told()["connections"] == 1, 15), "the slow one is still there"
    assert 'dropped_total{reason="queue full"' in ask(house, "/metrics")[2]
    slow.close()


@pytest.mark.media
@pytest.mark.parametrize("python", PYTHONS, ids=["debian", "venv"])
def test_tls_has_the_same_and_the_end_is_in_order(tmp_path, python):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out",
         tmp_path / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = {
        "certificate": str(tmp_path / "cert"),
        "private_key": (tmp_path / "key").read_text(),
        "https_port": free_port(),
    }
    house = House(tmp_path, free_port(), python, tls=tls, heartbeat=0.3).start()
    house.send((TEXT, "TEXT by TLS"))
    context = ssl.create_default_context(cafile=tmp_path / "cert")
    plug = socket.create_connection(("127.0.0.1", tls["https_port"]))
    with context.wrap_socket(plug, server_hostname="127.0.0.1") as secure:
        secure.settimeout(5)
        secure.sendall(f"GET {PUSH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        text = b""
        while b"by TLS" not in text:
            text += secure.recv(9999)
        plain = Events(house, PUSH)
        plain.until("by TLS")
        assert house.stop() < 5
        while data := secure.recv(9999):
            text += data
        assert text.endswith(b"0\r\n\r\n"), "a stream was cut off"
        plain.close()
    assert "Traceback" not in house.log(), house.log()


# without a server


def line(*ids, place=0):
    made = history.Line(type("Order", (), {"next_place": lambda self: 0})(), "/topic/id/x/text")
    for number, one in enumerate(ids):
        made.kept.append((place + number, message.new("/topic/id/x/text", one.encode(), {"message-id": one})))
    return made


def test_a_poll_of_two_topics_gets_both_one_after_the_other():
    image, text = line("i1", "i2", place=1), line("t1", place=10)
    found, known = [], ""
    while (next_one := history.following([image, text], known)) is not None:
        known = next_one[0].id
        found.append(known)
    assert found == ["i2", "t1"]
    assert history.following([image, text], "i1")[0].id == "i2"


def test_the_same_id_in_two_topics_is_no_endless_loop():
    assert history.following([line("same", place=1), line("same", place=2)], "same") is None


def test_the_history_of_a_topic_is_bounded():
    async def fill():
        hub = Hub()
        past = history.History(hub)
        (one,) = past.lines(["/topic/id/x/image"])
        for number in range(50):
            one.take(message.new("/topic/id/x/image", b"x" * 10000, {"message-id": str(number)}))
        assert sum(len(kept.body) for _, kept in one.kept) <= history.BYTES
        assert one.last.id == "49"
        for number in range(history.TOPICS + 100):
            past.lines([f"/topic/id/{number}/text"])
        assert hub.subscriptions <= history.TOPICS + 1

    asyncio.run(fill())


def test_the_busiest_topics_have_figures_of_their_own_and_no_counter_goes_back():
    from collections import Counter

    counters = Counter({f"/topic/{number}": 1000 - number for number in range(TOPICS + 50)})
    service = type("Service", (), {"counters": type("Counters", (), {"messages": counters})()})()
    exposition = Exposition(service, None)
    before = exposition._topics()
    assert len(before) == TOPICS + 1 and before["other"] == sum(1000 - number for number in range(TOPICS, TOPICS + 50))
    counters[f"/topic/{TOPICS + 7}"] += 5000
    after = exposition._topics()
    assert set(after) == set(before) and all(after[topic] >= before[topic] for topic in before)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_tells_its_length(size):
    data = http_connection.frame(b"x" * size)
    head = {0: 2, 125: 2, 126: 4, 65535: 4, 65536: 10}[size]
    assert (data[0], len(data)) == (0x81, size + head)
    assert http_connection.frame(b"\xff")[0] == 0x82


def test_headers_cannot_be_broken_out_of():
    told = message.new("/topic/id/x/text", b"", {"link": "http://x\r\nSet-Cookie: a=b", "message-id": "a\nb"})
    assert all("\n" not in value and "\r" not in value for value in longpoll.headers(told, "/a\nb").values())
    assert b"\nSet" not in websocket.raw(told, "/topic/id/x/text")
    lines = streams.event("text", told).decode().splitlines()
    assert [one.partition(":")[0] for one in lines] == ["event", "data", ""]
