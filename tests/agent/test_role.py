"""The row agent: who gets one, and the unit that comes of it."""

import shutil
from pathlib import Path

import pytest

from stationmaster import bundle, catalogue, inventory, resolve, rules

TOP = Path(__file__).resolve().parents[2]
CATALOGUE = catalogue.load()
URL = "https://manager.example.org:8443"


@pytest.fixture
def folder(tmp_path):
    """The demo's inventory without its manager."""
    folder = Path(shutil.copytree(TOP / "inventory", tmp_path / "inventory"))
    path = folder / "group_vars/all/event.yml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("event_manager")))
    return folder


def with_manager(folder, more=""):
    path = folder / "group_vars/all/event.yml"
    path.write_text(path.read_text() + f"event_manager_url: {URL}\n{more}")


def load(folder):
    event = inventory.load(folder, roles=CATALOGUE)
    assert not rules.check(event, CATALOGUE)
    return event


def test_an_event_without_a_manager_has_no_agents(folder):
    assert not any("agent" in station.roles for station in load(folder).stations.values())


def test_an_event_with_a_manager_has_an_agent_on_every_station(folder):
    with_manager(folder)
    for station in load(folder).stations.values():
        agent = station.roles["agent"]["station"]
        assert (agent.implied, agent.options["manager"]) == (True, URL)
        assert agent.origins["manager",].layer == "event_manager_url"


def test_the_station_that_the_manager_runs_on_is_its_address(folder):
    path = folder / "group_vars/all/event.yml"
    path.write_text(path.read_text() + "event_manager: storage\n")
    event = load(folder)
    for station in event.stations.values():
        agent = station.roles["agent"]["station"]
        assert agent.options["manager"] == f"https://{event.stations['storage'].address}:8443"


def test_a_room_gives_its_token_and_the_event_the_certificate(folder):
    with_manager(folder)
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files/manager.pem").write_text("PEM\n")
    path = folder / "rooms/hall-a.yml"
    defaults = "room_number: 1\n        room_role_defaults: {agent: {token: smt_canary, certificate: manager.pem}}\n"
    path.write_text(path.read_text().replace("room_number: 1\n", defaults, 1))
    event = load(folder)
    made = bundle.render(event, "hall-a-cam", CATALOGUE, "r")
    secret = [path for path in made.manifest["files"] if "agent" in path and "secrets" in path]
    assert [made.manifest["files"][path]["mode"] for path in secret] == ["0600"]
    assert any(path.endswith("agent/station/files/manager.pem") for path in made.manifest["files"])
    public = [row["sha256"] for path, row in made.manifest["files"].items() if row["mode"] != "0600"]
    assert not any(b"smt_canary" in made.blobs[digest] for digest in public)


def test_a_station_may_name_or_block_its_agent(folder):
    with_manager(folder)
    path = folder / "rooms/hall-a.yml"
    text = path.read_text().replace("station_blocked_roles: [", "station_blocked_roles: [agent, ")
    path.write_text(text.replace("station_roles:\n", "station_roles:\n            agent: {mine: {}}\n", 1))
    event = load(folder)
    assert "agent" not in event.stations["hall-a-enc"].roles
    named = event.stations["hall-a-cam"].roles["agent"]
    assert {name: agent.options["manager"] for name, agent in named.items()} == {"mine": URL}


def test_an_event_made_by_hand_gets_agents_too(folder):
    event = load(folder)
    event.settings["manager_url"] = URL
    resolve.add_implied(event, CATALOGUE)
    assert event.stations["storage"].roles["agent"]["station"].options["manager"] == URL


def test_it_starts_before_the_stations_other_units_and_they_do_not_change_for_it(folder):
    before = bundle.render(load(folder), "hall-a-enc", CATALOGUE, "r")
    with_manager(folder)
    after = bundle.render(load(folder), "hall-a-enc", CATALOGUE, "r")
    others = set(before.manifest["units"])
    assert set(after.manifest["units"]) - others == {"stationmaster-agent@station.service"}
    assert all(after.manifest["units"][name] == before.manifest["units"][name] for name in others)
    digest = after.manifest["files"]["units/stationmaster-agent@station.service"]["sha256"]
    unit = after.blobs[digest].decode()
    assert {line.removeprefix("Before=") for line in unit.splitlines() if line.startswith("Before=")} == others
    assert "User=sm-agent" in unit
    assert after.manifest["units"]["stationmaster-agent@station.service"]["live"] is False


def test_the_managers_address_fills_any_option_that_asks_for_it(folder, tmp_path):
    mine = tmp_path / "more/beacon/role.yml"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        "summary: Asks for the manager.\ndescription: Asks.\nunits: [{command: [/bin/true]}]\noptions:\n"
        "  type: object\n  additionalProperties: false\n"
        "  properties: {where: {type: string, x-manager: true}, manager: {type: string}}\n"
    )
    roles = catalogue.load([catalogue.ROLES_FOLDER, mine.parent.parent])
    path = folder / "rooms/hall-a.yml"
    beacons = "station_roles:\n            beacon: {own: {where: 'https://other'}, filled: {}}\n"
    path.write_text(path.read_text().replace("station_roles:\n", beacons, 1))
    beacon = inventory.load(folder, roles=roles).stations["hall-a-cam"].roles["beacon"]
    assert {name: item.options for name, item in beacon.items()} == {"own": {"where": "https://other"}, "filled": {}}
    with_manager(folder)
    beacon = inventory.load(folder, roles=roles).stations["hall-a-cam"].roles["beacon"]
    assert {name: item.options for name, item in beacon.items()} == {
        "own": {"where": "https://other"},
        "filled": {"where": URL},
    }
    assert beacon["filled"].origins["where",].layer == "event_manager_url"
    path = folder / "group_vars/all/event.yml"
    path.write_text(path.read_text().replace(f"event_manager_url: {URL}", "event_manager: storage"))
    filled = inventory.load(folder, roles=roles).stations["hall-a-cam"].roles["beacon"]["filled"]
    assert filled.options["where"].endswith(":8443")
    assert filled.origins["where",].layer == "derived"
