"""The original's dialect, one behaviour after the other, over real sockets."""

import re
import time
import uuid

import pytest

from tests.visuals import kit_core as kit
from tests.visuals.kit_core import DAB, LOGIN, ONE, OTHER, OWN, PARK

pytestmark = pytest.mark.media
FORMAT = "Your destination does not matcht required format."
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
numbers = iter(range(1, 1 << 30))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = kit.Server(tmp_path_factory.mktemp("visuals")).start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def topic():
    """A topic of broadcaster 1 that no test had before."""
    return f"{DAB}t{next(numbers)}/text"


@pytest.fixture
def sender(server):
    with server.connected(LOGIN) as client:
        yield client


@pytest.fixture
def listener(server):
    with server.connected() as client:
        yield client


def publish(client, destination, body=b"TEXT x", **headers):
    client.send("SEND", {"destination": destination, "receipt": "sent", **headers}, body)
    client.expect("RECEIPT", receipt_id="sent")


# The first frame


@pytest.mark.parametrize("command", ["SUBSCRIBE", "STOMP", "SEND", "connect", "NONSENSE", "DISCONNECT", "CONNECT:x"])
def test_connect_must_come_first(server, command):
    with server.client() as client:
        client.send(command, destination="/x", receipt="1")
        assert client.frame().raw == b"ERROR\nmessage:Excepted CONNECT\n\n"
        client.gone()


@pytest.mark.parametrize(
    "raw", [b"CONNECT\n\n\0", b" \r\n\n \tCONNECT\r\n\r\n\0", b"\0\0\n\0CONNECT\n\n\0", b"CONNECT\n\0"]
)
def test_framing_of_the_first_frame(server, raw):
    with server.client() as client:
        client.raw(raw).expect("CONNECTED")


def test_a_frame_may_come_in_pieces(server):
    with server.client() as client:
        for byte in b"CONNECT\r\nrequest-id:7\r\n\r\n\0":
            client.raw(bytes([byte]))
        client.expect("CONNECTED", response_id="7")


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({}, ["session"]),
        ({"request-id": "a"}, ["response-id", "session"]),
        ({"receipt": "b"}, ["receipt-id", "session"]),
        ({"receipt": "b", "request-id": "a"}, ["response-id", "receipt-id", "session"]),
        ({"accept-version": "1.0", "heart-beat": "1000,1000"}, ["session"]),
    ],
)
def test_headers_of_connected(server, headers, names):
    with server.client() as client:
        frame = client.send("CONNECT", headers).expect("CONNECTED")
        assert [name for name, _ in frame.items] == names
        assert UUID.fullmatch(frame.headers["session"])
        assert frame.headers.get("response-id", "a") == "a"
        assert frame.headers.get("receipt-id", "b") == "b"


def test_each_session_has_an_id_of_its_own(server):
    with server.client() as one, server.client() as two:
        ids = {client.send("CONNECT").frame().headers["session"] for client in (one, two)}
        assert len(ids) == 2


@pytest.mark.parametrize(
    ("login", "passcode"),
    [
        ("1.studio", "secret-of-one"),
        (" 1.studio ", "\tsecret-of-one "),
        ("", ""),
        (" ", " "),
        ("stationmaster", "token-of-the-event"),
    ],
)
def test_a_login_that_is_right(server, login, passcode):
    with server.client() as client:
        client.send("CONNECT", login=login, passcode=passcode).expect("CONNECTED")


@pytest.mark.parametrize(
    ("login", "passcode"),
    [
        ("1.studio", "wrong"),
        ("1.studio", ""),
        ("1.studio", "secret-of-two"),
        ("1.nobody", "secret-of-one"),
        ("9.studio", "secret-of-one"),
        ("studio", "secret-of-one"),
        ("1", "secret-of-one"),
        ("", "secret-of-one"),
        ("3.studio", "x"),
        ("stationmaster", "token"),
        ("stationmaster", ""),
    ],
)
def test_a_login_that_is_wrong(server, login, passcode):
    with server.client() as client:
        client.send("CONNECT", login=login, passcode=passcode)
        assert client.frame().raw == b"ERROR\nmessage:Wrong credentials\n\n"
        client.gone()


# Frames after it


def test_an_unknown_command_is_not_answered(listener):
    listener.send("NONSENSE").send("ACK").send("BEGIN").send("COMMIT").send("ABORT").send("CONNECT").alive()


@pytest.mark.parametrize("command", ["NONSENSE", "ACK", "BEGIN", "NACK", "CONNECT", "STOMP"])
def test_a_receipt_for_whatever(listener, command):
    listener.send(command, receipt="r 1").expect("RECEIPT", receipt_id="r 1")
    listener.alive()


@pytest.mark.parametrize(
    ("command", "headers", "errors"),
    [
        ("SUBSCRIBE", {}, ["You need a destination to subscribe."]),
        ("SUBSCRIBE", {"destination": "  "}, ["You need a destination to subscribe."]),
        ("SUBSCRIBE", {"destination": "/topic/fm/ce1/c221"}, [FORMAT]),
        (
            "SUBSCRIBE",
            {"destination": "/topic/fm/ce1/c2/09580/text"},
            [FORMAT],
        ),
        (
            "SUBSCRIBE",
            {"destination": "/topic/fm/ce1/c221/9580/text"},
            [FORMAT],
        ),
        ("UNSUBSCRIBE", {}, ["No ID or channel", "Not subscribled"]),
        ("UNSUBSCRIBE", {"id": "5"}, ["Unknow ID", "Not subscribled"]),
        ("UNSUBSCRIBE", {"destination": "/topic/x"}, ["Not subscribled"]),
        ("SEND", {"destination": ONE + "text"}, ["You cannot do that."]),
        ("SEND", {}, ["You cannot do that."]),
    ],
)
@pytest.mark.parametrize("receipt", [False, True])
def test_errors_keep_the_connection(listener, command, headers, errors, receipt):
    listener.send(command, headers, **({"receipt": "7"} if receipt else {}))
    if receipt:
        assert listener.frame().raw == b"RECEIPT\nreceipt-id:7\n\n"
    for text in errors:
        assert listener.frame().raw == f"ERROR\nmessage:{text}\n\n".encode()
    listener.alive()


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "No destination ?"),
        ({"destination": "/topic/id/example.org/two/text"}, "You cannot do that."),
        ({"destination": "/topic/fm/ce1/c221/0958"}, "You cannot do that."),
        ({"destination": "x" + ONE}, "You cannot do that."),
    ],
)
def test_a_send_that_may_not_be(sender, headers, error):
    sender.send("SEND", headers, b"x", receipt="9")
    sender.expect("RECEIPT", receipt_id="9")
    sender.error(error)
    sender.alive()


def test_disconnect_closes(server, topic):
    with server.connected() as client:
        client.send("DISCONNECT").gone()
    with server.connected(LOGIN) as client:
        client.send("SEND", destination=topic).send("DISCONNECT", receipt="bye").send("SUBSCRIBE", destination="x")
        client.expect("RECEIPT", receipt_id="bye")
        client.gone()


# Messages


def test_a_message_and_its_headers(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=topic, id="my id").sync()
    before = int(time.time())
    headers = {"trigger-time": "NOW", "link": "http://example.org/a:b", "message-id": "mine-" + topic}
    publish(sender, topic, b"SHOW http://example.org/1.png", **headers, **{"content-type": "text/plain", "x": "y"})
    frame = listener.expect("MESSAGE", **headers, subscription="my id")
    assert frame.items[0] == ("destination", topic) and frame.items[-1] == ("subscription", "my id")
    assert {name for name, _ in frame.items} == {"destination", "when", "subscription", *headers}
    assert before <= int(frame.headers["when"]) <= time.time()
    assert frame.body == b"SHOW http://example.org/1.png"


def test_a_message_id_is_made_where_none_is_given(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=topic).sync()
    for _ in range(2):
        publish(sender, topic)
    ids = {listener.expect("MESSAGE").headers["message-id"] for _ in range(2)}
    assert len(ids) == 2 and all(uuid.UUID(name) for name in ids)


def test_no_subscription_header_without_id(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=f"  {topic}\t").sync()
    publish(sender, topic)
    assert {name for name, _ in listener.expect("MESSAGE").items} == {"destination", "when", "message-id"}


def test_bodies_and_headers_of_several_kinds(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=topic).sync()
    sender.raw(
        b" \n\r\n SEND\r\ndestination:"
        + topic.encode()
        + b"\r\nlink:a:b: c \nlink:second\ncontent-length:2\nbare\n\r\n"
        b"one\r\ntwo\n\nthree\0\n\0 \0"
        b"SEND\ndestination:" + topic.encode() + b"\n\n\0\r\n"
        b"SEND\ndestination:" + topic.encode() + "\n\nGrüße\n".encode() + b"\0"
    )
    frame = listener.expect("MESSAGE", link="a:b: c ")
    assert frame.body == b"one\ntwo\n\nthree"
    assert listener.expect("MESSAGE").body == b""
    assert listener.expect("MESSAGE").body == "Grüße\n".encode()


def test_one_hears_oneself_and_the_receipt_comes_first(sender, topic):
    sender.send("SUBSCRIBE", destination=topic)
    for number in range(50):
        sender.send("SEND", destination=topic, receipt=str(number))
        sender.expect("RECEIPT", receipt_id=str(number))
        sender.expect("MESSAGE", destination=topic)


def test_others_topics_are_not_heard(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=topic).send("SUBSCRIBE", destination=topic + "x").sync()
    publish(sender, topic[:-1])
    publish(sender, topic + "x")
    listener.expect("MESSAGE", destination=topic + "x")
    listener.alive()


def test_the_last_value_at_subscription(sender, listener, topic):
    publish(sender, topic, b"first")
    publish(sender, topic, b"last", link="http://l")
    listener.send("SUBSCRIBE", destination=topic, id="1", receipt="r")
    listener.expect("RECEIPT")
    assert listener.expect("MESSAGE", link="http://l", subscription="1").body == b"last"
    listener.alive()


@pytest.mark.parametrize(("value", "wanted"), [("yes", False), ("no", True), ("YES", True)])
def test_no_last_value_if_it_is_not_wanted(sender, listener, topic, value, wanted):
    publish(sender, topic)
    listener.send("SUBSCRIBE", {"destination": topic, "x-ebu-nofastreply": value})
    if wanted:
        listener.expect("MESSAGE")
    listener.alive()
    publish(sender, topic)
    listener.expect("MESSAGE")


@pytest.mark.parametrize("by", ["destination", "id"])
def test_unsubscribe(sender, listener, topic, by):
    listener.send("SUBSCRIBE", destination=topic, id="q").sync()
    listener.send("UNSUBSCRIBE", {by: {"destination": topic, "id": "q"}[by]}, receipt="u").expect("RECEIPT")
    publish(sender, topic)
    listener.alive()
    listener.send("UNSUBSCRIBE", {"destination": topic}).error("Not subscribled")


def test_subscribing_twice_gives_one_message(sender, listener, topic):
    listener.send("SUBSCRIBE", destination=topic, id="a").send("SUBSCRIBE", destination=topic, id="b").sync()
    publish(sender, topic)
    listener.expect("MESSAGE", subscription="b")
    listener.alive()


def test_a_broadcast_goes_to_all_channels_of_the_station(server, sender, listener):
    name = f"b{next(numbers)}"
    for channel in (ONE, DAB, "/topic/id/example.org/two/"):
        listener.send("SUBSCRIBE", destination=channel + name).sync()
    publish(sender, "/topic/*/" + name, b"all", link="http://l")
    frames = [listener.expect("MESSAGE", link="http://l") for _ in range(2)]
    assert {frame.headers["destination"] for frame in frames} == {ONE + name, DAB + name}
    assert len({frame.headers["message-id"] for frame in frames}) == 1
    listener.alive()
    with server.connected(OTHER) as other:
        publish(other, "/topic/*/" + name)
    listener.expect("MESSAGE", destination="/topic/id/example.org/two/" + name)


def test_our_own_programs_may_send_everywhere(server, listener):
    topic = f"/topic/any/{next(numbers)}"
    listener.send("SUBSCRIBE", destination=topic).sync()
    with server.connected(OWN) as own:
        publish(own, topic, timestamp="1", expires="0")
    listener.expect("MESSAGE", timestamp="1", expires="0")


# FM


def test_a_two_letter_country_is_converted_and_the_clients_own_string_kept(sender, listener):
    own = "/topic/fm/ch/c221/09580/text"
    listener.send("SUBSCRIBE", {"destination": own, "x-ebu-nofastreply": "yes"}).sync()
    publish(sender, own, b"1")
    publish(sender, ONE + "text", b"2")
    assert [listener.expect("MESSAGE", destination=own).body for _ in range(2)] == [b"1", b"2"]
    listener.send("UNSUBSCRIBE", destination=own, receipt="u").expect("RECEIPT")
    publish(sender, own, b"3")
    listener.alive()


@pytest.mark.parametrize("given", ["/topic/fm/ch/c221/09580/image", ONE + "image"])
@pytest.mark.parametrize("taken", ["/topic/fm/ch/c221/09580/image", ONE + "image"])
def test_either_string_unsubscribes(listener, given, taken):
    listener.send("SUBSCRIBE", {"destination": given, "x-ebu-nofastreply": "yes"}).sync()
    listener.send("UNSUBSCRIBE", destination=taken).alive()


def test_an_unknown_frequency_stands_for_all(sender, listener):
    listener.send("SUBSCRIBE", destination="/topic/fm/ce1/c444/08888/text", id="w").sync()
    publish(sender, "/topic/fm/ce1/c444/10000/text", b"exact")
    publish(sender, PARK + "text", b"wild")
    assert [listener.expect("MESSAGE", subscription="w").body for _ in range(2)] == [b"exact", b"wild"]
    listener.send("UNSUBSCRIBE", destination="/topic/fm/ce1/c444/08888/text").alive()
    listener.send("SUBSCRIBE", destination=PARK + "text")
    assert listener.expect("MESSAGE", destination=PARK + "text").body == b"wild"


def test_a_message_to_all_frequencies_reaches_the_exact_one(sender, server, listener):
    with server.connected(OWN) as own:
        listener.send("SUBSCRIBE", {"destination": ONE + "wide", "x-ebu-nofastreply": "yes"}).sync()
        publish(own, "/topic/fm/ce1/c221/*/wide", b"to all")
        assert listener.expect("MESSAGE", destination=ONE + "wide").body == b"to all"


def test_a_broadcast_reaches_one_wildcard_once(sender, listener):
    name = f"b{next(numbers)}"
    listener.send("SUBSCRIBE", destination=PARK + name).sync()
    publish(sender, "/topic/*/" + name)
    listener.expect("MESSAGE")
    listener.alive()
