"""The lab itself, with two real stations on a network of its own and for a moment a second lab with the same names."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from stationmaster.lab import cgroups, store
from stationmaster.lab.errors import LabError
from stationmaster.lab.lab import find, machine, remove, remove_all
from stationmaster.lab.store import LABS
from stationmaster.lab.system import inner_pid
from stationmaster.lab.wish import CHECKOUT
from tests.labkit import BIN, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

NETWORK, OTHER = "10.99.40", "10.99.41"
STATIONS = {"hall-t-cam": {"station_mac": "02-00-00-00-40-1A"}, "hall-t-encoder-long-name": {}}
CAM, ENC = STATIONS


def traces(network: str) -> dict[str, list[str]]:
    """Return everything on this machine that belongs to the lab on a network, kind by kind."""
    lab = f"{network}.0-24"
    prefix = "".join(f"{int(part):02x}" for part in network.split("."))
    known = CHECKOUT / ".state/ssh/known_hosts"
    lines = known.read_text().splitlines() if known.exists() else []
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cgroup").read_text() + (entry / "mountinfo").read_text() + (entry / "cmdline").read_text()
        except OSError:
            continue
        if f"/{lab}/" in text or f"smlab-{prefix}" in text:
            processes.append(text)
    found = {
        "processes": processes,
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if lab in line],
        "loops": [path for path in _backing_files() if lab in path],
        "links": [path.name for path in Path("/sys/class/net").glob(f"sm[bp]{prefix}*")],
        "groups": [
            str(path)
            for point in cgroups.hierarchies()
            for path in [*point.glob(f"{cgroups.TOP}/{lab}"), *point.glob(f"system.slice/{cgroups.TOP}-{lab}-*")]
        ],
        "files": [
            str(path) for path in [LABS / lab, *Path("/run/systemd/nspawn").glob(f"*/smlab-{prefix}*")] if path.exists()
        ],
        "known": [line for line in lines if line.endswith(lab)],
    }
    return {kind: values for kind, values in found.items() if values}


def _backing_files() -> list[str]:
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def lab():
    made = Lab.of(NETWORK, STATIONS, lab_disk_size="256M")
    made.down()
    assert traces(NETWORK) == {}
    made.up()
    yield made
    made.down()


@pytest.fixture(autouse=True)
def whole(lab):
    """Begin each test with all stations up and without faults."""
    if not lab.whole() or lab.stations != list(STATIONS):
        lab.up()


def test_a_second_time_changes_nothing(lab):
    assert lab.up().changed("localhost") == 0


def test_plain_ansible_reaches_all_stations_from_a_home_without_ssh(lab):
    command = [BIN / "ansible", "-i", lab.inventory, "all", "-m", "ping"]
    with tempfile.TemporaryDirectory() as home:  # a short path: OpenSSH's sockets lie below it
        done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "HOME": home}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(STATIONS)


def test_the_wrong_host_key_is_refused(lab, tmp_path):
    known = tmp_path / "known_hosts"
    key = (CHECKOUT / ".state/ssh/id_ed25519.pub").read_text()
    known.write_text(f"{lab.address(CAM)} {key}")
    done = subprocess.run(
        ["ssh", "-i", CHECKOUT / ".state/ssh/id_ed25519", "-oBatchMode=yes", "-oControlPath=none",
         f"-oUserKnownHostsFile={known}", f"root@{lab.address(CAM)}", "true"], capture_output=True, text=True,
    )  # fmt: skip
    assert "Host key verification failed" in done.stderr


def test_names_addresses_and_identities(lab):
    assert lab.out(CAM, "cat /sys/class/net/host0/address") == "02:00:00:00:40:1a"
    assert "dhcp" not in lab.out(CAM, "ip -4 -o address show host0")
    assert f"{NETWORK}.17/24" in lab.out(CAM, "ip -4 -o address show host0")
    for station in STATIONS:
        assert lab.out(station, "uname -n; cat /etc/hostname").split() == [station, station]
        assert lab.out(station, f"getent hosts {ENC}").split() == [lab.address(ENC), ENC]
        assert lab.wait(station, "systemctl is-system-running").strip() == "running"
    assert lab.read(CAM, "/etc/machine-id") != lab.read(ENC, "/etc/machine-id")


def test_services_of_packages_stay_off(lab):
    enabled = lab.out(CAM, "systemctl list-unit-files --state=enabled --no-legend --no-pager")
    assert [line.split()[0] for line in enabled.splitlines()] == ["ssh.service"]


def test_a_station_has_no_power_over_the_clock(lab):
    assert lab.run(CAM, "systemd-run -q --wait -P date -s 2020-01-01", check=False).returncode != 0


def test_limits_hold(lab):
    unit = "systemd-run --quiet --wait --pipe"
    assert lab.run(CAM, f"{unit} -p MemoryMax=64M python3 -c 'bytearray(300 << 20)'", check=False).returncode != 0
    assert lab.run(CAM, f"{unit} -p MemoryMax=900M python3 -c 'bytearray(300 << 20)'").returncode == 0
    forks = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    assert "Cannot fork" in lab.run(CAM, f"{unit} -p TasksMax=5 sh -c '{forks}'", check=False).stderr
    dial = f"python3 -c 'import socket; socket.create_connection((\"{lab.address(ENC)}\", 22), 2)'"
    lab.run(CAM, f"{unit} {dial}")
    assert "timed out" in lab.run(CAM, f"{unit} -p IPAddressDeny=any {dial}", check=False).stderr
    spin = "import time; t = time.time()\nwhile time.process_time() < .3: pass\nprint(time.time() - t)"
    assert float(lab.out(CAM, f"{unit} -p CPUQuota=20% python3 -c '{spin}'")) > 0.9
    assert lab.run(
        CAM, f"{unit} -p DevicePolicy=closed -p DeviceAllow=/dev/null head -c1 /dev/net/tun", check=False
    ).returncode


def test_a_cut_link_is_silent_and_comes_back(lab):
    dial = f"python3 -c 'import socket; socket.create_connection((\"{lab.address(ENC)}\", 22), 2)'"
    lab.run(CAM, dial)
    lab.cut(ENC)
    assert "timed out" in lab.run(CAM, dial, check=False).stderr or "No route" in lab.run(CAM, dial, check=False).stderr
    assert lab.out(ENC, "cat /sys/class/net/host0/carrier") == "0"
    lab.restore(ENC)
    lab.wait(CAM, dial)
    lab.ssh(ENC)


def test_a_power_cut_loses_what_was_not_synchronised_and_nothing_else(lab):
    identity = lab.read(CAM, "/etc/machine-id")
    lab.run(CAM, "echo kept > /srv/kept && sync /srv/kept /srv")
    lab.run(CAM, "echo lost > /srv/lost; echo temporary > /tmp/lost")
    lab.power_cut(CAM)
    assert not lab.machine(CAM).running()
    lab.boot(CAM)
    assert lab.read(CAM, "/srv/kept") == b"kept\n"
    assert lab.run(CAM, "cat /srv/lost /tmp/lost", check=False).stdout == ""
    assert lab.read(CAM, "/etc/machine-id") == identity
    lab.ssh(CAM)


def test_a_power_cut_says_goodbye_to_nobody(lab):
    lab.write(
        CAM, "/run/listen.py", "import socket\ns = socket.create_server(('', 9000))\nc, _ = s.accept()\nc.recv(1)\n"
    )
    lab.run(CAM, "systemd-run --quiet --collect python3 /run/listen.py")
    reader = f"import socket\ns = socket.create_connection(('{lab.address(CAM)}', 9000), 5)\nprint('in', flush=True)\n"
    reader += "s.settimeout(4)\nprint(repr(s.recv(1)))"
    lab.wait(CAM, "ss -Hltn sport = :9000 | grep -q 9000")
    lab.write(ENC, "/run/read.py", reader)
    lab.run(ENC, "systemd-run --quiet --collect --unit=read python3 /run/read.py")
    lab.wait(ENC, "journalctl -u read -o cat | grep -q '^in'")
    lab.power_cut(CAM)
    assert "TimeoutError" in lab.wait(ENC, "journalctl -u read -o cat | grep Error", 10)


def test_a_full_disk_is_full_for_one_station_alone_and_stays_so_without_power(lab):
    write = "dd if=/dev/zero of=/srv/big bs=1M count=8 conv=fsync"
    lab.run(CAM, write)
    lab.run(CAM, "rm /srv/big")
    lab.fill(CAM)
    assert "No space left" in lab.run(CAM, write, check=False).stderr
    lab.run(ENC, write)
    lab.free(CAM)
    lab.run(CAM, write)
    lab.fill(CAM, leave=20 << 20)
    lab.power_cut(CAM)
    lab.boot(CAM)
    free = int(lab.out(CAM, "df --output=avail -B1 / | tail -1"))
    assert 15 << 20 < free <= 20 << 20


def boot_id(lab: Lab) -> str:
    try:
        return lab.run(CAM, "cat /proc/sys/kernel/random/boot_id", check=False).stdout.strip()
    except LabError:
        return ""


def test_a_station_reboots_by_itself(lab):
    before = boot_id(lab)
    lab.run(CAM, "echo kept > /srv/over-the-reboot; systemctl reboot")
    assert until(lambda: boot_id(lab) not in ("", before))
    lab.wait(CAM, "systemctl is-active ssh")
    assert lab.read(CAM, "/srv/over-the-reboot") == b"kept\n"
    lab.ssh(CAM)
    assert lab.up().changed("localhost") == 0
    assert lab.run(
        CAM, "systemd-run --quiet --wait -p MemoryMax=64M python3 -c 'bytearray(300 << 20)'", check=False
    ).returncode


def test_a_crashed_station_boots_again_on_its_disk(lab):
    lab.run(CAM, "echo kept > /srv/crash")
    enc = lab.machine(ENC).group.leader()
    os.kill(lab.machine(CAM).group.leader(), signal.SIGKILL)
    assert until(lambda: not lab.machine(CAM).running())
    assert lab.up().changed("localhost") == 1
    assert lab.read(CAM, "/srv/crash") == b"kept\n"
    assert lab.machine(ENC).group.leader() == enc


def test_a_station_that_the_inventory_drops_goes_and_comes_back_new(lab):
    lab.run(ENC, "touch /srv/old")
    kept = lab.machine(CAM).group.leader()
    Lab.of(NETWORK, {CAM: STATIONS[CAM]}).up()
    assert lab.stations == [CAM]
    assert lab.machine(CAM).group.leader() == kept
    Lab.of(NETWORK, STATIONS)
    lab.up()
    assert lab.run(ENC, "cat /srv/old", check=False).returncode
    lab.ssh(ENC)


def test_a_limit_does_it_to_some_stations(lab):
    lab.playbook("playbooks/lab.yml", "-l", ENC, lab_state="absent")
    assert lab.stations == [CAM]
    assert lab.playbook("playbooks/lab.yml", "-l", "hall_x", lab_state="present").changed(CAM) == 1
    lab.playbook("playbooks/lab.yml", "-l", ENC, lab_state="power_cut")
    assert [lab.machine(name).running() for name in (CAM, ENC)] == [True, False]
    lab.playbook("playbooks/lab.yml", lab_state="booted", lab_station=ENC)
    lab.ssh(CAM)
    lab.ssh(ENC)


def test_a_station_that_cannot_boot_is_named_with_its_console_and_at_once(lab):
    record = find(lab.inventory)
    lab.power_cut(CAM)
    with pytest.raises(LabError, match=rf"{CAM} could not be prepared \(it ended by itself\)(.|\n)*mount"):
        machine(record, CAM).boot(Path("/nowhere"), seconds=60)


def test_check_mode_touches_nothing(lab):
    lab.power_cut(CAM)
    assert lab.playbook("playbooks/lab.yml", "--check", lab_state="present").changed("localhost") == 0
    assert not lab.machine(CAM).running()


def test_a_network_that_another_inventory_holds_is_refused(lab, tmp_path):
    (tmp_path / "stations.json").write_text(
        json.dumps({"rooms": {"hosts": {"thief": {"ansible_host": f"{NETWORK}.99", "station_roles": {}}}}})
    )
    thief = Lab(tmp_path)
    refused = thief.playbook("playbooks/lab.yml", check=False, lab_state="present")
    assert refused.status
    assert str(lab.inventory) in refused.stdout.replace("\\n", " ")
    assert thief.down().changed("localhost") == 0
    assert lab.machine(CAM).running()


def test_an_inventory_without_stations_is_told_so(tmp_path):
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"printer": {}}}}))
    refused = Lab(tmp_path).playbook("playbooks/lab.yml", check=False, lab_state="present")
    assert refused.status
    assert "no host in the groups rooms and services" in refused.stdout


def test_two_labs_with_the_same_names_stand_side_by_side(lab):
    before = lab.machine(CAM).group.leader()
    with Lab.of(OTHER, STATIONS, lab_disk_size="64M") as other:
        for each in (lab, other):
            for station in STATIONS:
                each.ssh(station)
        assert other.out(CAM, "uname -n") == CAM
        other.cut(CAM)
        lab.ssh(CAM)
        other.power_cut(CAM)
        lab.ssh(CAM)
    assert traces(OTHER) == {}
    assert lab.machine(CAM).group.leader() == before
    lab.ssh(CAM)
    lab.ssh(ENC)


def test_a_checkout_that_is_cleaned_leaves_no_lab_and_touches_no_other(lab, tmp_path):
    assert remove_all(tmp_path) == []
    lab.ssh(CAM)
    record = store.load(f"{NETWORK}.0-24")
    record.checkout = str(tmp_path)  # this checkout's other tests have labs, too
    store.save(f"{NETWORK}.0-24", record)
    assert remove_all(tmp_path) == [f"{NETWORK}.0-24"]
    assert set(traces(NETWORK)) <= {"known"}  # of the checkout that really has the keys
    lab.up()


def test_nothing_is_left_after_a_dirty_end(lab):
    """Neither the launcher's nor systemd-nspawn's death ends a station: its own PID 1 lives on."""
    group = lab.machine(CAM).group
    for pid in group.pids():
        if len(inner_pid(pid)) == 1:
            os.kill(pid, signal.SIGKILL)
    assert group.leader()
    lab.down()
    assert traces(NETWORK) == {}


def test_nothing_is_left_of_half_a_boot(lab):
    remove(f"{NETWORK}.0-24")
    play = subprocess.Popen(
        [BIN / "ansible-playbook", "playbooks/lab.yml", "-i", lab.inventory], cwd=CHECKOUT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert until(lambda: (LABS / f"{NETWORK}.0-24/stations/{CAM}/disk").exists(), step=0.001)
    os.killpg(play.pid, signal.SIGKILL)
    play.wait()
    assert traces(NETWORK) != {}
    lab.down()
    assert traces(NETWORK) == {}


@pytest.mark.parametrize("lost", ["lab.json", ""])
def test_nothing_is_left_of_a_lab_whose_record_is_lost(lab, lost):
    path = LABS / f"{NETWORK}.0-24" / lost
    path.unlink() if lost else shutil.rmtree(path)
    lab.down()
    assert traces(NETWORK) == {}
