"""The catalogue: the old text to the byte, JSON and events, and what starts or dies is shown within two seconds."""

import asyncio
import json
import re
import signal
import socket
import time
import urllib.error

import aiohttp
import pytest
from aiohttp import web

from api.stations import StationEntry
from station import config
from station.catalogues import board as boards
from station.catalogues import settings, told
from station.catalogues.board import Board
from station.catalogues.follow import Door, Follower, Server
from station.catalogues.registrations import Registrations, addresses_of
from station.catalogues.rows import Row, answer, read
from station.catalogues.servers import wanted
from station.catalogues.text import IDLE, PER_ADDRESS, TextServer
from station.config import ConfigError
from station.manager_link import Away, ManagerLink, Refused
from station.stills.settings import EXAMPLE
from tests.ports import free_port
from tests.stills.kit_catalogue import Catalogue, Stand, ask, reachable, stream, text, whole, within
from tests.stills.kit_core import Client
from tests.stills.kit_core import Program as Stills

SHOWN = 2.0
"""Seconds in which a stream that starts or dies is shown."""
ROWS = [
    Row(1, "video1", "JPEG", "127.0.0.1", 8081, "TCP_PULL", 1.0),
    Row(2, "video2", "BMP", "225.6.7.8", 8082, "MCAST_PUSH", 0.5),
]
BODY = (
    b"ServerAddress: 127.0.0.1 \r\nServerPort: 8000 \r\n"
    b"Object ID=1 name=video1 type=JPEG address=127.0.0.1 port=8081 protocol=TCP_PULL ips=1.0 \r\n"
    b"Object ID=2 name=video2 type=BMP address=225.6.7.8 port=8082 protocol=MCAST_PUSH ips=0.5\r\n"
)
HEADER = (
    b"HTTP/1.1 200 OK\nContent-Type: text/plain\nConnection: Keep-Alive\nServer: TP_3IF_SERVER\n"
    b"Content-Length: %d\r\n\r\n"
)


def test_the_text_is_that_of_the_reference_to_the_byte():
    assert answer("127.0.0.1", 8000, ROWS) == HEADER % len(BODY) + BODY
    empty = b"ServerAddress: ::1 \r\nServerPort: 1 \r\n\r\n"
    assert answer("::1", 1, []) == HEADER % len(empty) + empty
    assert read(answer("127.0.0.1", 8000, ROWS).decode()) == ROWS


def test_nothing_that_a_server_says_makes_another_line():
    bad = stream("cam", name="a b\r\nObject ID=9", type="J\tPG", address="1.2.3.4\n")
    line = told.row_of(told.streams_of(json.dumps({"streams": [bad]}).encode())[0][0]).line()
    assert line == ("Object ID=1 name=a_b__Object_ID=9 type=J_PG address=1.2.3.4_ port=9001 protocol=TCP_PUSH ips=2.0")


@pytest.mark.parametrize("line", [b"{}", b"[]", b"no json", b'{"streams": 3}', b"[" * 100_000])
def test_another_server_is_not_understood(line):
    with pytest.raises(told.NotUnderstood, match="no server of stills"):
        told.streams_of(line)


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("port", 70000, None), ("port", True, None), ("protocol", "X", None), ("urls", {"latest": "//evil/x"}, {}),
        ("urls", {"latest": "http://evil/"}, {}), ("viewers", 1.5, None), ("name", 3, None),
        ("ips", float("inf"), "left out"), pytest.param("ips", 10**400, "left out", id="ips-huge"),
        ("name", "\ud800x", "?x"),
        ("urls", {"\ud800": "/a", "mjpeg": "/b"}, {"mjpeg": "/b"}), ("id", "1", "left out"),
        ("key", "../x", "left out"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(member, value, expected):
    found, _ = told.streams_of(json.dumps({"streams": [stream() | {member: value}]}).encode())
    assert (found[0][member] if found else "left out") == expected


def test_a_server_whose_keys_change_all_the_time_fills_no_memory(monkeypatch):
    monkeypatch.setattr(boards, "KEPT", 20)
    board = Board()
    board.put("calm/main", [stream("a")], None)
    for turn in range(30):
        board.put("wild/main", [stream(f"k{turn}-{number}") for number in range(4)], None)
    assert len(board._numbers) <= 25
    assert json.loads(board.answer())["streams"][0]["number"] == 1


async def _at(port, host="127.0.0.1"):
    return await asyncio.open_connection(host, port)


def test_all_clients_get_it_at_once_and_idle_ones_are_closed():
    assert IDLE == 5.0

    async def main():
        board, port, sent = Board(), free_port(), []
        board.files([(row, {}) for row in ROWS])
        server = TextServer(board, port, sent=sent.append, idle=1.0)
        await server.start()
        expected = HEADER % len(BODY) + BODY
        expected = expected.replace(b"ServerPort: 8000", b"ServerPort: %d" % port)
        expected = expected.replace(b"Length: %d" % len(BODY), b"Length: %d" % (len(BODY) + len(str(port)) - 4))
        clients = [await _at(port) for _ in range(20)]
        for reader, _ in clients:
            assert await reader.readexactly(len(expected)) == expected
        assert len(sent) == 20 and sent[0].encode() == expected
        # whoever speaks stays, and is not sent it anew
        loop, (reader, writer) = asyncio.get_running_loop(), clients[0]
        began = loop.time()
        for _ in range(3):
            await asyncio.sleep(0.3)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        assert 1.8 < loop.time() - began < 4
        assert await clients[1][0].read() == b""
        for _, writer in clients:
            writer.close()
        await asyncio.sleep(0.05)
        assert not server.clients
        # over IPv6 it is told that address, and an IPv4 client of the same socket its own
        reader, writer = await _at(port, "::1")
        assert b"ServerAddress: ::1 \r\n" in await reader.readuntil(b"ServerPort")
        writer.close()
        await server.stop()

    asyncio.run(main())


def test_a_board_gives_equal_ids_apart_and_keeps_them():
    async def main():
        board = Board()
        board.expect("a/main", None, [("one", 1), ("two", 2)])
        board.expect("b/main", None, [("one", 1)])
        checked = told.streams_of(json.dumps({"streams": [stream("one", id=1), stream("two", id=2)]}).encode())[0]
        # b comes first, but the numbers are those of the inventory's order
        board.put("b/main", checked[:1], "http://b")
        assert [row.id for row in board.rows()] == [3]
        board.put("a/main", checked, "http://a")
        assert [(row.id, row.name) for row in board.rows()] == [(1, "one"), (2, "two"), (3, "one")]
        board.away("a/main", "gone")
        assert [row.id for row in board.rows()] == [3]
        # a stream that has another id by now gets that one
        checked[0] = checked[0] | {"id": 7}
        board.put("b/main", checked[:1], "http://b")
        assert [row.id for row in board.rows()] == [7]
        board.remove("a/main")
        checked[0] = checked[0] | {"id": 1}
        board.put("b/main", checked[:1], "http://b")
        assert [row.id for row in board.rows()] == [1]
        version = board.version
        board.put("b/main", checked[:1], "http://b")
        assert board.version == version, "nothing changed"

    asyncio.run(main())


def row(**more):
    return {"name": "cam/main", "station": "cam", "instance": "main", "address": "10.0.0.7", "http_port": 8070,
            "room": None, "streams": [], **more}  # fmt: skip


@pytest.mark.parametrize(
    ("registered", "address", "doors"),
    [
        ({}, "10.0.0.7", [Door("http://10.0.0.7:8070")]),
        ({"other": "10.9.9.9"}, "10.0.0.7", [Door("http://10.0.0.7:8070")]),
        ({"cam": "10.0.0.7"}, "10.0.0.7", [Door("http://10.0.0.7:8070")]),
        ({"cam": "fd00::7"}, "10.0.0.7", [Door("http://[fd00::7]:8070", True), Door("http://10.0.0.7:8070")]),
        ({"cam": "192.0.2.4"}, None, [Door("http://192.0.2.4:8070", True)]),
        ({}, None, None),
    ],
)
def test_a_registered_address_goes_before_the_inventorys(registered, address, doors):
    found = wanted({"stills": [row(address=address)]}, registered, ())
    assert [list(one.doors) for one in found.values()] == ([doors] if doors else [])


def test_a_context_without_sense_harms_nothing():
    assert (
        wanted({}, {}, ()) == wanted({"stills": "x"}, {}, ()) == wanted({"stills": [3, {}, row(name=3)]}, {}, ()) == {}
    )
    assert list(wanted({}, {}, ["http://192.0.2.7:8070"])) == ["192.0.2.7:8070"]


class Link:
    """A manager that answers in turn: a list, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def items(self, path):
        assert path == "/v1/stations"
        found = self.answers.pop(0) if self.answers else Away("gone")
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self):
        pass


def enrolled(name, address, **more):
    return {"name": name, "address": address, "enrolment": "enrolled", **more}


def test_registrations_are_kept_for_a_time_without_a_manager(tmp_path, caplog):
    async def main():
        cache, woken = tmp_path / "registrations.json", []
        link = Link([enrolled("cam", "192.0.2.4")], [enrolled("cam", "192.0.2.4")], Refused(403, "not allowed"))
        made = Registrations(link, cache, lambda: woken.append(1), every=0.01)
        assert made.addresses == {} and caplog.text == ""
        task = asyncio.create_task(made.run())
        while "not allowed" not in caplog.text:
            await asyncio.sleep(0.01)
        task.cancel()
        assert made.addresses == {"cam": "192.0.2.4"} and len(woken) == 1
        assert Registrations(Link(), cache, lambda: None).addresses == {"cam": "192.0.2.4"}
        cache.write_text("[]")
        assert Registrations(Link(), cache, lambda: None).addresses == {}
        assert Registrations(None, cache, lambda: None).addresses == {}

    asyncio.run(main())


@pytest.mark.media
def test_the_managers_list_comes_over_http(tmp_path):
    # what is read of it is what the manager's API says
    assert {"name", "address", "enrolment"} <= set(StationEntry.model_fields)
    answers = {"/v1/stations": (200, [enrolled("cam", "192.0.2.4")])}

    async def handle(request):
        if request.headers.get("Authorization") != "Bearer smt_token":
            return web.json_response({"detail": "no such token"}, status=401)
        status, body = answers[request.path]
        return web.json_response(body, status=status)

    async def main():
        app = web.Application()
        app.router.add_get("/v1/stations", handle)
        runner, port = web.AppRunner(app), free_port()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        link, wrong = (ManagerLink(f"http://127.0.0.1:{port}", token) for token in ("smt_token", "smt_wrong"))
        assert addresses_of(await link.items("/v1/stations")) == {"cam": "192.0.2.4"}
        with pytest.raises(Refused, match="no such token"):
            await wrong.items("/v1/stations")
        answers["/v1/stations"] = (200, {"detail": "another program"})
        with pytest.raises(Away, match="no manager answers there: status 200, and no JSON list"):
            await link.items("/v1/stations")
        await link.close()
        await wrong.close()
        await runner.cleanup()

    asyncio.run(main())


def test_only_enrolled_stations_count():
    rows = [enrolled("a", "192.0.2.1"), enrolled("b", None), enrolled("c", "127.0.0.1"), enrolled("d", "no address"),
            enrolled("e", "192.0.2.5", enrolment="waiting"), "x", {}]  # fmt: skip
    assert addresses_of(rows) == {"a": "192.0.2.1"}


# --- as processes ----------------------------------------------------------------------------------------------------


@pytest.mark.pace
@pytest.mark.media
def test_what_starts_or_dies_is_shown_within_two_seconds(tmp_path):
    ports = free_port(), free_port()
    servers = [
        (f"{name}/main", port, "127.0.0.1", {name: 1}) for name, port in zip(("cam", "beamer"), ports, strict=True)
    ]
    with Catalogue(tmp_path, *servers) as catalogue, Stand(ports[1], stream("beamer")):
        within(lambda: catalogue.names() == ["beamer"], SHOWN)
        for end in ("kill -9", "stop"):
            with Stand(ports[0], stream("cam")) as cam:
                within(lambda: catalogue.names() == ["cam", "beamer"] or catalogue.names() == ["beamer", "cam"], SHOWN)
                if end == "stop":
                    # no FIN, no RST: as a station whose power or cable is gone
                    cam.send(signal.SIGSTOP)
                    within(lambda: catalogue.names() == ["beamer"], SHOWN)
                    assert reachable(ports[0])
                    told = {one["name"]: one for one in catalogue.json()["servers"]}
                    assert (told["cam/main"]["state"], told["beamer/main"]["state"]) == ("away", "running")
                    cam.send(signal.SIGCONT)
                    within(lambda: len(catalogue.names()) == 2, SHOWN)
                    # one stream ends, another begins
                    cam.tell(stream("slides"))
                    within(lambda: "slides" in catalogue.names() and "cam" not in catalogue.names(), SHOWN)
                    cam.raw("nonsense")
                    within(lambda: catalogue.names() == ["beamer"], SHOWN)
                    cam.tell()
                    within(lambda: catalogue.json("/healthz")["running"] == 2, SHOWN)
                    cam.tell(stream("cam", id=5))
                    within(lambda: len(catalogue.names()) == 2, SHOWN)
                cam.kill()
                within(lambda: catalogue.names() == ["beamer"], SHOWN)
        # the inventory has another server instead
        catalogue.context(servers[1])
        within(lambda: len(catalogue.json()["servers"]) == 1, SHOWN)
        assert catalogue.names() == ["beamer"]


@pytest.mark.pace
@pytest.mark.media
def test_json_and_its_changes(tmp_path):
    port = free_port()
    with (
        Catalogue(tmp_path, ("cam/main", port, "127.0.0.1", {"cam": 1})) as catalogue,
        ask(catalogue.url + "/events") as events,
    ):
        assert events.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
        first = json.loads(events.readline())
        assert first["streams"] == [] and first["servers"][0]["name"] == "cam/main"
        with Stand(port, stream("cam"), stream("web", id=2, protocol=None, port=None)):
            lines = iter(events.readline, b"")
            newest = next(told for line in lines if line.strip() and (told := json.loads(line))["streams"])
            assert newest == catalogue.json()
            cam, only_web = newest["streams"]
            assert cam["server"] == "cam/main" and cam["base"] == f"http://127.0.0.1:{port}" and cam["number"] == 1
            assert cam["urls"] == {"latest": "/streams/cam/latest"}
            assert only_web["protocol"] is None and catalogue.names() == ["cam"]
            beats = [time.monotonic() for _ in range(3) if next(lines) == b"\n"]
            assert len(beats) == 3 and 0.8 < beats[2] - beats[0] < 1.5
        for path, status in (("/nothing", 404), ("/files/..%2fweb.py", 404), ("/files/none.js", 404)):
            with pytest.raises(urllib.error.HTTPError) as failed:
                ask(catalogue.url + path)
            assert failed.value.code == status and json.load(failed.value)["error"]
            assert failed.value.headers["Access-Control-Allow-Origin"] == "*"
        with ask(catalogue.url + "/metrics") as answer:
            assert "catalogue_servers{" in answer.read().decode()
        status, seconds = catalogue.end()
        assert status == 0 and seconds < 2
        assert "Traceback" not in catalogue.log.read_text()


@pytest.mark.media
def test_a_registered_address_is_told_in_place_of_the_stations_own():
    """Each door of a server leads to the same streams; what is told of them is where they were reached."""
    group = "239.1.2.3"
    rows = (
        stream("cam", address="10.255.255.1"),
        stream("group", id=2, address=group, protocol="MCAST_PUSH"),
        stream("proxy", id=3, address="192.0.2.80"),
    )

    async def told_by(*doors):
        board = Board()
        async with aiohttp.ClientSession() as session:
            follower = Follower(Server("cam/main", None, (), doors), board, session)
            task = asyncio.create_task(follower.run())
            async with asyncio.timeout(5):
                while not board.rows():
                    await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return [row.address for row in board.rows()]

    port = free_port()
    with Stand(port, *rows, address="10.255.255.1"):
        here, nowhere = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
        assert asyncio.run(told_by(Door(here, registered=True))) == ["127.0.0.1", group, "192.0.2.80"]
        # where it registered nobody answers: the inventory's address is tried in turn
        assert asyncio.run(told_by(Door(nowhere, registered=True), Door(here))) == ["10.255.255.1", group, "192.0.2.80"]


@pytest.mark.media
def test_a_manager_that_is_away_harms_nothing(tmp_path):
    port = free_port()
    manager = {"manager": f"http://127.0.0.1:{free_port()}", "manager_token": "no-such-token"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registrations.json").write_text("no JSON")
    with Stand(port, stream("cam")), Catalogue(tmp_path, ("cam/main", port, "127.0.0.1", {}), **manager) as catalogue:
        within(lambda: catalogue.names() == ["cam"], 15)
        log = catalogue.log.read_text()
        assert "the manager's stations: it cannot be reached" in log and "registrations.json is not used" in log
        assert "no-such-token" not in log
        assert catalogue.end()[0] == 0


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"port": 70000}, "options.port"), ({"http_port": 8071}, "options.http_port"), ({"port": "x"}, "options.port"),
        ({"listen_address": "here"}, "options.listen_address"), ({"listen_address": 3.5}, "options.listen_address"),
        ({"servers": ["192.0.2.7:8070"]}, "options.servers"), ({"servers": ["http://a:b/"]}, "options.servers"),
        ({"servers": [3]}, "options.servers"), ({"servers": ["http://u@h/"]}, "options.servers"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path, options, key):
    (tmp_path / "catalogue.json").write_text(json.dumps(options))
    with pytest.raises(ConfigError, match=re.escape(key)):
        settings.read(config.load(tmp_path / "catalogue.json", "catalogue"))


def test_the_example_is_a_configuration(tmp_path):
    (tmp_path / "catalogue.json").write_text(json.dumps(settings.EXAMPLE))
    made = settings.read(config.load(tmp_path / "catalogue.json", "catalogue"))
    assert (made.port, made.http_port, made.address) == (8071, 8069, "127.0.0.1")
    # beside the example of the servers, without a port that both want
    taken = {row["port"] for row in EXAMPLE["streams"].values() if "port" in row}
    assert not {made.port, made.http_port} & (taken | {EXAMPLE["http_port"]})
    assert made.servers == (f"http://127.0.0.1:{EXAMPLE['http_port']}",)


def test_one_address_has_not_all_places_of_the_text():
    async def main():
        server = TextServer(Board(), port := free_port())
        await server.start()
        clients = [await _at(port) for _ in range(PER_ADDRESS + 1)]
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await clients[-1][0].readexactly(1)
        assert server.refused == 1
        reader, writer = await _at(port, "::1")
        assert await reader.readexactly(8) == b"HTTP/1.1"
        for _, one in [*clients, (reader, writer)]:
            one.close()
        await server.stop()

    asyncio.run(main())


@pytest.mark.media
def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Catalogue(tmp_path, port=port) as catalogue:
            assert catalogue.process.wait(5) == 1
    log = catalogue.log.read_text()
    assert f"the old catalogue: TCP port {port} is taken" in log and "Traceback" not in log


@pytest.mark.media
def test_many_clients_of_the_text(tmp_path):
    port = free_port()
    with Stand(port, stream("cam")), Catalogue(tmp_path, ("cam/main", port, "127.0.0.1", {})) as catalogue:
        within(lambda: catalogue.names() == ["cam"], 15)
        clients = [socket.create_connection(("127.0.0.1", catalogue.port), 5) for _ in range(100)]
        assert len({whole(client) for client in clients}) == 1
        for client in clients:
            client.close()


@pytest.mark.media
def test_a_real_server_of_stills_is_followed(tmp_path):
    ports, card = (free_port(), free_port(), free_port()), {"width": 64, "height": 48}
    streams = {
        "cam": {"testcard": card, "ips": 5, "method": "tcp_push", "port": ports[1], "room": "hall_a"},
        "asked": {"testcard": card, "method": "tcp_pull", "port": ports[2], "name": "slides"},
        "web": {"testcard": card},
    }
    options = {"listen_address": "127.0.0.1", "http_port": ports[0], "streams": streams}
    ids = {"asked": 1, "cam": 2, "web": 3}
    (tmp_path / "stills").mkdir()
    server = Stills(tmp_path / "stills", options)
    try:
        with Catalogue(tmp_path, ("cam/main", ports[0], "127.0.0.1", ids)) as catalogue:
            within(lambda: len(catalogue.names()) == 2, 15)
            rows = read(text(catalogue.port).decode())
            assert rows == [
                Row(1, "slides", "JPG", "127.0.0.1", ports[2], "TCP_PULL", 1.0),
                Row(2, "cam", "JPG", "127.0.0.1", ports[1], "TCP_PUSH", 5.0),
            ]
            shown = catalogue.json()["streams"]
            assert [(one["key"], one["id"], one["number"], one["state"]) for one in shown] == [
                (key, number, number, "ready") for key, number in ids.items()
            ]
            assert {(one["width"], one["height"], one["count"]) for one in shown} == {(64, 48, 10)}
            for one in shown:
                with ask(one["base"] + one["urls"]["latest"]) as answer:
                    assert answer.read(2) == b"\xff\xd8"
            with Client(ports[1]).open("START"):
                within(lambda: any(one["viewers"] for one in catalogue.json()["streams"]), 15)
            server.process.send_signal(signal.SIGSTOP)
            within(lambda: catalogue.names() == [], 15)
            server.process.send_signal(signal.SIGCONT)
            within(lambda: len(catalogue.names()) == 2, 15)
            assert server.stop() == 0
            within(lambda: catalogue.names() == [], 15)
            assert catalogue.json()["servers"][0]["state"] == "away"
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()
