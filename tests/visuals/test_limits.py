"""Slow clients, bursts, limits, TLS, restarts, and the ways to start the program."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from station.visuals import passwords
from station.visuals import server as serving
from station.visuals.settings import Tls
from tests.visuals import kit_core as kit
from tests.visuals.kit_core import DAB, LOGIN

pytestmark = pytest.mark.media
TOPIC = DAB + "text"


@pytest.fixture
def start(tmp_path):
    servers = []

    def begin(**options):
        server = kit.Server(tmp_path, **options)
        servers.append(server)
        return server.start()

    yield begin
    for server in servers:
        if server.process.poll() is None:
            assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


def small(server):
    """A client that takes nothing: its socket holds little."""
    client = kit.Client.__new__(kit.Client)
    client.buffer = b""
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.connect(("127.0.0.1", server.port))
    client.send("CONNECT").expect("CONNECTED")
    client.send("SUBSCRIBE", destination=TOPIC).sync()
    return client


def test_a_slow_client_is_dropped_alone_and_delays_nobody(start):
    server = start(queue={"messages": 40, "bytes": 1 << 20})
    body = b"x" * 50_000
    with server.connected(LOGIN) as sender, server.connected() as fast, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(small(server)) for _ in range(10)]
        fast.send("SUBSCRIBE", destination=TOPIC).sync()
        before, longest, highest = server.memory(), 0.0, 0
        # their queues fill when the kernel holds no more for them, which is not for all at the same message
        for sent in range(300):
            began = time.monotonic()
            sender.send("SEND", {"destination": TOPIC}, body)
            assert fast.expect("MESSAGE").body == body
            longest = max(longest, time.monotonic() - began)
            highest = max(highest, server.memory())
            if sent >= 60 and server.log.read_text().count("queue full") == len(slow):
                break
        assert longest < 2
        assert highest - before < 10 * (1 << 20) + (8 << 20)
        fast.alive()
        assert server.log.read_text().count("queue full") == len(slow)
        for client in slow:
            with pytest.raises((ConnectionError, AssertionError)):
                while True:
                    client.expect("MESSAGE")


@pytest.mark.pace
def test_a_burst_drops_nobody_who_reads(start):
    server = start()
    count = 6000
    with server.connected(LOGIN) as sender, small(server) as slowly, server.connected() as fast:
        fast.send("SUBSCRIBE", destination=TOPIC).sync()
        frame = f"SEND\ndestination:{TOPIC}\n\n".encode() + b"x" * 200 + b"\0"
        sender.socket.settimeout(30)
        readers = {fast.socket: 0, slowly.socket: 0}
        data = memoryview(frame * count)
        for plug in (sender.socket, *readers):
            plug.setblocking(False)
        end = time.monotonic() + 30
        while min(readers.values()) < count:
            assert time.monotonic() < end, readers
            if data:
                with contextlib.suppress(BlockingIOError):
                    data = data[sender.socket.send(data[:100_000]) :]
            for plug in readers:
                try:
                    got = plug.recv(16384)
                except BlockingIOError:
                    continue
                assert got, "dropped"
                readers[plug] += got.count(b"\0")
            time.sleep(0.0005)
        assert set(readers.values()) == {count}


def test_a_client_that_never_connects_is_dropped(start):
    server = start(connect_timeout=0.3)
    with server.client() as silent, server.client() as drips:
        began = time.monotonic()
        drips.raw(b"CONNECT\n")
        for client in (silent, drips):
            client.gone()
        assert 0.2 < time.monotonic() - began < 5


def test_connections_have_limits(start):
    server = start(connections={"total": 4, "per_address": 3}, stomp_address="")
    clients = [server.connected() for _ in range(3)]
    with server.client() as more:
        more.error("Too many connections")
        more.gone()
    with kit.Client(server.port, "::1") as other:
        other.send("CONNECT").expect("CONNECTED")
        with kit.Client(server.port, "::1") as more:
            more.error("Too many connections")
        other.alive()
    clients.pop().close()
    for client in clients:
        client.alive()
    time.sleep(0.05)
    with server.connected() as again:
        again.alive()
    for client in clients:
        client.close()


def test_frames_and_subscriptions_have_limits(start):
    server = start()
    with server.client() as client:
        client.raw(b"CONNECT\nx:" + b"y" * 20_000).error("malformed frame")
        client.gone()
    with server.connected(LOGIN) as client:
        client.raw(b"SEND\n" + b"a:b\n" * 70 + b"\n\0").error("malformed frame")
        client.gone()
    with server.connected(LOGIN) as client:
        client.raw(f"SEND\ndestination:{TOPIC}\n\n".encode() + b"x" * 300_000).error("malformed frame")
        client.gone()
    with server.connected() as client:
        for number in range(1000):
            client.send("SUBSCRIBE", destination=f"/x/{number}")
        client.alive()
        client.send("SUBSCRIBE", destination="/x/1000").error("Too many subscriptions.")
        client.send("UNSUBSCRIBE", destination="/x/7").send("SUBSCRIBE", destination="/x/1000").alive()


def test_last_values_and_the_end_of_the_program(start):
    server = start()
    with server.connected(LOGIN) as sender, server.connected({"accept-version": "1.2"}) as client:
        sender.send("SEND", {"destination": TOPIC, "receipt": "1"}, b"kept").expect("RECEIPT")
        client.send("SUBSCRIBE", destination=TOPIC, id="1")
        identity = client.expect("MESSAGE").headers["message-id"]
        assert server.stop() == 0
        client.gone()
        sender.gone()
    server.start()
    with server.connected() as client:
        client.send("SUBSCRIBE", destination=TOPIC)
        frame = client.expect("MESSAGE", message_id=identity)
        assert frame.body == b"kept"
        client.alive()


def certificate(serial):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def test_with_tls_no_login_goes_over_the_network_in_clear(start):
    public, private = certificate(7)
    port = kit.free_port()
    users = {"1": {"users": {"studio": passwords.hashed("right")}, "channels": [{"topic": DAB}]}}
    server = start(tls={"certificate": public, "private_key": private, "stomp_port": port}, broadcasters=users)
    context = ssl.create_default_context(cadata=public)
    login = {"login": "1.studio", "passcode": "right"}
    with server.client() as client:
        client.send("CONNECT", login).error("Wrong credentials")
    with server.client() as client:
        client.send("CONNECT", kit.OWN).error("Wrong credentials")
    with server.connected() as radio, kit.Client(port, context=context) as studio:
        radio.send("SUBSCRIBE", destination=TOPIC).sync()
        studio.send("CONNECT", {**login, "accept-version": "1.2"}).expect("CONNECTED")
        for number in range(4):
            studio.send("ACK", receipt=str(number)).expect("RECEIPT", receipt_id=str(number))
        studio.send("SEND", {"destination": TOPIC, "receipt": "1"}, b"x" * 200_000).expect("RECEIPT")
        assert len(radio.expect("MESSAGE").body) == 200_000
        studio.send("DISCONNECT", receipt="2").expect("RECEIPT")
        studio.gone()
    assert "right" not in server.log.read_text()


def test_a_new_certificate_is_used_without_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "CERTIFICATE_CHECK", 0.05)
    path = tmp_path / "certificate.pem"
    public, private = certificate(1)
    path.write_text(public)
    tls = Tls(path, private)
    context = serving.make_context(tls)
    loads = []
    real = serving._load
    monkeypatch.setattr(serving, "_load", lambda *args: loads.append(1) or real(*args))

    async def run():
        task = asyncio.create_task(serving.Server._renew(None, tls, path, context))
        await asyncio.sleep(0.15)
        assert not loads
        path.write_text("nonsense")
        while len(loads) < 1:
            await asyncio.sleep(0.01)
        path.write_text(public + "\n")
        while len(loads) < 2:
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    asyncio.run(run())


def fails(tmp_path, environ, *arguments, **options):
    server = kit.Server(tmp_path, **options)
    with pytest.raises(AssertionError):
        server.start(*arguments, environ=environ)
    return server.process.returncode, server.log.read_text()


def test_what_cannot_be_used_is_said_and_ends_the_program(tmp_path):
    public, private = certificate(1)
    other = certificate(2)[1]
    bad = {"1": {"users": {"a": ["never-shown"]}}}
    status, text = fails(tmp_path, {}, broadcasters=bad)
    assert status == 78 and "options.broadcasters.1.users.a" in text and "never-shown" not in text
    status, text = fails(tmp_path, {"STOMP_PORT": "x"})
    assert status == 78 and "STOMP_PORT" in text
    status, text = fails(tmp_path, {}, broadcasters={}, tls={"certificate": public, "private_key": other})
    assert status == 78 and "options.tls" in text and private not in text


def test_the_originals_environment(tmp_path, start):
    server = kit.Server(tmp_path)
    environ = {"STOMP_IP": "127.0.0.1", "STOMP_PORT": str(server.port), "MEMCACHED_HOST": "m", "LOG_LEVEL": "INFO"}
    command = [kit.PYTHON, "-m", "station.visuals"]
    nothing = subprocess.run(command, cwd=kit.ROOT, capture_output=True, text=True, check=False)
    assert nothing.returncode == 2 and "--config" in nothing.stderr
    server.config.write_text("{}")
    environ = {**os.environ, "PYTHONPATH": str(kit.ROOT), **environ}
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=log)
    try:
        end = time.monotonic() + 10
        while "STOMP on port" not in server.log.read_text():
            assert time.monotonic() < end and process.poll() is None, server.log.read_text()
            time.sleep(0.02)
        with server.connected() as client:
            client.alive()
        assert "MEMCACHED_HOST is ignored" in server.log.read_text()
    finally:
        process.terminate()
        assert process.wait(10) == 0
    overruled = kit.Server(tmp_path)
    real = overruled.port
    overruled.options["stomp_port"] = 1
    overruled.start(environ={"STOMP_PORT": str(real)})
    assert overruled.stop() == 0


def test_what_systemd_is_told(tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
        plug.bind(str(path))
        plug.settimeout(5)
        server = kit.Server(tmp_path).start(environ={"NOTIFY_SOCKET": str(path)})
        with server.connected() as client:
            client.send("SUBSCRIBE", destination="/x").sync()
            told = []
            while "STATUS=1 clients, 1 subscriptions" not in told or "WATCHDOG=1" not in told:
                told += plug.recv(4096).decode().split("\n")
            assert told[0] == "READY=1"
            limits = (tmp_path.parent.joinpath("/proc") / str(server.process.pid) / "limits").read_text()
            soft, hard = limits.split("Max open files")[1].split()[:2]
            assert soft == hard
        assert server.stop() == 0
        plug.settimeout(0.1)
        with pytest.raises(TimeoutError):
            while True:
                told += plug.recv(4096).decode().split("\n")
        assert "STOPPING=1" in told


def test_the_example_and_the_test_mode(tmp_path):
    command = [kit.PYTHON, "-m", "station.visuals"]
    example = subprocess.run([*command, "--example"], cwd=kit.ROOT, capture_output=True, text=True, check=True).stdout
    server = kit.Server(tmp_path)
    server.config.write_text(example)
    assert '"stomp_port": 61613' in example
    (tmp_path / "example.json").write_text(example.replace("61613", str(server.port)).replace("8061", str(server.http)))
    server.start("--config", str(tmp_path / "example.json"))
    topic = "/topic/fm/ch/c221/09580/text"
    with server.connected({"login": "1.studio", "passcode": "example-password"}) as client:
        client.send("SUBSCRIBE", destination=topic).send("SEND", {"destination": topic}, b"TEXT it works")
        assert client.expect("MESSAGE", destination=topic).body == b"TEXT it works"
    assert server.stop() == 0
    server.port = 61424
    server.start("--test")
    server.connected().close()
    assert server.stop() == 0
