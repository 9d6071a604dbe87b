"""What a lab should be: addresses, names, refusals."""

from ipaddress import IPv4Address

import pytest

from stationmaster.lab.errors import LabError
from stationmaster.lab.plan import plan


def host(
    name: str = "cam", address: str | None = "10.99.1.17", mac: str | None = "02:00:00:00:00:01"
) -> dict[str, str | None]:
    return {"name": name, "address": address, "mac": mac}


def test_the_lab_is_the_24_that_holds_the_addresses():
    made = plan([host(), host("enc", "10.99.1.18")])
    assert made.id == "10.99.1.0-24"
    assert made.gateway == IPv4Address("10.99.1.1")
    assert list(made.stations) == ["cam", "enc"]


def test_a_larger_network_can_be_named():
    assert plan([host(), host("enc", "10.99.2.18")], "10.99.0.0/22").id == "10.99.0.0-22"


def test_interface_names_fit_and_differ_between_labs_with_the_same_station_names():
    one, two = plan([host(address="10.99.1.17")]), plan([host(address="10.99.2.17")])
    names = {lab.stations["cam"].port for lab in (one, two)} | {one.bridge, two.bridge}
    assert len(names) == 4
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize("written", ["02:AB:00:00:00:01", "02-ab-00-00-00-01", "02ab.0000.0001", "02ab00000001"])
def test_a_mac_address_may_be_written_in_any_way(written):
    assert plan([host(mac=written)]).stations["cam"].mac == "02:ab:00:00:00:01"


def test_without_a_mac_address_it_derives_from_the_address():
    assert plan([host(mac=None)]).stations["cam"].mac == "02:00:0a:63:01:11"


@pytest.mark.parametrize(
    ("hosts", "subnet", "words"),
    [
        ([], None, ["rooms", "services"]),
        ([host(), host("enc")], None, ["enc", "cam", "10.99.1.17"]),
        ([host(), host("enc", "10.99.2.18")], None, ["cam in 10.99.1.0/24", "enc in 10.99.2.0/24", "lab_subnet"]),
        ([host()], "10.98.0.0/24", ["cam", "10.99.1.17", "event_network"]),
        ([host()], "10.99.1.5/24", ["lab_subnet", "10.83.0.0/24"]),
        ([host(address=None)], None, ["cam", "ansible_host"]),
        ([host(address="cam.example")], None, ["cam", "IPv4", "cam.example"]),
        ([host(address="10.99.1.1")], None, ["10.99.1.1", "keeps for itself"]),
        ([host(address="10.99.1.255")], None, ["10.99.1.255", "keeps for itself"]),
        ([host(mac="02:00:00:00:00")], None, ["cam", "station_mac"]),
        ([host(mac="01:00:00:00:00:01")], None, ["cam", "network card"]),
        ([host("../cam")], None, ["'../cam'", "host name"]),
        ([host("c" * 65)], None, ["64"]),
    ],
)
def test_what_cannot_be_a_lab_is_refused_with_the_reason(hosts, subnet, words):
    with pytest.raises(LabError) as refused:
        plan(hosts, subnet)
    for word in words:
        assert word in str(refused.value)
