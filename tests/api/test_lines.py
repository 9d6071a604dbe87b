"""Lines for a machine that the inventory does not know: what is proposed passes the check, and is only proposed."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from fastapi.testclient import TestClient

from api import inventory_trial, lines
from api.problems import Problem
from api.settings import CHECKOUT
from api.tables import Station
from stationmaster import inventory
from stationmaster.rules.names import STATION_NAME
from tests.api import event as events
from tests.api.small_event import Scene
from tests.api.stations_kit import Machine
from tests.api.test_door import problem

NOBODYS, CAMS = "02:00:00:00:07:01", "02:00:00:00:01:0a"
AFTER_ENC = "10.83.0.19"
"""The address that follows for a third station of the demo's hall_a."""


class Demo(Scene):
    """A manager on a copy of the demo's inventory, or on another one, and machines that it does not know."""

    def __init__(self, top, folder=None):
        self.folder = folder or events.copy(top / "demo")
        super().__init__(top, inventory=self.folder)

    def unknown(self, hostname="debian", macs=(NOBODYS,), **columns):
        """Id of a machine; what its row holds is past every check of what a machine may say."""
        machine = self.stranger()
        with self.manager.database.writing() as session:
            row = session.get(Station, machine)
            for column, value in {"hostname": hostname, "macs": list(macs), **columns}.items():
                setattr(row, column, value)
        return machine

    def ask(self, machine, **query):
        return self.api.get(f"/v1/stations/{machine}/lines", params=query, headers=self.token("read"))

    def propose(self, machine, **query):
        answer = self.ask(machine, **query)
        assert answer.status_code == 200, answer.text
        assert "stationmaster-lines" not in answer.text and inventory_trial.ADDED not in answer.text
        assert str(self.folder) not in answer.text
        return answer.json()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    made = Demo(tmp_path_factory.mktemp("lines"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    """Every test leaves the folder for temporary files as it was."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.glob("stationmaster-*"))


def check(folder):
    """Run the command with which an operator checks; return its exit code and its findings."""
    command = [sys.executable, "-m", "stationmaster", "check", "--json", "-i", str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    return done.returncode, [one["message"] for one in json.loads(done.stdout)["findings"]]


def addresses(folder):
    return {name: station.address for name, station in inventory.load(folder).stations.items()}


def paste(folder, told, below=None):
    """Put the lines at the end of the file that was told, or right below a line of it."""
    path = folder / told["file"]
    text = path.read_text()
    path.write_text(text.replace(below, below + told["lines"]) if below else text + told["lines"])


def test_the_lines_of_a_machine_are_for_the_end_of_the_first_rooms_file(demo):
    machine = demo.unknown()
    assert demo.propose(machine) == {
        "machine": machine, "name": "debian", "room": "hall_a", "file": "rooms/hall-a.yml", "after": "hall-a-enc",
        "lines": f'        debian:\n          station_mac: "{NOBODYS}"\n          station_roles: {{}}\n',
        "findings": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("room", "file", "spaces", "after"),
    [("hall_b", "rooms/hall-b.yml", 8, "hall-b-enc"), ("services", "services.yml", 4, "spare")],
)
def test_what_is_pasted_passes_the_check_and_moves_nobody(demo, tmp_path, room, file, spaces, after):
    told = demo.propose(demo.unknown("99"), room=room)
    assert (told["file"], told["after"], told["findings"]) == (file, after, [])
    assert told["lines"].startswith(" " * spaces + "'99':\n")
    folder = events.copy(tmp_path / "pasted")
    before = addresses(folder)
    paste(folder, told)
    assert check(folder) == (0, [])
    assert addresses(folder).items() >= before.items()
    assert yaml.safe_load((folder / file).read_text())


def test_lines_right_below_hosts_are_well_indented_too(demo, tmp_path):
    folder = events.copy(tmp_path / "pasted")
    paste(folder, demo.propose(demo.unknown()), below="      hosts:\n")
    assert check(folder) == (0, [])


def test_the_indentation_is_that_of_the_file(tmp_path):
    folder = events.copy(tmp_path / "demo")
    room = yaml.safe_load((folder / "rooms/hall-a.yml").read_text())
    (folder / "rooms/hall-a.yml").write_text(yaml.safe_dump(room, indent=4, sort_keys=False))
    scene = Demo(tmp_path, folder)
    try:
        told = scene.propose(scene.unknown())
    finally:
        scene.close()
    assert told["lines"].startswith(" " * 16 + "debian:\n")
    paste(folder, told)
    assert check(folder) == (0, [])


def test_a_room_without_stations_has_the_file_of_its_title(demo):
    snapshot = demo.manager.inventory.current()
    assert lines._place(snapshot, "hall_a", None) == ("rooms/hall-a.yml", 8)
    assert lines._place(snapshot, "services", None) == (None, 4)


def test_a_mac_address_that_a_station_has_is_a_finding_unless_there_is_another(demo):
    told = demo.propose(demo.unknown(macs=[CAMS]))
    assert CAMS in told["lines"]
    (finding,) = told["findings"]
    assert (finding["path"], finding["value"], finding["file"]) == ("station_mac", CAMS, "rooms/hall-a.yml")
    assert finding["stations"] == ["hall-a-cam", "debian"]
    assert "hall-a-cam (rooms/hall-a.yml:12), debian (rooms/hall-a.yml)" in finding["message"]
    told = demo.propose(demo.unknown(macs=[CAMS, NOBODYS]))
    assert (NOBODYS in told["lines"], told["findings"]) == (True, [])


@pytest.mark.parametrize("name", ["hall_a", "rooms", "localhost", "encode", "hall-b-cam"])
def test_a_name_that_is_taken_gets_a_number_and_asked_for_is_a_finding(demo, name):
    machine = demo.unknown(name.upper())
    assert demo.propose(machine)["name"] == f"{name}-2"
    told = demo.propose(machine, name=name)
    assert told["name"] == name
    assert told["findings"] and all(name in one["stations"] for one in told["findings"])


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("<script>alert(1)</script>", "script-alert-1-script"),
        ("Hall Ä 3", "hall-a-3"),
        ("{{ lookup('pipe', 'touch MARK') }}", "lookup-pipe-touch-mark"),
        ("", "station"), ("…", "station"), ("__", "station"), ("a" * 70, "a" * 59), ("on", "on"), ("1e3", "1e3"),
        ("Box.example.ORG.", "box.example.org"), ("a[1:9]", "a-1-9"), ("x: y\n!!python/x:os.a", "x-y-python-x-os.a"),
    ],
)  # fmt: skip
def test_whatever_a_machine_calls_itself_a_station_can_have_the_name(demo, hostname, name):
    view = demo.manager.registry.machine(demo.unknown(hostname))
    assert lines._free_name(demo.manager, demo.manager.inventory.current(), view) == name
    assert STATION_NAME.match(name)


@pytest.mark.parametrize("hostname", ["<script>alert(1)</script>", "{{ lookup('pipe', 'touch MARK') }}", "", "yes"])
def test_whatever_a_machine_calls_itself_its_lines_are_harmless(demo, hostname, tmp_path):
    mark = tmp_path / "mark"
    told = demo.propose(demo.unknown(hostname.replace("MARK", str(mark))))
    assert told["findings"] == [] and not mark.exists()
    assert yaml.safe_load(told["lines"]) == {told["name"]: {"station_mac": NOBODYS, "station_roles": {}}}


@pytest.mark.parametrize("name", ["", "{{ 1 }}", "a b", "a[1:99999999]", "cam:22", "-x", "x\n", "!", "x" * 64])
def test_an_impossible_name_is_refused_and_nothing_is_checked(demo, name, monkeypatch):
    monkeypatch.delattr(inventory_trial, "judge_with")
    problem(demo.ask(demo.unknown(), name=name), 422, "InvalidRequest")
    with pytest.raises(Problem):
        lines.propose(demo.manager, demo.unknown(), name=name)


def test_a_room_that_there_is_not_is_refused(demo):
    told = problem(demo.ask(demo.unknown(), room="hall_x"), 422, "UnknownRoom")
    assert "hall_a, hall_b, services" in told["action"]


def test_only_a_machine_that_is_no_station_has_lines(demo):
    demo.enrolled("hall-a-cam")
    enrolled = demo.manager.registry.ids()["hall-a-cam"]
    for known in ("hall-a-cam", enrolled, "nobody", "x" * 300):
        problem(demo.ask(known), 404, "NotFound")


def test_a_machine_that_the_inventory_lost_gets_the_name_that_it_is_enrolled_under(demo):
    demo.enrolled("lost-cam")
    lost = demo.manager.registry.ids()["lost-cam"]
    assert demo.propose(lost)["name"] == "lost-cam"
    assert demo.propose(demo.unknown("lost-cam"))["name"] == "lost-cam-2"


def test_the_address_is_written_only_if_another_one_follows(demo, tmp_path):
    there = demo.propose(demo.unknown(address=AFTER_ENC))
    elsewhere = demo.propose(demo.unknown(address="::ffff:10.83.0.99"))
    assert "ansible_host" not in there["lines"]
    assert elsewhere["findings"] == []
    line = elsewhere["lines"].splitlines()[-1]
    assert line == f"          ansible_host: 10.83.0.99  # its address now; delete this line once it has {AFTER_ENC}"
    folder = events.copy(tmp_path / "pasted")
    paste(folder, elsewhere)
    assert check(folder) == (0, [])
    assert addresses(folder)["debian"] == "10.83.0.99"


@pytest.mark.parametrize(
    ("seen", "own"),
    [
        ("192.0.2.1", ["10.83.0.99"]), ("192.0.2.1", ["192.0.2.1", AFTER_ENC]), ("127.0.0.1", []), ("fe80::1%eth0", []),
        ("testclient", []), (None, []),
    ],
)  # fmt: skip
def test_no_address_is_written_that_may_not_be_the_machines(demo, seen, own):
    view = demo.manager.registry.machine(demo.unknown(address=seen, said={"addresses": own}))
    assert lines._elsewhere(view, AFTER_ENC) is None


def test_an_address_that_a_station_has_is_a_finding(demo):
    (finding,) = demo.propose(demo.unknown(address="10.83.0.17"))["findings"]
    assert (finding["path"], finding["value"]) == ("ansible_host", "10.83.0.17")


def test_a_machine_that_asks_to_be_enrolled_is_seen_at_its_address(demo):
    client = TestClient(demo.api.app, client=("10.83.0.98", 1))
    machine = Machine("walks-in")
    machine.enrol(client)
    assert demo.api.get(f"/v1/stations/{machine.id}", headers=demo.token("read")).json()["address"] == "10.83.0.98"
    assert "ansible_host: 10.83.0.98" in demo.propose(machine.id)["lines"]


def test_stations_whose_addresses_the_lines_would_move_are_a_finding(tmp_path):
    folder = events.copy(tmp_path / "demo")
    room = yaml.safe_load((folder / "rooms/hall-a.yml").read_text())
    group = room["rooms"]["children"]["hall_a"]
    group["children"] = {"cameras": {"hosts": group.pop("hosts")}}
    (folder / "rooms/hall-a.yml").write_text(yaml.safe_dump(room))
    scene = Demo(tmp_path, folder)
    try:
        (finding,) = scene.propose(scene.unknown())["findings"]
    finally:
        scene.close()
    assert finding["stations"] == ["hall-a-cam", "hall-a-enc"]
    assert "station_number" in finding["message"]


def as_file(folder, name):
    """Make one file of the demo, with its variables beside it."""
    merged = {"rooms": {"children": {}}}
    for part in sorted(folder.glob("rooms/*.yml")):
        merged["rooms"]["children"].update(yaml.safe_load(part.read_text())["rooms"]["children"])
        part.unlink()
    merged.update(yaml.safe_load((folder / "services.yml").read_text()))
    (folder / "services.yml").rename(folder / name)
    (folder / name).write_text(yaml.safe_dump(merged, sort_keys=False))
    return folder / name


def test_an_inventory_that_is_a_file_is_read_with_what_lies_beside_it(tmp_path):
    file = as_file(events.copy(tmp_path / "demo"), "event.yml")
    (file.parent / "unrelated.yml").write_text("rooms: [no mapping")
    scene = Demo(tmp_path, file)
    try:
        told = scene.propose(scene.unknown())
        assert (told["file"], told["after"], told["findings"]) == ("event.yml", "hall-a-enc", [])
        told = scene.propose(scene.unknown(), room="services")
    finally:
        scene.close()
    paste(file.parent, told)
    assert check(file) == (0, [])


def test_an_inventory_that_ansible_does_not_read_from_a_folder_is_refused(tmp_path):
    file = events.copy(tmp_path / "demo") / "event.cfg"
    file.write_text("[services]\nstorage station_mac=02:00:00:00:00:0a station_roles={}\n")
    shutil.rmtree(file.parent / "group_vars")
    scene = Demo(tmp_path, file)
    try:
        told = problem(scene.ask(scene.unknown()), 409, "InventoryForm")
    finally:
        scene.close()
    assert "storage" in told["detail"]


def test_who_waits_too_long_is_told_so(demo, monkeypatch):
    monkeypatch.setattr(inventory_trial, "PATIENCE", 0.05)
    with demo.manager.inventory.checking:
        problem(demo.ask(demo.unknown()), 503, "TooManyChecks")
    assert demo.propose(demo.unknown())["findings"] == []


def test_nothing_is_written_into_the_inventory(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*")}
    demo.propose(demo.unknown())
    assert {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*")} == before
