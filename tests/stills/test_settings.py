"""What a file for use by hand, or an inventory, may not say: nothing is passed over, and each error says what to do."""

import copy
import errno
import json
import re
import socket

import pytest

from station import config
from station.config import ConfigError
from station.stills import ports, settings
from stationmaster import catalogue, validation
from tests.stills.kit_core import images


def told(folder, change):
    """Return the settings of the example with a change of its stream `web`, or of the whole where it has none."""
    tree = copy.deepcopy(settings.EXAMPLE)
    stream = change.pop("web", None)
    if stream is not None:
        tree["streams"]["web"] = stream
    (folder / "s.json").write_text(json.dumps(tree | change))
    return settings.read(config.load(folder / "s.json", "stills", settings.OPTIONS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"htp_port": 1}, "htp_port: there is no such option; did you mean http_port?"),
        ({"limits": {"client": 3}}, "limits.client: there is no such option; did you mean clients?"),
        ({"web": {"testcard": {}, "metod": "tcp_push"}}, "web.metod: there is no such option; did you mean method?"),
        ({"web": {"testcard": {"with": 640}}}, "web.testcard.with: there is no such option; did you mean width?"),
        ({"web": {"testcard": {"width": 3}}}, "web.testcard.width: is 3; needed is 16 to 4096"),
        ({"web": {"testcard": {"pictures": 5000}}}, "web.testcard.pictures: is 5000; needed is 1 to 1000"),
        ({"web": {"testcard": {}, "rtp": {}}}, "web.rtp.group: is missing"),
        ({"web": {"testcard": {}, "rtp": {"group": "239.255.0.1", "port": 5004, "tll": 1}}}, "did you mean ttl?"),
        ({"web": {"testcard": {}, "port": 9000}}, "web.port: is 9000, and no method uses it; give `method`"),
        ({"web": {"testcard": {}, "width": 640}}, "web.width: is for a stream that has `from`"),
        ({"web": {"testcard": {}, "room": 3}}, "web.room: is 3; needed is a value of type str"),
        ({"web": {"testcard": {}, "method": "tcp_push", "port": 8070}}, "web.port: is 8070, as that of http_port"),
        ({"web": {"images": ["0.jpg"], "flux": "f.txt", "testcard": {}}}, "web: needs one of images, flux, from"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told(tmp_path, change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        told(tmp_path, copy.deepcopy(change))


def test_a_port_of_the_other_protocol_is_another_port(tmp_path):
    made = told(tmp_path, {"web": {"testcard": {}, "method": "udp_push", "port": 8070}})
    assert made.http_port == 8070 and made.streams[-1].port == 8070


@pytest.mark.parametrize(
    ("change", "address"),
    [
        ({"listen_address": "fd00:77::1"}, "fd00:77::1"),
        ({"listen_address": "::"}, "127.0.0.1"),
        ({"listen_address": "192.0.2.7", "address": "192.0.2.8"}, "192.0.2.8"),
        ({"listen_address": "192.0.2.7", "address": "127.0.0.1"}, "127.0.0.1"),
    ],
)
def test_by_hand_a_server_is_where_it_listens(tmp_path, change, address):
    assert told(tmp_path, change).address == address


def test_images_beside_a_descriptor_replace_its_own(tmp_path):
    images(tmp_path, 1)
    (tmp_path / "f.txt").write_text("ID: 7\nProtocol: TCP_PUSH\nPort: 9000\ngone.jpg\n")
    web = told(tmp_path, {"web": {"flux": "f.txt", "images": ["0.jpg"]}}).streams[-1]
    assert (web.id, web.port, web.images) == (7, 9000, (str(tmp_path / "0.jpg"),))


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        ({"testcard": {}, "width": 640}, ["streams.x has width and so needs from"]),
        (None, ["streams.x is null; allowed: a mapping"]),
        ("testcard", ['streams.x is "testcard"; allowed: a mapping']),
        ({}, ["streams.x needs one of flux, from, images, testcard"]),
        ({"testcard": {}, "from": "a/b"}, ["streams.x is a mapping with from, testcard; allowed: only one of"]),
        ({"flux": "f.txt", "images": ["a.jpg"]}, []),
        ({"flux": "f.txt", "images": ["a.jpg"], "from": "a/b"}, ["allowed: only one of flux, from, images, testcard"]),
        (
            {"testcard": {}, "method": "mcast_push", "port": 9000, "address": "10.0.0.1"},
            ["(A multicast group, such as"],
        ),
        ({"testcard": {}, "method": "mcast_push", "port": 9000, "address": "ff15::1"}, []),
        ({"testcard": {}, "rtp": {"group": "192.0.2.1", "port": 5004}}, ["(Multicast group, such as 239.255.0.1"]),
    ],
)
def test_what_is_wrong_in_an_inventory_is_told_once(stream, messages):
    schema = catalogue.load().roles["stills"].options
    found = [one.message for one in validation.problems(schema, {"streams": {"x": stream}})]
    assert len(found) == len(messages)
    assert all(part in one for part, one in zip(messages, found, strict=True))


def test_a_name_of_digits_is_told_with_its_line():
    (found,) = validation.problems(catalogue.load().roles["stills"].options, {"streams": {"1": {"testcard": {}}}})
    assert found.message == '"1" is no name in streams; allowed: letters, digits, _ and -, 64 at most, not digits alone'
    assert found.path == ("streams", "1")


def test_a_folder_that_cannot_be_made_is_no_traceback(tmp_path, caplog):
    (tmp_path / "s.json").write_text(json.dumps(settings.EXAMPLE))
    (tmp_path / "stills-data").write_text("a file")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "set_up_log", lambda: None)
        arguments = ["--config", str(tmp_path / "s.json")]
        assert config.program("stills", lambda _: 0, arguments, example=settings.EXAMPLE) == config.EX_CONFIG
    assert "stills-data cannot be made: File exists; make it writable" in caplog.text


def test_a_port_of_root_is_told(monkeypatch):
    def refused(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(OSError, match="stream a: TCP port 90 may be opened by root only; take one from 1024 on"):
        ports.bind("127.0.0.1", 90, socket.SOCK_STREAM, "stream a")
