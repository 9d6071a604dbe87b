"""Loading: layers and their origins, vault values, templates, addresses, and what a playbook has loaded."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stationmaster import ansible_setup, inventory, rules

TOP = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
TOKEN = "very-secret-upload_token"


def text_secrets(password):
    """Return vault secrets as Ansible's command line makes them."""
    ansible_setup.prepare()
    from ansible.parsing.vault import VaultSecret

    return [("demo", VaultSecret(password.encode()))]


def ansible(tool, *arguments):
    environment = {**os.environ, "ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "PYTHONPATH": str(TOP)}
    command = [str(BIN / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=TOP).stdout


def test_layers_and_their_origins(folder, roles):
    event = inventory.load(folder, roles=roles)
    main = event.stations["hall-a-cam"].roles["ingest"]["main"]
    assert main.options["video"] == {"size": "640x360", "rate": 50}
    assert main.options["source"] == {"type": "testcard", "pattern": "clock"}
    assert main.options["timestamp"] == 1430000000000
    told = {path: (origin.layer, Path(origin.file or "").name, origin.line) for path, origin in main.origins.items()}
    assert told["video", "size"] == ("event_role_defaults", "event.yml", 3)
    assert told["video", "rate"] == ("room_role_defaults", "hall-a.yml", 7)
    assert told["source", "type"] == ("station_roles", "hall-a.yml", 13)
    assert told["source", "pattern"] == ("default", "", None)
    station = event.stations["hall-a-cam"]
    assert station.room is event.rooms["hall_a"]
    assert station.origins[""].line == 9
    assert station.origins["station_mac"].line == 10


def test_values_are_plain_data(folder, roles):
    event = inventory.load(folder, roles=roles)

    def walk(value):
        assert type(value) in (dict, list, str, int, float, bool, type(None)), type(value)
        if isinstance(value, dict):
            for key, item in value.items():
                assert type(key) is str
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    for station in event.stations.values():
        for text in (station.name, station.address, station.mac):
            walk(text)
        for instance in station.instances():
            walk(instance.options)
    walk(event.targets)
    walk(event.settings)


def test_a_layer_of_another_shape_replaces(folder, roles):
    path = folder / "group_vars" / "all" / "event.yml"
    path.write_text(path.read_text().replace("{size: 640x360}", "small"))
    event = inventory.load(folder, roles=roles)
    assert event.stations["hall-a-cam"].roles["ingest"]["main"].options["video"] == {"size": "1280x720", "rate": 50}
    assert event.stations["hall-b-cam"].roles["ingest"]["main"].options["video"] == "small"


def test_web_is_implied_where_files_are_served(folder, roles):
    path = folder / "group_vars" / "all" / "event.yml"
    path.write_text(path.read_text().replace("{ingest:", "{web: {port: 8888}, ingest:"))
    event = inventory.load(folder, roles=roles)
    web = event.stations["hall-a-enc"].roles["web"]["station"]
    assert web.implied
    assert web.options == {"port": 8888}
    assert "web" not in event.stations["storage"].roles


def test_vault_values_without_the_password_stay_opaque(folder, roles):
    event = inventory.load(folder, roles=roles)
    upload = event.stations["hall-a-enc"].roles["upload"]["archive"]
    assert upload.opaque == {("token",)}
    assert upload.options["token"] is None


def test_vault_values_with_the_password_are_read(folder, roles):
    event = inventory.load(folder, text_secrets("demo-only"), roles)
    upload = event.stations["hall-a-enc"].roles["upload"]["archive"]
    assert upload.options["token"] == TOKEN
    assert upload.opaque == set()
    assert upload.secrets == {("token",)}
    assert rules.check(event, roles) == []


def test_a_wrong_password_is_a_finding(folder, roles):
    found = rules.check(inventory.load(folder, text_secrets("wrong"), roles), roles)
    assert {(finding.station, finding.path) for finding in found} == {
        ("hall-a-enc", "station_roles.upload.archive.token"),
        ("storage", "station_roles.target.main.password"),
    }


def test_secrets_of_one_load_do_not_open_the_next(folder, roles):
    inventory.load(folder, text_secrets("demo-only"), roles)
    event = inventory.load(folder, roles=roles)
    assert event.stations["hall-a-enc"].roles["upload"]["archive"].options["token"] is None


@pytest.mark.parametrize("option", ['"{{ upload_token }}"', '"prefix-{{ upload_token }}"', '"{{ alias }}"'])
def test_secrets_never_show_in_findings(folder, roles, option):
    """The role's option is no number, so the finding would show it."""
    path = folder / "rooms" / "hall-b.yml"
    path.write_text(path.read_text().replace("port: 9000", f"port: {option}, passphrase: {option}, nonsense: {option}"))
    (folder / "group_vars" / "all" / "more.yml").write_text('alias: "{{ upload_token }}"\n')
    found = rules.check(inventory.load(folder, text_secrets("demo-only"), roles), roles)
    assert len(found) >= 2
    told = json.dumps([finding.to_dict() for finding in found])
    assert "very-secret" not in told


def encrypt(path):
    password = path.parents[1] / "p" if path.parent.name == "host_vars" else path.parents[2] / "p"
    password.write_text("demo-only\n")
    ansible("ansible-vault", "encrypt", "--encrypt-vault-id", "own", "--vault-id", f"own@{password}", str(path))
    password.unlink()


def test_encrypted_files_without_the_password_do_not_break_the_check(folder, check):
    path = folder / "group_vars" / "all" / "secrets.yml"
    path.write_text("upload_token: abc\ntarget_password: def\n")
    encrypt(path)
    assert check(folder) == []


def test_encrypted_files_with_the_password_are_read(folder, roles):
    path = folder / "group_vars" / "all" / "secrets.yml"
    path.write_text("upload_token: very-secret\ntarget_password: def\n")
    encrypt(path)
    event = inventory.load(folder, text_secrets("demo-only"), roles)
    upload = event.stations["hall-a-enc"].roles["upload"]["archive"]
    assert upload.options["token"] == "very-secret"
    assert upload.secrets == {("token",)}
    assert rules.check(event, roles) == []
    found = rules.check(inventory.load(folder, text_secrets("wrong"), roles), roles)
    assert path in {Path(finding.file) for finding in found}


def test_an_encrypted_host_file_may_hold_station_roles(folder, check):
    services = folder / "services.yml"
    services.write_text(services.read_text().replace("      station_roles: {}\n", ""))
    (folder / "host_vars").mkdir()
    path = folder / "host_vars" / "spare.yml"
    path.write_text("station_roles: {}\n")
    assert check(folder) == []
    encrypt(path)
    assert check(folder) == []


def test_untrusted_and_unsafe_text_is_no_template(folder, roles):
    path = folder / "rooms" / "hall-a.yml"
    path.write_text(path.read_text().replace("type: testcard}", 'type: testcard}, slug: !unsafe "{{ nothing }}"'))
    event = inventory.load(folder, roles=roles)
    assert event.stations["hall-a-cam"].roles["ingest"]["main"].options["slug"] == "{{ nothing }}"


def test_templates_see_other_hosts_and_keep_types(folder, roles):
    path = folder / "rooms" / "hall-a.yml"
    text = path.read_text().replace("rate: 50", 'rate: "{{ base * 2 }}"').replace("vars:", "vars:\n        base: 15")
    text = text.replace("type: testcard}", """type: testcard}, slug: "{{ hostvars['hall-b-cam'].ansible_host }}\"""")
    path.write_text(text)
    event = inventory.load(folder, text_secrets("demo-only"), roles)
    main = event.stations["hall-a-cam"].roles["ingest"]["main"]
    assert main.options["video"]["rate"] == 30
    assert main.options["slug"] == "10.83.0.33"
    assert rules.check(event, roles) == []


def test_secrets_of_other_hosts_stay_opaque(folder, roles):
    path = folder / "rooms" / "hall-b.yml"
    path.write_text(path.read_text().replace("port: 9000", "port: 9000, passphrase: \"{{ hostvars['spare'].alias }}\""))
    (folder / "group_vars" / "services.yml").write_text('alias: "{{ upload_token }}"\n')
    event = inventory.load(folder, roles=roles)
    assert event.stations["hall-b-cam"].roles["ingest"]["slides"].opaque == {("source", "passphrase")}
    assert rules.check(event, roles) == []


def test_addresses_are_those_that_ansible_sees(folder, roles):
    (folder / "host_vars").mkdir()
    (folder / "host_vars" / "spare.yml").write_text("ansible_host: spare.example.org\n")
    path = folder / "rooms" / "hall-a.yml"
    path.write_text(
        path.read_text().replace("station_blocked_roles:", "station_number: 7\n          station_blocked_roles:")
    )
    path = folder / "rooms" / "hall-b.yml"
    path.write_text(path.read_text().replace("hall-b-cam:", "hall-b-cam:\n          ansible_host: 192.0.2.7"))
    event = inventory.load(folder, roles=roles)
    ours = {name: station.address for name, station in event.stations.items()}
    assert ours == {
        "hall-a-cam": "10.83.0.17",
        "hall-a-enc": "10.83.0.23",
        "hall-b-cam": "192.0.2.7",
        "storage": "10.83.0.2",
        "spare": "spare.example.org",
    }
    told = json.loads(ansible("ansible-inventory", "-i", str(folder), "--list"))["_meta"]["hostvars"]
    assert {name: variables["ansible_host"] for name, variables in told.items()} == ours


def test_a_group_address_by_hand_wins(folder):
    (folder / "group_vars" / "hall_b.yml").write_text('ansible_host: "{{ inventory_hostname }}.example.org"\n')
    told = ansible(
        "ansible", "-i", str(folder), "hall-b-cam", "-m", "debug", "-a", "msg={{ ansible_host }}", "-c", "local"
    )
    assert "hall-b-cam.example.org" in told


def test_a_running_playbook_is_judged_like_its_files(folder, roles):
    ansible_setup.prepare()
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    loader = DataLoader()
    loader.set_vault_secrets(text_secrets("demo-only"))
    manager = InventoryManager(loader=loader, sources=[str(folder)])
    variables = VariableManager(loader=loader, inventory=manager)
    event = inventory.from_ansible(manager, variables, loader, roles)
    assert event == inventory.load(folder, text_secrets("demo-only"), roles)
    variables._extra_vars = {"station_roles": {}, "interrupt": True}
    event = inventory.from_ansible(manager, variables, loader, roles)
    assert [finding.path for finding in event.findings] == ["station_roles"]
    assert event.stations["hall-a-cam"].roles


def test_files_of_the_event_are_never_run_or_parsed(folder, roles):
    script = folder / "files" / "crew.py"
    script.write_text(f"#!/bin/sh\ntouch {folder}/ran\necho '{{}}'\n")
    script.chmod(0o755)
    event = inventory.load(folder, roles=roles)
    assert not (folder / "ran").exists()
    assert "demo-only" not in event.stations


@pytest.mark.parametrize("make", [lambda path: path / "nowhere", lambda path: path])
def test_no_inventory(tmp_path, roles, make):
    with pytest.raises(inventory.UnusableInventory, match=r"no inventory|no stations"):
        inventory.load(make(tmp_path), roles=roles)


def test_a_single_file_is_an_inventory(tmp_path, roles):
    path = tmp_path / "hosts.yml"
    path.write_text("services:\n  hosts:\n    one: {station_roles: {}}\n")
    event = inventory.load(path, roles=roles)
    assert list(event.stations) == ["one"]
    assert rules.check(event, roles) == []


def test_the_groups_of_a_plain_inventory_suffice(tmp_path, roles):
    path = tmp_path / "hosts"
    path.write_text(
        "[services]\none ansible_host=192.0.2.1 station_roles={}\n[hall_a]\ntwo\n[rooms:children]\nhall_a\n"
    )
    found = rules.check(inventory.load(path, roles=roles), roles)
    assert [finding.station for finding in found] == ["two", "two"]
    assert all(re.search("room_number|station_roles is missing", finding.message) for finding in found)


@pytest.mark.parametrize("way", ["dots", "link", "relative", "two"])
def test_every_way_to_name_an_inventory(folder, roles, tmp_path, monkeypatch, way):
    """However it is named, lines and unknown names are found."""
    (folder / "group_vars" / "hall_b.yml").write_text("room_titel: x\n")
    path = folder / "rooms" / "hall-a.yml"
    path.write_text(path.read_text().replace("room_title", "room_titel"))
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "other.yml").write_text("services: {hosts: {more: {station_rols: {}}}}\n")
    monkeypatch.chdir(tmp_path)
    source = {
        "dots": tmp_path / "nowhere" / ".." / "inventory",
        "link": tmp_path / "link",
        "relative": "inventory",
        "two": ["inventory", "other.yml"],
    }[way]
    found = rules.check(inventory.load(source, roles=roles), roles)
    told = {(finding.path, Path(finding.file or "").name, finding.line) for finding in found}
    expected = {("room_titel", "hall-a.yml", 5), ("room_titel", "hall_b.yml", 1)}
    assert told == expected | ({("station_rols", "other.yml", 1)} if way == "two" else set())


def test_unknown_names_of_other_inventory_formats(tmp_path, roles):
    (tmp_path / "hosts").write_text("[services]\none station_roles={} station_mca=x\n[all:vars]\nevent_nmae=y\n")
    found = rules.check(inventory.load(tmp_path / "hosts", roles=roles), roles)
    assert {(finding.path, finding.suggestion) for finding in found} == {
        ("station_mca", "station_mac"),
        ("event_nmae", "event_name"),
    }
