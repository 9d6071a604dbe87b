"""Pictures to a group from one station to another over a real network: the old method, and RTP as ffmpeg decodes it."""

import json

import pytest

from station.stills import fragments
from tests.labkit import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NETWORK = "10.97.41"
OLD, VIDEO = "239.255.41.7", "239.255.41.8"
CARD = {"width": 320, "height": 240, "pictures": 3}
STATIONS = {
    "north": {
        "station_roles": {
            "stills": {
                "main": {
                    "networks": [f"{NETWORK}.0/24"],
                    "streams": {
                        "group": {
                            "testcard": CARD, "ips": 10, "method": "mcast_push", "address": OLD, "port": 5300,
                            "rtp": {"group": VIDEO, "port": 5302},
                        },
                        "asked": {"testcard": CARD, "method": "udp_pull", "port": 5310},
                    },
                },
                "closed": {
                    "http_port": 8071,
                    "streams": {"asked": {"testcard": CARD, "method": "udp_pull", "port": 5311}},
                },
            }
        }
    },
    "south": {"station_roles": {"stills": {"main": {"streams": {"own": {"testcard": CARD}}}}}},
}  # fmt: skip
HEAR = """
import json, socket, struct
plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
plug.bind(("{group}", {port}))
plug.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("{group}") + socket.inet_aton("{own}"))
plug.setsockopt(0, 12, 1)  # IP_RECVTTL
plug.settimeout(10)
found = []
while True:
    data, told, _, sender = plug.recvmsg(2048, 64)
    number, total, offset, length, _ = data.split(b"\\r\\n", 4)
    if int(offset) == 0:
        found = []
    found.append(data.decode("latin-1"))
    if int(offset) + int(length) == int(total) and found[0].split("\\r\\n")[2] == "0":
        break
print(json.dumps([found, struct.unpack("@i", told[0][2])[0], sender[0]]))
"""
ASK = """
import socket, time
words, data = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
data.bind(("0.0.0.0", 0))
data.settimeout(2)
hello = b"LISTEN_PORT %d\\r\\nFRAGMENT_SIZE 512\\r\\nGET 2\\r\\n\\r\\n" % data.getsockname()[1]
words.sendto(hello, ("{host}", {port}))
try:
    print(data.recv(2048)[:2].decode())
except TimeoutError:
    print("nothing")
"""


@pytest.fixture(scope="module")
def lab():
    with Lab.of(NETWORK, STATIONS) as lab:
        lab.playbook("site.yml")
        yield lab


def python(lab, station, text):
    """Run a program on a station; returns what it prints."""
    return lab.run(station, ["/usr/bin/python3", "-"], text=text).stdout.strip()


def test_the_old_form_reaches_the_other_station(lab):
    script = HEAR.format(group=OLD, port=5300, own=lab.address("south"))
    found, ttl, sender = json.loads(python(lab, "south", script))
    parts = [one.encode("latin-1").split(b"\r\n", 4) for one in found]
    data = b"".join(part[4] for part in parts)
    assert [one.encode("latin-1") for one in found] == fragments.split(int(parts[0][0]), data, 1024)
    assert data.startswith(b"\xff\xd8") and len(parts) > 3
    assert (ttl, sender) == (32, lab.address("north"))


def test_ffmpeg_on_the_other_station_opens_the_description_of_the_first(lab):
    script = (
        f"/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{lab.address('north')}:8070"
        '/streams/group/rtp.sdp").read().decode(), end="")\' >/tmp/one.sdp && '
        "ffprobe -v error -of json -show_streams -protocol_whitelist file,udp,rtp "
        f"-localaddr {lab.address('south')} /tmp/one.sdp"
    )
    told = json.loads(lab.run("south", script).stdout)["streams"][0]
    assert (told["codec_name"], told["width"], told["height"]) == ("mjpeg", 320, 240)


def test_datagrams_are_answered_in_allowed_networks_only(lab):
    assert python(lab, "south", ASK.format(host=lab.address("north"), port=5310)) == "2"
    assert python(lab, "south", ASK.format(host=lab.address("north"), port=5311)) == "nothing"
    assert python(lab, "north", ASK.format(host="127.0.0.1", port=5311)) == "2"
