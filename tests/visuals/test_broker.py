"""The station role `broker`: Debian's RabbitMQ, supervised."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from station import broker, broker_settings
from station.broker_probe import AmqpProbe
from station.config import ConfigError, load
from station.visuals import amqp
from station.visuals.amqp_link import Node, nodes
from stationmaster import bundle, catalogue, inventory, rules
from tests.ports import free_port
from tests.visuals.kit_broker import PASSWORD, Broker, off
from tests.visuals.kit_bus import Reader, text


def config(folder, **options):
    (folder / "c.json").write_text(json.dumps({"station": "here.example", "address": "127.0.0.2", **options}))
    return load(folder / "c.json", "broker")


def test_what_the_server_is_told_holds_no_password(tmp_path):
    settings = broker_settings.read(config(tmp_path, password=PASSWORD), None)
    told = broker_settings.conf(settings) + json.dumps(broker_settings.definitions(settings))
    told += json.dumps(broker_settings.environment(settings)) + repr(sorted(settings.peers))
    assert PASSWORD not in told
    assert "listeners.tcp.1 = 0.0.0.0:5672\n" in told
    assert settings.node == broker_settings.ALONE
    # rabbitmq.com/passwords.html: base64(salt + sha256(salt + password))
    assert (
        broker_settings.hashed("test12", bytes.fromhex("908DC60A"))
        == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    )


def test_brokers_of_one_id_are_a_cluster(tmp_path):
    here = {"here.example": "127.0.0.2", "b": "127.0.0.3"}
    told = config(tmp_path, password=PASSWORD, listen="127.0.0.2")
    two = broker_settings.read(told, {"nodes": here})
    assert two.node == "here-example@127.0.0.2"
    assert "cluster_partition_handling = autoheal" in broker_settings.conf(two)
    three = broker_settings.conf(broker_settings.read(told, {"nodes": {**here, "c": "127.0.0.4"}}))
    assert "cluster_partition_handling = pause_minority" in three
    assert re.findall(r"nodes\.\d = (.*)", three) == ["b@127.0.0.3", "c@127.0.0.4", "here-example@127.0.0.2"]
    with pytest.raises(ConfigError, match="lacks this station"):
        broker_settings.read(told, {"nodes": {"b": "127.0.0.3", "c": "127.0.0.4"}})


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "options.password"),
        ({"password": "short"}, "options.password"),
        ({"password": PASSWORD, "port": "5672"}, "options.port"),
        ({"password": PASSWORD, "tls": {"certificate": "x", "private_key": "y"}}, "options.tls.certificate"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path, options, key):
    with pytest.raises(ConfigError) as caught:
        broker_settings.read(config(tmp_path, **options), None)
    assert caught.value.key == key


def test_clients_learn_place_and_account_from_what_is_shared(tmp_path):
    shared = {"port": 7000, "user": "u", "password": PASSWORD}
    sources = {
        "a/main": {"role": "broker", "address": "192.0.2.1", "options": shared},
        "b/main": {
            "role": "broker",
            "address": "192.0.2.2",
            "options": {**shared, "tls": {"port": 7001, "certificate": "/c"}},
        },
    }
    (tmp_path / "c.json").write_text(json.dumps({"role": "visuals", "instance": "a", "sources": sources}))
    assert nodes(load(tmp_path / "c.json"), ["a/main", "b/main"]) == [
        Node("192.0.2.1", 7000, "u", PASSWORD),
        Node("192.0.2.2", 7001, "u", PASSWORD, certificate="/c"),
    ]
    with pytest.raises(ConfigError, match="'c/main'"):
        nodes(load(tmp_path / "c.json"), ["c/main"])


@pytest.mark.media
def test_the_role_lists_the_brokers_of_its_own_id(tmp_path):
    roles = catalogue.load()
    folder = Path(shutil.copytree(Path(__file__).parents[2] / "inventory", tmp_path / "inventory"))
    services = folder / "services.yml"
    bus = "        broker: {bus: {password: smt_canary_of_the_bus}}\n"
    places = services.read_text().replace("      station_roles: {}\n", f"      station_roles:\n{bus}")
    services.write_text(places.replace("        target:\n", f"{bus}        target:\n"))
    event = inventory.load(folder, roles=roles)
    assert not rules.check(event, roles)
    made = bundle.render(event, "spare", roles, "r")
    contents = {path: made.blobs[file["sha256"]] for path, file in made.manifest["files"].items() if "broker" in path}

    def content(end):
        return next(text.decode() for path, text in contents.items() if path.endswith(end))

    found = json.loads(content("cluster.json"))
    assert found == {"nodes": {name: event.stations[name].address for name in ("storage", "spare")}}
    (tmp_path / "config.json").write_text(content("/config.json"))
    told = load(tmp_path / "config.json")
    told.options["password"] = PASSWORD
    assert set(broker_settings.read(told, found).peers) == {f"{n}@{a}" for n, a in found["nodes"].items()}
    unit = content(".service")
    assert unit.rindex("MemoryDenyWriteExecute=no") > unit.index("MemoryDenyWriteExecute=yes")
    assert "--peers" in unit
    secret = [path for path, text in contents.items() if b"smt_canary" in text]
    assert secret == [path for path in contents if path.endswith("secrets.json")]


def test_a_folder_of_a_stream_is_measured(tmp_path):
    folder = tmp_path / "stream" / "__stationmaster_visuals_1795269006802253809"
    folder.mkdir(parents=True)
    (folder / "0.segment").write_bytes(b"x" * 100)
    (folder / "0.index").write_bytes(b"x" * 10)
    assert broker.stream_sizes(tmp_path) == {"stationmaster_visuals": 110}
    assert broker.has_copy(tmp_path)
    assert not broker.has_copy(tmp_path / "stream")
    assert amqp.STREAM == broker.STREAM


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=any"
    subprocess.run([*command.split(), "-keyout", "k.pem", "-out", "c.pem"], cwd=folder, check=True, capture_output=True)
    return {"certificate": (folder / "c.pem").read_text(), "private_key": (folder / "k.pem").read_text()}


@pytest.mark.media
def test_a_life_with_tls_and_a_new_password(tmp_path, certificate):
    secure = {**certificate, "port": free_port()}
    server = Broker(tmp_path / "b", listen="0.0.0.0", tls=secure, user="before").start()

    async def talk(node):
        bus = amqp.Broker([node], stream="stationmaster.visuals")
        reader = Reader(bus)
        await asyncio.wait_for(bus.publish(text("hello")), 10)
        await reader.until(lambda r: r.bodies)
        await reader.stop()
        await bus.close()

    try:
        deadline = time.monotonic() + 60
        while AmqpProbe("127.0.0.1", server.port, "before", PASSWORD, 2).failure():
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)
        node = Node("127.0.0.1", secure["port"], "before", PASSWORD, certificate=certificate["certificate"])
        asyncio.run(talk(node))
        # The plain port is there for this machine alone.
        listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        assert f"127.0.0.1:{server.port} " in listening
        assert f"0.0.0.0:{secure['port']} " in listening
        for port in (server.port, server.options["cluster_port"], server.options["names_port"]):
            assert f"0.0.0.0:{port} " not in listening
            assert f"*:{port} " not in listening
        assert AmqpProbe("127.0.0.1", server.port, "guest", "guest", 2).failure()
        # Nothing of the password in arguments or files but what is to be there.
        for pid in (server.process.pid, server.beam()):
            for what in ("cmdline", "environ"):
                assert PASSWORD.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
        found = [p for p in server.folder.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]
        assert [p.name for p in found] == ["broker.json"]
        key = server.folder / "broker-data/run/key.pem"
        assert key.stat().st_mode & 0o777 == 0o400
        assert broker.has_copy(next((server.folder / "broker-data/nodes").glob("*@127.0.0.1")))
        metrics = (server.folder / "broker-data/run/metrics.prom").read_text()
        assert re.search(r"stationmaster_broker_up\{.*} 1\n", metrics)

        started = time.monotonic()
        assert server.stop() == 0, server.log
        assert time.monotonic() - started < 20
        server.options |= {"user": "tester", "password": "quite another one"}
        server.start().wait()
        assert re.search(r'stream_bytes\{.*stream="stationmaster_visuals"} [1-9]', metrics_of(server))
        plain = "127.0.0.1", server.port
        assert AmqpProbe(*plain, "tester", PASSWORD, 2).failure()
        while AmqpProbe(*plain, "before", PASSWORD, 2).failure() is None:  # the user of before is removed
            assert time.monotonic() < deadline + 60, server.log
            time.sleep(0.2)
        asyncio.run(talk(server.node()))
    finally:
        server.stop()
    with contextlib.suppress(OSError):  # nothing of it is left
        socket.create_connection(("127.0.0.1", server.options["names_port"]), 1).close()
        pytest.fail("the name server outlived the broker")


def metrics_of(server):
    """Return the metrics once they are those of the server that runs now."""
    path = server.folder / "broker-data/run/metrics.prom"
    ends = time.monotonic() + 10
    while "broker_up" not in (told := path.read_text()) or "} 1\n" not in told:
        assert time.monotonic() < ends
        time.sleep(0.1)
    return told


@pytest.mark.media
def test_the_example_works_by_itself(tmp_path):
    command = ["/usr/bin/python3", "-m", "station.broker", "--example"]
    example = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert broker_settings.read(config(tmp_path, **example), None).listen == "127.0.0.1"


@pytest.mark.soak
def test_a_cluster_of_three_goes_on_without_one(tmp_path):
    addresses = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}
    (tmp_path / "peers.json").write_text(json.dumps({"nodes": addresses}))
    ports = {key: free_port() for key in ("port", "names_port")}  # each takes a cluster port of its own
    names = subprocess.Popen(["epmd", "-port", str(ports["names_port"])])  # one for all three, as loopback is one
    arguments = ("--peers", str(tmp_path / "peers.json"))
    servers = [
        Broker(tmp_path / name, address, arguments, station=name, **ports).start()
        for name, address in addresses.items()
    ]

    async def main():
        for server in servers:
            await off(server.wait, 120)
        everywhere = [server.node() for server in servers]
        buses = [amqp.Broker(everywhere[n:] + everywhere[:n]) for n in range(3)]
        readers = [Reader(bus) for bus in buses]
        await asyncio.gather(*[buses[n % 3].publish(text(f"{n}")) for n in range(60)])
        for reader in readers:
            await reader.until(lambda r: len(r.bodies) == 60)
        lock = buses[0].lock("one")
        assert await anext(lock) is True
        lost = asyncio.create_task(anext(lock))
        await off(servers[0].kill)
        await asyncio.gather(*[buses[n % 3].publish(text(f"{n}")) for n in range(60, 120)])
        for reader in readers:
            await reader.until(lambda r: len(r.bodies) == 120, 60)
            assert reader.bodies == readers[0].bodies
        assert await asyncio.wait_for(lost, 30) is False
        assert await asyncio.wait_for(anext(lock), 30) is True
        await lock.aclose()
        servers[0].start()
        await off(servers[0].wait, 120)
        await buses[0].publish(text("last"))
        for reader, bus in zip(readers, buses, strict=True):
            await reader.until(lambda r: r.bodies[-1] == "last", 60)
            await reader.stop()
            await bus.close()

    try:
        asyncio.run(main())
    finally:
        for server in servers:
            server.stop()
        names.terminate()
        names.wait()
