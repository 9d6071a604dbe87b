"""The lab's pure parts: package sources, control groups, known hosts, records, image names."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from stationmaster.lab import cgroups, files, image, keys, lab, network, store
from stationmaster.lab.errors import LabError
from stationmaster.lab.plan import StationPlan, plan
from stationmaster.lab.sources import debian_lines
from stationmaster.lab.store import LabRecord, StationRecord
from stationmaster.lab.system import locked, suppress_gone
from stationmaster.lab.wish import Wish

TARGET = """\
Component: {component}
Codename: {codename}
Origin: {origin}
Release: {codename}
Repo-URI: {uri}
"""


def target(
    codename: str, uri: str = "http://mirror.example/debian/", origin: str = "Debian", component: str = "main"
) -> str:
    return TARGET.format(codename=codename, uri=uri, origin=origin, component=component)


def test_only_debian_sources_are_taken_and_as_debian_12():
    targets = "\n".join(
        [
            target("trixie"),
            target("trixie", component="contrib"),
            target("trixie"),
            target("trixie-updates"),
            target("trixie-backports"),
            target("trixie-security", "http://mirror.example/security/"),
            target("trixie", "http://vendor.example/", origin="Vendor"),
            target("trixie", "http://docker.example/", component="stable"),
        ]
    )
    assert debian_lines(targets, signed_by=False) == [
        "deb http://mirror.example/debian/ bookworm main contrib",
        "deb http://mirror.example/debian/ bookworm-updates main",
        "deb http://mirror.example/security/ bookworm-security main",
    ]


def test_sources_whose_lists_were_never_fetched_are_taken_by_their_suite():
    targets = "Component: main\nRelease: bookworm\nRepo-URI: http://mirror.example/debian/\n"
    assert debian_lines(targets, signed_by=True)[0].endswith("gpg] http://mirror.example/debian/ bookworm main")


HYBRID = """\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
35 30 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
"""
UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_hierarchies_of_a_hybrid_host():
    found = cgroups.hierarchies(HYBRID)
    assert [point.name for point in found] == ["systemd", "unified", "cpu,cpuacct"]
    assert not cgroups.unified(found)


def test_the_hierarchy_of_a_v2_host():
    assert cgroups.unified(cgroups.hierarchies(UNIFIED))


def test_a_host_without_usable_hierarchies_is_refused():
    with pytest.raises(LabError, match="cgroup"):
        cgroups.hierarchies("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")


def station(last: int, name: str = "cam") -> StationPlan:
    return StationPlan(name, IPv4Address(f"10.99.1.{last}"), "02:00:00:00:00:01")


def test_known_hosts_of_other_labs_and_real_stations_stay():
    real = "hall-a-cam,192.0.2.17 ssh-ed25519 AAAA\n"
    other = "cam,10.99.2.17 ssh-ed25519 BBBB stationmaster-lab:10.99.2.0-24\n"
    first = keys.merged(real + other, "10.99.1.0-24", {"cam": (station(17), "ssh-ed25519 CCCC root@host")})
    assert first == real + other + "cam,10.99.1.17 ssh-ed25519 CCCC stationmaster-lab:10.99.1.0-24\n"
    second = keys.merged(first, "10.99.1.0-24", {"cam": (station(17), "ssh-ed25519 DDDD")})
    assert "CCCC" not in second
    assert "DDDD" in second
    assert keys.merged(second, "10.99.1.0-24", {}) == real + other


def test_a_stale_key_of_an_address_goes():
    stale = "old,10.99.1.17 ssh-ed25519 AAAA\n"
    assert "AAAA" not in keys.merged(stale, "10.99.1.0-24", {"cam": (station(17), "ssh-ed25519 CCCC")})


def test_records_survive_the_disk(tmp_path):
    record = LabRecord(
        "10.99.1.0/24", "/a", "/a/inventory", {"cam": StationRecord("10.99.1.17", "02:00:00:00:00:01", "ab", "k")}
    )
    store.save("10.99.1.0-24", record, tmp_path)
    assert store.load("10.99.1.0-24", tmp_path) == record
    assert [name for name, _ in store.records(tmp_path)] == ["10.99.1.0-24"]
    assert record.plan().stations["cam"].port == "smp0a630111"
    assert store.load("10.99.2.0-24", tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "stations": {"cam": {}}}'])
def test_a_record_that_is_none_is_named(tmp_path, text):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json"):
        store.load("x", tmp_path)


def test_a_lab_of_another_version_is_there_all_the_same(tmp_path):
    (tmp_path / "10.99.1.0-24").mkdir()
    (tmp_path / "10.99.1.0-24/lab.json").write_text('{"schema": 2}')
    [(name, record)] = store.records(tmp_path)
    assert (name, record.network, record.stations) == ("10.99.1.0-24", "10.99.1.0/24", {})


def test_an_image_is_in_use_before_the_first_station_is_made(tmp_path):
    store.save("10.99.1.0-24", LabRecord("10.99.1.0/24", "/a", "/a/inventory"), tmp_path)
    store.use_image("10.99.1.0-24", "abc", tmp_path)
    assert store.images(tmp_path) == {"abc"}


def test_others_lines_in_a_stations_hosts_and_keys_stay():
    made = plan([{"name": "cam", "address": "10.99.1.17", "mac": None}])
    first = files.hosts(made)
    assert first.splitlines()[2:] == ["10.99.1.17 cam", "10.99.1.1 controller"]
    assert files.hosts(made, first) == first
    changed = files.hosts(made, "192.0.2.1 printer\n\n10.99.1.18 cam\n")
    assert changed.splitlines() == ["192.0.2.1 printer", "", "10.99.1.17 cam", "10.99.1.1 controller"]
    assert files.authorized_keys("ours", "theirs\n") == "theirs\nours\n"
    assert files.authorized_keys("ours", "ours\ntheirs\n") == "ours\ntheirs\n"


@pytest.mark.parametrize(
    ("number", "passes"), [(errno.ESRCH, True), (errno.ENOENT, True), (errno.ENODEV, True), (errno.EIO, False)]
)
def test_what_vanishes_while_it_is_looked_at_is_no_error(number, passes):
    """A control group that systemd removes between open and read gives ENODEV."""
    with nullcontext() if passes else pytest.raises(OSError, match="gone"), suppress_gone():
        raise OSError(number, "gone")


def test_an_orphaned_lab_is_told(tmp_path):
    record = LabRecord("10.99.1.0/24", str(tmp_path), str(tmp_path))
    assert not record.orphaned()
    assert replace(record, inventory=str(tmp_path / "gone")).orphaned()


def test_packages_come_from_the_roles_that_are_there(tmp_path):
    for role, text in (
        ("ingest", "packages: [ffmpeg, curl]"),
        ("record", "summary: none"),
        ("relay", "packages: [ffmpeg]"),
    ):
        (tmp_path / role).mkdir()
        (tmp_path / role / "role.yml").write_text(text)
    (tmp_path / "lab").mkdir()
    assert image.role_packages(tmp_path) == ["curl", "ffmpeg"]


def test_an_images_name_depends_on_its_packages_alone():
    assert image.name_of(["a", "b"]) == image.name_of(["b", "a", "b"])
    assert image.name_of(["a"]) != image.name_of(["a", "b"])


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(image, "CACHE", cache)
    monkeypatch.setattr(image, "host_sources", lambda: ["deb file:/nowhere bookworm main"])
    monkeypatch.setattr(image, "host_options", list)
    monkeypatch.setattr(image.subprocess, "run", _failing)
    (cache / "building-left").mkdir(parents=True)
    with pytest.raises(LabError, match="no such mirror"):
        image.ensure(["ffmpeg"], lambda text: None)
    assert list(cache.iterdir()) == []


def test_two_at_once_build_one_image(tmp_path, monkeypatch):
    builds = []

    def build(folder, packages, handle):
        builds.append(packages)
        time.sleep(0.3)

    monkeypatch.setattr(image, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(image, "_build", build)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: image.ensure(["ffmpeg"], lambda text: None), range(2)))
    assert len(builds) == 1
    assert sorted(built for _, built in done) == [False, True]


def test_only_root_can_have_a_lab(monkeypatch):
    monkeypatch.setattr(lab.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="root"):
        lab.present(Wish([{"name": "cam", "address": "10.99.1.17", "mac": None}], Path("/inventory")))


def _failing(command, stdout, **_):
    stdout.write("E: no such mirror\n")
    stdout.flush()
    return type("Done", (), {"returncode": 1})


def test_an_interface_of_the_host_in_the_labs_network_is_named():
    addresses = '[{"ifname": "eth0", "addr_info": [{"local": "10.99.1.5", "prefixlen": 16}]}]'
    assert network.holder_of(IPv4Network("10.99.4.0/24"), addresses) == "eth0 (10.99.1.5/16)"
    assert network.holder_of(IPv4Network("10.98.4.0/24"), addresses) is None


def test_a_lock_is_exclusive_and_leaves_no_file(tmp_path: Path):
    folder = tmp_path / "lab"
    with locked(folder, 1, "busy"):
        with pytest.raises(LabError, match="busy"), locked(folder, 0.2, "busy"):
            pass
        assert list(folder.iterdir()) == []
    with locked(folder, 1, "busy"):
        pass
