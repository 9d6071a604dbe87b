"""stomp.py, a client that others wrote, against the program: STOMP 1.0, 1.1 and 1.2, in clear and over TLS."""

import contextlib
import queue
import socket
import ssl
import subprocess
import threading
import time

import pytest
import stomp

from station.visuals import passwords
from tests.ports import free_port
from tests.visuals import kit_core as kit

pytestmark = pytest.mark.media
KINDS = {"1.0": stomp.StompConnection10, "1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}
WAIT = 10.0
IMAGE, TEXT = f"{kit.DAB}image", f"{kit.DAB}text"


class Heard(stomp.ConnectionListener):
    """What a client is told."""

    def __init__(self):
        self.frames = queue.Queue()
        self.connected = {}
        self.beats = threading.Semaphore(0)
        self.silence = False
        self.gone = threading.Event()

    def on_connected(self, frame):
        self.connected = frame.headers

    def on_message(self, frame):
        self.frames.put(("MESSAGE", frame.headers, frame.body))

    def on_receipt(self, frame):
        self.frames.put(("RECEIPT", frame.headers["receipt-id"], None))

    def on_error(self, frame):
        self.frames.put(("ERROR", frame.headers["message"], frame.body))

    def on_heartbeat(self):
        self.beats.release()

    def on_heartbeat_timeout(self):
        self.silence = True

    def on_disconnected(self):
        self.gone.set()

    def next(self, kind):
        found = self.frames.get(timeout=WAIT)
        assert found[0] == kind, found
        return found[1:]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    server = kit.Server(tmp_path_factory.mktemp("plain")).start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = {"certificate": str(folder / "certificate.pem"), "private_key": (folder / "key.pem").read_text()}
    tls |= {"stomp_port": free_port(), "https_port": free_port()}
    user = {"1": {"users": {"studio": passwords.hashed("secret-of-one")}, "channels": [{"topic": kit.DAB}]}}
    server = kit.Server(folder, tls=tls, broadcasters=user).start()
    server.certificate = folder / "certificate.pem"
    end = time.monotonic() + WAIT  # it listens without TLS first
    while True:
        try:
            socket.create_connection(("127.0.0.1", tls["stomp_port"]), 1).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.02)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@contextlib.contextmanager
def client(version, server, passcode="secret-of-one", **more):
    port = server.options["tls"]["stomp_port"] if "tls" in server.options else server.port
    connection = KINDS[version]([("127.0.0.1", port)], reconnect_attempts_max=1, **more)
    if "tls" in server.options:
        connection.set_ssl([("127.0.0.1", port)], ca_certs=str(server.certificate), ssl_version=ssl.PROTOCOL_TLS_CLIENT)
    heard = Heard()
    connection.set_listener("", heard)
    try:
        connection.connect("1.studio", passcode, wait=True)
        yield connection, heard
    finally:
        with contextlib.suppress(stomp.exception.StompException):
            connection.disconnect()
        connection.transport.stop()


@pytest.mark.parametrize("version", KINDS)
@pytest.mark.parametrize("way", ["plain", "secure"])
def test_a_session_of_a_foreign_client(way, version, request):
    server = request.getfixturevalue(way)
    with client("1.2", server) as (sender, told), client(version, server) as (connection, heard):
        assert heard.connected.get("version", "1.0") == version
        assert heard.connected["session"]
        assert ("heart-beat" in heard.connected) == (version != "1.0")

        sender.send(IMAGE, f"SHOW {version}", receipt="first")
        assert told.next("RECEIPT") == ("first", None)
        connection.subscribe(IMAGE, id="7")
        headers, body = heard.next("MESSAGE")
        assert (headers["destination"], headers["subscription"], body) == (IMAGE, "7", f"SHOW {version}")

        own = {"trigger-time": "NOW", "link": "https://example.org/a:b", "message-id": f"m{version}{way}"}
        sender.send(IMAGE, "TEXT Grüße: naïve\\n…", **own)
        headers, body = heard.next("MESSAGE")
        assert body == "TEXT Grüße: naïve\\n…"
        assert {name: headers[name] for name in own} == own
        assert headers["when"].isdigit()

        connection.send(IMAGE, "SHOW own", receipt="own")
        found = [heard.frames.get(timeout=WAIT) for _ in range(2)]
        assert sorted(one[0] for one in found) == ["MESSAGE", "RECEIPT"]

        if version == "1.0":
            connection.unsubscribe(destination=IMAGE)
        else:
            connection.unsubscribe("7")
        connection.send(f"{kit.DAB}x", "SHOW in between", receipt="unsubscribed")
        assert heard.next("RECEIPT") == ("unsubscribed", None)
        sender.send(IMAGE, "SHOW unheard", receipt="unheard")
        connection.subscribe(TEXT, id="8", **{"x-ebu-nofastreply": "yes", "receipt": "subscribed"})
        assert heard.next("RECEIPT") == ("subscribed", None)
        sender.send(TEXT, "TEXT heard")
        headers, body = heard.next("MESSAGE")
        assert (headers["subscription"], body) == ("8", "TEXT heard")

        connection.disconnect(receipt="bye")
        assert heard.next("RECEIPT") == ("bye", None)
        assert heard.gone.wait(WAIT)


@pytest.mark.parametrize("version", KINDS)
def test_what_a_foreign_client_may_not_send(plain, version):
    with client(version, plain) as (connection, heard):
        connection.send("/topic/id/example.org/two/text", "TEXT not mine")
        assert heard.next("ERROR")[0] == "You cannot do that."
        if version == "1.0":
            connection.send(IMAGE, "SHOW mine", receipt="mine")
            assert heard.next("RECEIPT") == ("mine", None)
        else:  # these versions close after an error
            assert heard.gone.wait(WAIT)


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_heart_beats_with_a_foreign_client(plain, version):
    with client(version, plain, heartbeats=(400, 400)) as (connection, heard):
        assert heard.connected["heart-beat"] == "400,400"
        for _ in range(5):  # for longer than either bears the other's silence
            assert heard.beats.acquire(timeout=WAIT)
        assert connection.is_connected()
        assert not heard.silence
        assert heard.frames.empty()


@pytest.mark.parametrize("version", KINDS)
def test_a_foreign_client_with_a_wrong_password(plain, version):
    with pytest.raises(stomp.exception.ConnectFailedException), client(version, plain, "wrong"):
        pass


def test_a_login_in_clear_is_refused_where_there_is_tls(secure):
    connection = KINDS["1.2"]([("127.0.0.1", secure.port)], reconnect_attempts_max=1)
    heard = Heard()
    connection.set_listener("", heard)
    with pytest.raises(stomp.exception.ConnectFailedException):
        connection.connect("1.studio", "secret-of-one", wait=True)
    assert heard.next("ERROR")[0] == "Wrong credentials"
    connection.transport.stop()
