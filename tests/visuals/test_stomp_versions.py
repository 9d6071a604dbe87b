"""STOMP 1.1 and 1.2: which one is spoken, escapes, bodies, heart-beats, and what is not supported."""

import time

import pytest

from tests.visuals import kit_core as kit
from tests.visuals.kit_core import DAB, LOGIN, OWN

pytestmark = pytest.mark.media
numbers = iter(range(1, 1 << 30))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = kit.Server(tmp_path_factory.mktemp("visuals")).start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def topic():
    return f"{DAB}v{next(numbers)}/text"


def speak(server, version, **headers):
    return server.connected({"accept-version": version, "host": "x", **LOGIN, **headers})


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize(
    ("accepted", "version"),
    [("1.0,1.1,1.2", "1.2"), ("1.2", "1.2"), ("1.1", "1.1"), ("1.0, 1.1", "1.1"), ("1.1,1.3,2.0", "1.1")],
)
def test_the_highest_version_of_both(server, command, accepted, version):
    with server.client() as client:
        client.send(command, {"accept-version": accepted, "host": "x"})
        frame = client.expect("CONNECTED", version=version, heart_beat="400,400")
        assert frame.headers["session"] and frame.headers["server"]


@pytest.mark.parametrize("accepted", ["1.0", "", " 1.0 ,0.9"])
def test_only_1_0_is_the_original(server, accepted):
    with server.client() as client:
        frame = client.send("CONNECT", {"accept-version": accepted}).expect("CONNECTED")
        assert [name for name, _ in frame.items] == ["session"]
        client.send("NONSENSE").send("SEND").error("You cannot do that.")
        client.alive()


@pytest.mark.parametrize("accepted", ["1.3", "2.0,3", ",", "one"])
def test_no_version_of_both(server, accepted):
    with server.client() as client:
        client.send("CONNECT", {"accept-version": accepted})
        client.expect("ERROR", version="1.0,1.1,1.2")
        client.gone()


def test_a_wrong_login_closes(server):
    with server.client() as client:
        client.send("STOMP", {"accept-version": "1.2", **LOGIN, "passcode": "wrong"}).error("Wrong credentials")
        client.gone()


def test_connect_is_not_escaped(server):
    with server.client() as client:
        client.send("STOMP", {"accept-version": "1.2", "login": "1.studio", "passcode": "secret\\cof-one"})
        client.error("Wrong credentials")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_bodies_are_untouched(server, topic, version):
    body = bytes(range(256)) + b"\r\n\0\0MESSAGE\n\n\0"
    with speak(server, version) as client:
        client.send("SUBSCRIBE", destination=topic, id="0", receipt="s").expect("RECEIPT", receipt_id="s")
        client.send("SEND", {"destination": topic, "content-length": str(len(body))}, body)
        frame = client.expect("MESSAGE", destination=topic, subscription="0", content_length=str(len(body)))
        assert frame.body == body and frame.headers["message-id"] and frame.headers["when"]
        client.send("SEND", {"destination": topic}, b"no\rlength")
        assert client.expect("MESSAGE", content_length="9").body == b"no\rlength"


def test_nul_and_line_ends_cannot_break_the_originals_frames(server, topic):
    with speak(server, "1.2") as client, server.connected() as old:
        old.send("SUBSCRIBE", destination=topic).sync()
        client.send("SEND", {"destination": topic, "link": "a\\nx:y\\r", "content-length": "3"}, b"a\0b")
        frame = old.expect("MESSAGE")
        assert frame.body == b"ab" and frame.headers["link"] == "ax:y"
        old.alive()


@pytest.mark.parametrize(
    ("version", "sent", "meant", "got"),
    [
        ("1.1", "a\\cb\\nc\\\\d", "a:b\nc\\d", "a\\cb\\nc\\\\d"),
        ("1.2", "a\\cb\\nc\\\\d\\re", "a:b\nc\\d\re", "a\\cb\\nc\\\\d\\re"),
        ("1.2", " http://x ", " http://x ", " http\\c//x "),
        ("1.1", "end\r", "end\r", "end\r"),
        ("1.2", "end\r", "end", "end"),
    ],
)
def test_header_escapes(server, topic, version, sent, meant, got):
    with speak(server, version) as client:
        client.send("SUBSCRIBE", destination=topic, id="a\\cb", receipt="r\\c1").expect("RECEIPT", receipt_id="r\\c1")
        client.send("SEND", destination=topic, link=sent)
        client.expect("MESSAGE", link=got, subscription="a\\cb")


def test_line_ends_of_1_2(server, topic):
    with speak(server, "1.2") as client:
        client.raw(f"\r\n\nSUBSCRIBE\r\ndestination:{topic}\r\nid:1\r\nreceipt:1\r\n\r\n\0\r\n\r\n".encode())
        client.expect("RECEIPT", receipt_id="1")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"NONSENSE\nreceipt:5\n\n\0", "unknown command"),
        (b"CONNECT\nreceipt:5\n\n\0", "unknown command"),
        (b"SUBSCRIBE\nreceipt:5\nid:1\n\n\0", "You need a destination to subscribe."),
        (b"SUBSCRIBE\nreceipt:5\ndestination:/x\n\n\0", "You need an id to subscribe."),
        (b"SUBSCRIBE\nreceipt:5\nid:1\ndestination:/x\nack:client\n\n\0", "ack mode not supported"),
        (b"SUBSCRIBE\nreceipt:5\nid:1\ndestination:/x\nack:client-individual\n\n\0", "ack mode not supported"),
        (b"SUBSCRIBE\nid:1\ndestination:/x\n\n\0SUBSCRIBE\nreceipt:5\nid:1\ndestination:/y\n\n\0",
         "already subscribed"),
        (b"SUBSCRIBE\nreceipt:5\nid:1\ndestination:/topic/fm/x\n\n\0",
         "Your destination does not matcht required format."),
        (b"UNSUBSCRIBE\nreceipt:5\ndestination:/x\n\n\0", "No ID or channel"),
        (b"UNSUBSCRIBE\nreceipt:5\nid:1\n\n\0", "Not subscribled"),
        (b"SEND\nreceipt:5\ndestination:/topic/other\n\n\0", "You cannot do that."),
        (b"SEND\nreceipt:5\n\n\0", "No destination ?"),
        (b"SEND\nreceipt:5\ntransaction:1\ndestination:/x\n\n\0", "transactions are not supported; send without"),
        (b"BEGIN\nreceipt:5\ntransaction:1\n\n\0", "transactions are not supported; send without"),
        (b"COMMIT\nreceipt:5\ntransaction:1\n\n\0", "transactions are not supported; send without"),
        (b"ABORT\nreceipt:5\ntransaction:1\n\n\0", "transactions are not supported; send without"),
    ],
)  # fmt: skip
def test_an_error_tells_the_receipt_and_closes(server, version, frame, message):
    with speak(server, version) as client:
        answer = client.raw(frame + b"SUBSCRIBE\nid:9\ndestination:/z\nreceipt:9\n\n\0").error(message)
        assert answer.headers["receipt-id"] == "5" and answer.headers["content-type"] == "text/plain" and answer.body
        client.gone()


@pytest.mark.parametrize(
    "frame",
    [
        b"SEND\nno colon\n\n\0",
        b"SEND\n:x\n\n\0",
        b"SEND\nlink:\\t\n\n\0",
        b"SEND\nlink:\\\n\n\0",
        b"SEND\nlink:\xff\n\n\0",
        b"SEND\ncontent-length:3\n\nab\0c",
        b"SEND\ncontent-length:-1\n\n\0",
        b"SEND\ncontent-length:1e3\n\n\0",
        b"SEND\ncontent-length:999999999\n\n\0",
        b"SEND\nlink:x\0",
    ],
)
def test_malformed_frames(server, frame):
    with speak(server, "1.2") as client:
        client.raw(frame).error("malformed frame")
        client.gone()


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_receipts_acknowledgements_and_the_end(server, topic, version):
    with speak(server, version) as client:
        client.send("SUBSCRIBE", destination=topic, id="1", ack="auto", receipt="1").expect("RECEIPT", receipt_id="1")
        for command in ("ACK", "NACK"):
            client.send(command, {"id": "1", "message-id": "1", "subscription": "1"}, receipt=command)
            client.expect("RECEIPT", receipt_id=command)
        client.send("UNSUBSCRIBE", id="1", receipt="2").expect("RECEIPT", receipt_id="2")
        client.send("SEND", destination=topic, receipt="3").expect("RECEIPT", receipt_id="3")
        client.send("DISCONNECT", receipt="4").expect("RECEIPT", receipt_id="4")
        client.gone()


def test_several_subscriptions_to_one_destination(server, topic):
    with speak(server, "1.2") as client:
        for name in ("a", "b"):
            client.send("SUBSCRIBE", destination=topic, id=name, receipt=name).expect("RECEIPT")
        client.send("SEND", destination=topic)
        assert {client.expect("MESSAGE").headers["subscription"] for _ in range(2)} == {"a", "b"}
        client.send("UNSUBSCRIBE", id="a", receipt="u").expect("RECEIPT")
        client.send("SEND", destination=topic)
        client.expect("MESSAGE", subscription="b")


def test_the_last_value(server, topic):
    with speak(server, "1.2") as client:
        client.send("SEND", {"destination": topic, "receipt": "1"}, b"last").expect("RECEIPT")
        client.send("SUBSCRIBE", {"destination": topic, "id": "1", "x-ebu-nofastreply": "yes"}, receipt="2")
        client.expect("RECEIPT")
        client.send("SUBSCRIBE", destination=topic, id="2")
        assert client.expect("MESSAGE", subscription="2").body == b"last"


@pytest.mark.pace
def test_a_silent_client_is_dropped_and_a_beating_one_stays(server):
    with (
        speak(server, "1.2", **{"heart-beat": "100,0"}) as silent,
        speak(server, "1.1", **{"heart-beat": "100,0"}) as beats,
    ):
        began = time.monotonic()
        gone = None
        while time.monotonic() < began + 1.8:
            beats.raw(b"\n")
            silent.socket.settimeout(0.1)
            try:
                if not silent.socket.recv(10):
                    gone = gone or time.monotonic() - began
                    time.sleep(0.1)
            except TimeoutError:
                continue
            except ConnectionResetError:
                gone = gone or time.monotonic() - began
                time.sleep(0.1)
        assert gone is not None and 0.7 < gone < 4
        beats.send("ACK", receipt="1").expect("RECEIPT")


@pytest.mark.pace
def test_beats_come_when_nothing_else_does(server):
    with speak(server, "1.2", **{"heart-beat": "0,100"}) as client, speak(server, "1.2") as quiet:
        client.socket.settimeout(2)
        began = time.monotonic()
        assert client.socket.recv(10) == b"\n" and client.socket.recv(10) == b"\n"
        assert time.monotonic() - began < 3
        quiet.quiet(0.01)
        assert quiet.buffer == b""


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "-1,0", ""])
def test_a_wrong_heart_beat(server, text):
    with server.client() as client:
        client.send("CONNECT", {"accept-version": "1.2", "heart-beat": text}).error("malformed heart-beat")
        client.gone()


# What our own programs may do


def test_the_feed_tells_every_entry_of_the_log(server, topic):
    with server.connected({"accept-version": "1.2", **OWN}) as own, speak(server, "1.2") as client:
        own.send("SUBSCRIBE", destination="/feed", id="f", receipt="1").expect("RECEIPT")
        client.send("SEND", {"destination": topic, "link": "x"}, b"one")
        while (frame := own.expect("MESSAGE", subscription="f")).headers["destination"] != topic:
            pass
        assert frame.body == b"one" and frame.headers["link"] == "x"
        since = frame.headers["offset"]
        client.send("SEND", {"destination": topic}, b"two")
        assert int(own.expect("MESSAGE", destination=topic).headers["offset"]) > int(since)
        with server.connected({"accept-version": "1.2", **OWN}) as late:
            late.send("SUBSCRIBE", destination="/feed", id="f", since=since)
            assert late.expect("MESSAGE", destination=topic).body == b"two"


def test_a_lock_has_one_holder_at_a_time(server):
    one, two = (server.connected({"accept-version": "1.2", **OWN}) for _ in range(2))
    with two:
        one.send("SUBSCRIBE", destination="/lock/x", id="1", receipt="r").expect("RECEIPT")
        one.expect("MESSAGE", destination="/lock/x", subscription="1")
        two.send("SUBSCRIBE", destination="/lock/x", id="2", receipt="r").expect("RECEIPT")
        two.quiet()
        one.close()
        two.expect("MESSAGE", destination="/lock/x", subscription="2")


def test_feed_and_locks_are_nothing_to_others(server, topic):
    with speak(server, "1.2") as client:
        for name in ("/feed", "/lock/x"):
            client.send("SUBSCRIBE", destination=name, id=name, receipt="1").expect("RECEIPT")
        client.send("SEND", destination=topic, receipt="2").expect("RECEIPT", receipt_id="2")
        client.quiet()
