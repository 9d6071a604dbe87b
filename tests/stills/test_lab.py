"""Streams of pictures on real stations: made of an ingest and of files, for old clients and new, and catalogued."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

from tests.labkit import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NETWORK = "10.97.51"
PUSH, PULL, DATAGRAMS, GROUP = 8190, 8191, 8192, 8193
STILLS, OLD_TEXT, CATALOGUE = 8070, 8071, 8069
MULTICAST, RTP = "239.255.51.1", {"group": "239.255.51.2", "port": 5004}
SMALL = {"size": "320x180", "rate": 25, "preset": "ultrafast", "bitrate": 400}
COLOURS = ("red", "green", "blue")
FILES = [f"{colour}.png" for colour in COLOURS]
FILM = {"images": FILES, "id": 7, "type": "BMP", "ips": 20, "method": "tcp_push", "port": PUSH}
STATIONS = {
    "cam": {
        "station_roles": {
            "ingest": {"main": {"source": {"type": "testcard"}, "video": SMALL}},
            "stills": {
                "main": {
                    "streams": {
                        "camera": {"from": "cam/main", "ips": 0.5},
                        "film": FILM,
                        "slides": {"images": FILES, "method": "tcp_pull", "port": PULL},
                    }
                }
            },
        }
    },
    "hall": {
        "station_roles": {
            "stills": {
                "main": {
                    "networks": [f"{NETWORK}.0/24"],
                    "streams": {
                        "far": {"from": "cam/main", "ips": 2},
                        "parts": {"testcard": {}, "ips": 10, "method": "udp_push", "port": DATAGRAMS},
                        "all": {
                            "images": FILES, "ips": 10, "rtp": RTP,
                            "method": "mcast_push", "address": MULTICAST, "port": GROUP,
                        },
                    },
                }
            },
            "catalogue": {"main": {}},
        }
    },
}  # fmt: skip
UNITS = {"cam": ["ingest", "stills"], "hall": ["stills", "catalogue"]}
OLD = {
    "film": ("cam", "TCP_PUSH"),
    "slides": ("cam", "TCP_PULL"),
    "parts": ("hall", "UDP_PUSH"),
    "all": ("", "MCAST_PUSH"),
}
"""Streams with an old method: the station whose address the catalogue tells, and the method as it calls it."""
TCP_CLIENT = r"""
import socket, sys
host, port, word, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ear = socket.create_server(("", 0))
ear.settimeout(5)
control = socket.create_connection((host, port), 5)
control.sendall(b"GET 1\r\nLISTEN_PORT %d\r\n\r\n" % ear.getsockname()[1])
channel, (caller, _) = ear.accept()
assert caller == host, caller
channel.settimeout(5)
stream = channel.makefile("rb")
if word == "START":
    control.sendall(b"START\r\n\r\n")
for _ in range(count):
    if word != "START":
        control.sendall(b"GET -1\r\n\r\n")
    number, size = int(stream.readline()), int(stream.readline())
    data = stream.read(size)
    assert len(data) == size
    print(number, data[:2].hex())
control.sendall(b"END\r\n\r\n")
assert channel.recv(1) == b"" or True
"""
DATAGRAM_CLIENT = r"""
import socket, struct, sys
host, port, group, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.settimeout(5)
if group:
    ear.bind(("", port))
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(host))
else:
    ear.bind(("", 0))
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    words = b"GET 1\r\nLISTEN_PORT %d\r\nFRAGMENT_SIZE 512\r\n\r\nSTART\r\n\r\n" % ear.getsockname()[1]
    control.sendto(words, (host, port))
parts, whole = {}, set()
while len(whole) < count:
    number, total, offset, length, data = ear.recv(2048).split(b"\r\n", 4)
    assert len(data) == int(length)
    picture = parts.setdefault(int(number), bytearray(int(total)))
    picture[int(offset):int(offset) + len(data)] = data
    if int(offset) + len(data) == int(total):
        whole.add((int(number), bytes(picture[:2]).hex()))
print(sorted(whole)[0][1], len(whole))
"""
GONE = 2.0
"""Seconds after which a stream that died is in no catalogue."""


@pytest.fixture(scope="module")
def lab():
    lab = Lab.of(NETWORK, STATIONS)
    (lab.inventory / "files").mkdir(exist_ok=True)
    for colour, name in zip(COLOURS, FILES, strict=True):
        Image.new("RGB", (320, 180), colour).save(lab.inventory / "files" / name)
    with lab:
        play = lab.playbook("site.yml")
        assert all(play.changed(station) for station in STATIONS)
        yield lab


def get(lab, station, port, path, seconds=10):
    with urllib.request.urlopen(f"http://{lab.address(station)}:{port}{path}", timeout=seconds) as answer:
        return answer.read()


def told(lab) -> dict[str, str]:
    """The streams of the catalogue's JSON: key to state."""
    return {one["key"]: one["state"] for one in json.loads(get(lab, "hall", CATALOGUE, "/streams"))["streams"]}


def old_text(lab) -> str:
    with socket.create_connection((lab.address("hall"), OLD_TEXT), 5) as client, client.makefile("rb") as stream:
        head = b"".join(iter(stream.readline, b"\r\n"))
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"Content-Length"))
        return stream.read(length).decode()


def kind_of(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture.format


def latest(lab, station, key) -> str | None:
    """The kind of a stream's newest picture, None while there is none."""
    try:
        return kind_of(get(lab, station, STILLS, f"/streams/{key}/latest"))
    except urllib.error.HTTPError as error:
        assert error.code == 503, error
        return None


def test_every_unit_runs_and_a_second_run_changes_nothing(lab):
    for station, roles in UNITS.items():
        for role in roles:
            unit = f"stationmaster-{role}@main.service"
            state = lab.run(station, f"systemctl is-active {unit}", check=False).stdout.strip()
            assert state == "active", lab.run(station, f"journalctl -u {unit}").stdout
    play = lab.playbook("site.yml")
    assert {station: play.changed(station) for station in STATIONS} == dict.fromkeys(STATIONS, 0)


def test_an_ingest_is_seen_as_pictures_on_its_own_station_and_on_another(lab):
    for station, key in (("cam", "camera"), ("hall", "far")):
        assert until(lambda station=station, key=key: latest(lab, station, key) == "JPEG", 20), key
    assert kind_of(get(lab, "cam", STILLS, "/streams/camera/latest?type=png")) == "PNG"


def test_files_come_as_the_kind_that_the_stream_or_the_request_names(lab):
    assert kind_of(get(lab, "cam", STILLS, "/streams/7/1")) == "BMP"
    assert kind_of(get(lab, "cam", STILLS, "/streams/slides/latest")) == "PNG"
    assert kind_of(get(lab, "cam", STILLS, "/streams/slides/2?type=gif")) == "GIF"


def test_old_clients_of_another_station_get_their_pictures(lab):
    def client(station, program, *words):
        return lab.out(station, ["/usr/bin/python3", "-c", program, *map(str, words)])

    cam, hall = lab.address("cam"), lab.address("hall")
    assert client("hall", TCP_CLIENT, cam, PUSH, "START", 4).splitlines() == ["0 424d", "1 424d", "2 424d", "0 424d"]
    assert client("hall", TCP_CLIENT, cam, PULL, "GET", 3).splitlines() == ["0 8950", "1 8950", "2 8950"]
    assert client("cam", DATAGRAM_CLIENT, hall, DATAGRAMS, "", 3) == "ffd8 3"
    assert client("cam", DATAGRAM_CLIENT, cam, GROUP, MULTICAST, 3) == "8950 3"


def test_a_player_on_another_station_shows_the_multicast(lab):
    lab.write("cam", "/run/all.sdp", get(lab, "hall", STILLS, "/streams/all/rtp.sdp"))
    told = "-show_entries stream=codec_name,width -of csv=p=0"
    command = f"timeout 15 ffprobe -v error -protocol_whitelist file,udp,rtp {told} /run/all.sdp"
    assert lab.out("cam", command).splitlines()[0] == "mjpeg,320"


def test_the_catalogue_names_the_streams_of_all_stations(lab):
    assert until(lambda: set(told(lab)) == {*OLD, "camera", "far"}, 10)
    rows = [line for line in old_text(lab).splitlines() if line.startswith("Object ")]
    found = {}
    for row in rows:
        words = dict(word.split("=", 1) for word in row.split()[1:])
        found[words["name"]] = words["address"], words["protocol"]
    assert found == {
        name: (lab.address(station) if station else MULTICAST, method) for name, (station, method) in OLD.items()
    }
    page = get(lab, "hall", CATALOGUE, "/").decode()
    assert "<html" in page and "http://" not in page  # it needs nothing from elsewhere but the pictures


def test_a_stream_that_dies_is_gone_and_one_that_starts_is_there(lab):
    mine = {"camera", "film", "slides"}
    assert until(lambda: mine <= set(told(lab)), 10)
    lab.run("cam", "systemctl kill --signal=STOP stationmaster-stills@main")  # no word and no end of a connection
    try:
        assert until(lambda: not mine & set(told(lab)), GONE, 0.05)
        assert "name=film " not in old_text(lab)
    finally:
        lab.run("cam", "systemctl kill --signal=CONT stationmaster-stills@main")
    assert until(lambda: mine <= set(told(lab)), GONE, 0.05)
    lab.cut("cam")
    try:
        assert until(lambda: not mine & set(told(lab)), GONE, 0.05)
        assert {"parts", "all", "far"} <= set(told(lab))
    finally:
        lab.restore("cam")
    assert until(lambda: mine <= set(told(lab)), 20)


def test_a_server_that_crashed_serves_again(lab):
    lab.run("cam", "systemctl kill --signal=KILL stationmaster-stills@main")

    def serves():
        try:
            return kind_of(get(lab, "cam", STILLS, "/streams/film/latest", 2)) == "BMP"
        except (OSError, http.client.HTTPException):
            return False

    began = time.monotonic()
    assert until(serves, 20)
    assert until(lambda: "film" in told(lab), 5), time.monotonic() - began
