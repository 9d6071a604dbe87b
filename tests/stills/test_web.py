"""The HTTP server of stills, by clients that read to the letter."""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from station import http_server
from station.http_server import HttpServer
from station.stills import ports, web_events
from stationmaster.code import closure
from tests.labkit import until
from tests.stills.kit_core import in_turn
from tests.stills.kit_web import PYTHONS, House, kind, noise

pytestmark = pytest.mark.media
SMALL = {"width": 160, "height": 90, "pictures": 10}
BIG = 31
"""Pictures of the stream that is too much for a slow reader; its numbers must not come round while he sleeps."""
KINDS = {"gif": "GIF", "JPG": "JPEG", "jpeg": "JPEG", "Bmp": "BMP", "png": "PNG"}


one = pytest.mark.parametrize("house", [PYTHONS["debian"]], ids=["debian"], indirect=True)
"""For what does not differ between the two versions of aiohttp."""


@pytest.fixture(scope="module", params=PYTHONS.values(), ids=PYTHONS)
def house(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(folder / f"{number}.png")
    big = [noise(folder / f"big{number}.jpg", 320, 240) for number in range(BIG)]
    streams = {
        "slides": {"id": 7, "images": [f"{number}.png" for number in range(3)], "ips": 0.02, "name": "Folien"},
        "card": {"id": 8, "testcard": SMALL, "ips": 20, "room": "hall_a"},
        "drawn": {"id": 9, "testcard": SMALL, "ips": 20, "type": "GIF"},
        "big": {"id": 10, "images": big, "ips": 12},
        "away": {"id": 11, "from": "cam/main", "ips": 0.5},
        "sent": {"id": 12, "testcard": SMALL, "rtp": {"group": "239.255.7.7", "port": 25004, "ttl": 0}},
    }
    source = {"cam/main": {"role": "ingest", "path": str(folder / "nowhere"), "url": "http://127.0.0.1:9/"}}
    limits = {"clients": 12, "per_address": 8}
    made = House(folder, streams, python=request.param, sources=source, limits=limits).start()
    yield made
    assert made.stop() < 5


def test_it_tells_what_streams_there_are(house):
    told = house.json()
    assert [told[key] for key in ("event", "station", "instance", "address")] == ["test", "cam", "main", "192.0.2.7"]
    found = {one["key"]: one for one in told["streams"]}
    assert set(found) == {"slides", "card", "drawn", "big", "away", "sent"}
    expected = {"id": 7, "name": "Folien", "type": "PNG", "address": "192.0.2.7", "port": 0, "protocol": None}
    expected |= {"ips": 0.02, "count": 3, "room": None, "from": None, "state": "ready", "state_text": ""}
    expected |= {"viewers": 0, "width": 64, "height": 48}
    assert {key: found["slides"][key] for key in expected} == expected
    assert found["slides"]["urls"] == {
        "latest": "/streams/slides/latest",
        "next": "/streams/slides/next",
        "mjpeg": "/streams/slides/mjpeg",
        "websocket": "/streams/slides/ws",
    }
    assert found["card"]["room"] == "hall_a"
    assert (found["away"]["from"], found["away"]["count"], found["away"]["width"]) == ("cam/main", None, None)
    assert found["sent"]["urls"]["sdp"] == "/streams/sent/rtp.sdp"


def test_a_picture_has_a_tag_and_is_sent_once(house):
    answer = house.get("/streams/7/latest")
    assert (answer.status, answer.headers["Content-Type"], kind(answer.body)) == (200, "image/png", "PNG")
    assert answer.headers["X-Picture-Number"] in ("0", "1", "2")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Picture-Number" in answer.headers["Access-Control-Expose-Headers"]
    tag = answer.headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        same = house.get("/streams/slides/latest", If_None_Match=known)
        assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    assert house.get("/streams/slides/latest", If_None_Match='"other"').status == 200
    head = house.get("/streams/slides/latest", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))


@one
@pytest.mark.parametrize("word", KINDS)
def test_a_picture_comes_in_the_kind_that_is_asked_for(house, word):
    answer = house.get(f"/streams/slides/1?type={word}")
    assert (answer.headers["Content-Type"], kind(answer.body)) == (f"image/{KINDS[word].lower()}", KINDS[word])
    assert answer.headers["X-Picture-Number"] == "1"


@one
def test_what_is_not_there_is_told_as_json(house):
    wrong = {
        "/streams/nobody/latest": (404, "GET /streams"),
        "/streams/99/latest": (404, "GET /streams"),
        f"/streams/{'9' * 5000}/latest": (404, "GET /streams"),
        "/streams/slides/3": (404, "0 to 2"),
        f"/streams/slides/{'9' * 5000}": (404, "0 to 2"),
        "/streams/slides/-1": (404, ""),
        "/streams/slides/latest?type=tiff": (400, "allowed are GIF, JPG"),
        "/streams/slides/next?after=x": (400, "?after=7"),
        "/streams/slides/next?after=-1": (400, "?after=7"),
        "/streams/slides/rtp.sdp": (404, "`rtp`"),
        "/streams/slides": (404, ""),
        "/page/index.html": (404, ""),
        "/page/..%2Fweb.py": (404, ""),
        "/nothing": (404, ""),
    }
    for path, (status, text) in wrong.items():
        answer = house.get(path)
        assert (answer.status, text in json.loads(answer.body)["error"]) == (status, True), (path, answer.body)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    answer = house.get("/streams", "POST")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    answer = house.get("/streams/7/latest", "OPTIONS")
    assert (answer.status, "If-None-Match" in answer.headers["Access-Control-Allow-Headers"]) == (204, True)


@pytest.mark.pace
@one
def test_next_waits_for_the_clock(house):
    numbers, began = [], time.monotonic()
    path = "/streams/card/next"
    for _ in range(6):
        numbers.append(int(house.get(path).headers["X-Picture-Number"]))
        path = f"/streams/card/next?after={numbers[-1]}"
    assert in_turn(numbers, 10), numbers
    assert 0.2 < time.monotonic() - began < 3
    # who knows another picture than that of now gets that one at once; who knows it waits, however long that is
    shown = int(house.get("/streams/slides/latest").headers["X-Picture-Number"])
    assert int(house.get(f"/streams/slides/next?after={shown + 1}").headers["X-Picture-Number"]) == shown
    with house.open(f"/streams/slides/next?after={shown}") as one:
        assert until(lambda: house.metric("clients", stream="slides", way="http") == 1, 10, 0.02)
        one.plug.settimeout(0.2)
        with pytest.raises(TimeoutError):
            one.head()
    assert until(lambda: house.metric("clients", stream="slides", way="http") == 0, 10, 0.02)
    assert until(lambda: house.stream("slides")["viewers"] == 0, 10, 0.02)


@one
def test_a_source_that_is_away_is_waited_for(house):
    answer = house.get("/streams/away/latest")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert "waiting: cam/main: No such file" in json.loads(answer.body)["error"]
    told = house.stream("away")
    assert (told["state"], told["state_text"]) == ("waiting", "waiting: cam/main: No such file or directory")
    answer = house.get("/streams/away/0")
    assert (answer.status, "live" in json.loads(answer.body)["error"]) == (404, True)
    assert json.loads(house.get("/healthz").body)["streams"]["away"] == "waiting"
    assert house.metric("ready", stream="away") == 0


@pytest.mark.pace
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_mjpeg_is_a_row_of_pictures(house, version):
    with house.open("/streams/card/mjpeg", version=version) as one:
        parts = [one.part()]
        began = time.monotonic()
        parts += [one.part() for _ in range(21)]
        assert 0.9 < time.monotonic() - began < 3
        status, headers = one.head()
        assert (status, headers["connection"], headers["cache-control"]) == (200, "close", "no-store")
        assert "transfer-encoding" not in headers
        assert headers["access-control-allow-origin"] == "*"
    numbers = [number for number, _, _ in parts]
    assert in_turn(numbers[1:], 10), numbers  # the first may come twice: at once, and by the clock
    assert {picture for _, picture, _ in parts} == {"JPEG"}
    _, _, data = parts[-1]
    assert data == house.get(f"/streams/card/{numbers[-1]}").body


@one
def test_mjpeg_of_other_kinds_is_jpeg(house):
    with house.open("/streams/drawn/mjpeg") as one, house.open("/streams/drawn/mjpeg") as other:
        for reader in (one, other):
            assert [reader.part()[1] for _ in range(12)] == ["JPEG"] * 12
    assert kind(house.get("/streams/drawn/0").body) == "GIF"


def test_a_websocket_brings_each_picture_as_a_message(house):
    async def look():
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{house.port}") as client,
            client.ws_connect("/streams/9/ws", headers={"Origin": "https://elsewhere.example"}) as socket,
        ):
            await socket.send_str("what we say harms nothing")
            await socket.ping()
            got = []
            # on a busy machine one may be skipped, and comes in the next round
            while len(set(got)) < 10 and len(got) < 40:
                got.append(await asyncio.wait_for(socket.receive_bytes(), 5))
            await socket.send_str("x" * 5000)
            while (last := await asyncio.wait_for(socket.receive(), 5)).type == aiohttp.WSMsgType.BINARY:
                pass
            return got, last

    got, last = asyncio.run(look())
    assert {kind(data) for data in got} == {"GIF"}
    assert len(set(got)) == 10, len(got)
    assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    assert house.get("/streams/9/ws").status == 400
    assert until(lambda: house.metric("clients", way="websocket") == 0, 10, 0.02)


def memory(house):
    return int(Path(f"/proc/{house.process.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("way", ["mjpeg", "ws"])
def test_a_slow_reader_skips_and_delays_nobody(house, way):
    key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    name = "mjpeg" if way == "mjpeg" else "websocket"
    with contextlib.ExitStack() as stack:
        path, more = f"/streams/big/{way}", key if way == "ws" else ""
        slow = [stack.enter_context(house.open(path, buffer=4096, more=more)) for _ in range(3)]
        fast = stack.enter_context(house.open("/streams/big/mjpeg"))
        fast.part()
        before, times, numbers = memory(house), [time.monotonic()], []
        for _ in range(18):
            numbers.append(fast.part()[0])
            times.append(time.monotonic())
        assert in_turn(numbers[1:], BIG), numbers
        assert max(after - before for before, after in itertools.pairwise(times)) < 2
        assert house.metric("skipped_total", stream="big", way=name) > 12
        assert memory(house) - before < 8 << 20
        # what a slow one reads in the end is whole pictures: none was torn in the middle
        if way == "mjpeg":
            got = [slow[0].part()[0] for _ in range(16)]
            assert max((after - before) % BIG for before, after in itertools.pairwise(got)) > 5
        else:
            slow[0].until(b"\r\n\r\n")
            for _ in range(8):
                first, short, size = struct.unpack("!BBQ", slow[0].exactly(10))
                assert (first, short) == (0x82, 127)
                assert kind(slow[0].exactly(size)) == "JPEG"


@one
def test_clients_have_a_limit_of_their_own_and_in_total(house):
    with contextlib.ExitStack() as stack:

        def enter(path, source="127.0.0.1"):
            one = stack.enter_context(house.open(path, source=source))
            status, headers = one.head()
            return one, status, headers

        paths = ["/streams/slides/mjpeg"] * 6 + ["/events", "/events"]
        assert {enter(path)[1] for path in paths} == {200}
        for path in ("/streams/slides/mjpeg", "/events", "/streams/slides/next"):
            one, status, headers = enter(path)
            assert (status, headers["retry-after"]) == (429, "2")
            assert "8 clients of this address" in json.loads(one.exactly(int(headers["content-length"])))["error"]
        assert house.get("/streams/slides/latest").status == 200
        assert {enter("/streams/slides/mjpeg", "127.0.0.2")[1] for _ in range(4)} == {200}
        assert enter("/streams/slides/mjpeg", "127.0.0.3")[1] == 503
        assert house.metric("refused_total", why="per_address") >= 3
    assert until(lambda: house.metric("places_taken") == 0, 10, 0.02)
    with house.open("/streams/slides/mjpeg") as one:
        assert one.head()[0] == 200


@pytest.mark.parametrize("way", ["mjpeg", "next", "events"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_vanishes_is_freed(house, way, reset):
    assert until(lambda: house.metric("places_taken") == 0, 10, 0.02)
    one = house.open("/events" if way == "events" else f"/streams/slides/{way}")
    assert until(lambda: house.metric("places_taken") == 1, 10, 0.02)
    if reset:
        one.plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.plug.close()
    assert until(lambda: house.metric("places_taken") == 0, 10, 0.02)
    assert house.stream("slides")["viewers"] == 0


@one
def test_ipv6_is_served_too(house):
    assert house.get("/streams", host="::1").status == 200
    with house.open("/streams/card/mjpeg", host="::1") as one:
        assert one.part()[1] == "JPEG"


@pytest.mark.pace
@one
def test_events_come_at_once_at_changes_and_between(house):
    assert until(lambda: house.metric("places_taken") == 0, 10, 0.02)
    with house.open("/events") as one:
        status, headers = one.head()
        assert (status, headers["content-type"].partition(";")[0]) == (200, "application/x-ndjson")
        told = json.loads(one.until(b"\n"))
        assert told.keys() == house.json().keys()
        while one.until(b"\n"):  # what the tests before this one changed
            pass
        began, lines = time.monotonic(), [one.until(b"\n") for _ in range(3)]
        assert lines == [b""] * 3
        assert 1.2 < time.monotonic() - began < 4
        with house.open("/streams/card/mjpeg") as viewer:
            viewer.part()
            began, line = time.monotonic(), b""
            while not line:
                line = one.until(b"\n")
            assert time.monotonic() - began < 2 * web_events.HEARTBEAT
        card = next(one for one in json.loads(line)["streams"] if one["key"] == "card")
        assert card["viewers"] == 1


@one
def test_figures_and_files(house):
    text = house.get("/metrics").body.decode()
    assert "# TYPE stationmaster_stills_pictures_sent_total counter" in text
    assert until((house.folder / "stills-data/run/metrics.prom").exists, 6)
    before = house.metric("pictures_sent_total", stream="slides", way="http")
    size = len(house.get("/streams/slides/0").body)
    assert house.metric("pictures_sent_total", stream="slides", way="http") == before + 1
    assert house.metric("bytes_sent_total", stream="slides", way="http") >= size
    page = house.get("/")
    assert (page.status, b"page/page.js" in page.body) == (200, True)
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert house.get("/page/page.js").headers["Content-Type"].startswith("text/javascript")
    sdp = house.get("/streams/sent/rtp.sdp")
    assert (sdp.headers["Content-Type"].partition(";")[0], b"m=video 25004" in sdp.body) == ("application/sdp", True)


def test_heads_are_bounded(house):
    for more in ("X: " + "x" * 9000 + "\r\n", "X: y\r\n" * 20_000):
        with house.open("/streams", more=more) as one, contextlib.suppress(EOFError, ConnectionError):
            assert one.head()[0] == 400
    with house.open("/streams/slides/mjpeg") as one:
        one.head()
        before = memory(house)
        one.plug.sendall(b"GET / HTTP/1.1\r\nX: y\r\n\r\n" * 300_000)
        assert memory(house) - before < 4 << 20
        assert house.get("/healthz").status == 200


def test_a_client_that_asks_for_nothing_is_dropped():
    async def look():
        server = HttpServer(total=5, per_address=5, head_timeout=0.2)
        plugs = ports.bind("127.0.0.1", 0, socket.SOCK_STREAM, "HTTP")
        await server.start(plugs)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HT")
            began = time.monotonic()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            assert 0.1 < time.monotonic() - began < 4
            # a client that is cut off without a word: the kernel finds out, as it does for each connection from here
            assert plugs[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == http_server.GONE * 1000
        finally:
            await server.close()

    asyncio.run(look())


def test_all_is_over_within_two_seconds(tmp_path):
    house = House(tmp_path, {"slides": {"testcard": SMALL, "ips": 0.02}}).start()
    with contextlib.ExitStack() as stack:
        for path in ("/events", "/streams/slides/mjpeg", "/streams/slides/next", "/streams/slides/mjpeg"):
            stack.enter_context(house.open(path))
        assert until(lambda: house.metric("places_taken") == 4, 10, 0.02)
        assert house.stop() < 5


def test_a_port_that_is_taken_is_named(house):
    other = House(house.folder / "other", {"card": {"testcard": SMALL}})
    told = json.loads((other.folder / "config.json").read_text())
    (other.folder / "config.json").write_text(json.dumps({**told, "http_port": house.port}))
    with pytest.raises(AssertionError, match=f"HTTP: TCP port {house.port} is taken"):
        other.start()
    assert other.process.returncode == 1


def test_the_page_travels_with_the_program():
    files = closure("station.stills")
    assert {"station/stills/web.py", "station/stills/page/page.js", "station/stills/live.py"} <= set(files)
