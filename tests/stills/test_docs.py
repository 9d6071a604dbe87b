"""docs/stills.md is true: its ports are those of the roles, its options are theirs, its commands are understood."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from station.stills import alone
from stationmaster.commands import catalogue, stills
from stationmaster.validation import validator

TOP = Path(__file__).resolve().parent.parent.parent
TEXT = (TOP / "docs/stills.md").read_text("utf-8")
OPTIONS = {
    role: yaml.safe_load((TOP / f"roles/{role}/role.yml").read_text("utf-8"))["options"]
    for role in ("stills", "catalogue")
}
COMMANDS = re.findall(r"`stationmaster ((?:stills|catalogue) [^`]+)`", TEXT)


def default(role: str, option: str):
    return OPTIONS[role]["properties"][option]["default"]


def test_its_ports_are_the_defaults():
    http, old, page = default("stills", "http_port"), default("catalogue", "port"), default("catalogue", "http_port")
    assert f"on one HTTP port ({http})" in TEXT
    assert f"the old text (port {old}), JSON and a page ({page})" in TEXT
    assert {int(port) for port in re.findall(r"http://STATION:(\d+)/", TEXT)} == {http}
    assert set(re.findall(r"http://STORAGE:(\d+)/", TEXT)) == {str(page)}
    assert f"http://STATION:{page}/" in (TOP / "README.md").read_text("utf-8")
    assert f"http://10.83.0.2:{page}/" in (TOP / "inventory/services.yml").read_text("utf-8")


def test_its_limits_are_the_defaults():
    limits = OPTIONS["stills"]["properties"]["limits"]["properties"]
    assert f"one address ({limits['per_address']['default']}) and of all ({limits['clients']['default']:,})" in TEXT
    assert f"gets {limits['udp_rate']['default'] / 1e6:.0f} MB/s at most" in TEXT


def test_its_examples_pass():
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    whole, streams = shown[0]["services"]["hosts"]["storage"]["station_roles"], shown[1]
    told = [("stills", whole["stills"]["main"]), ("catalogue", whole["catalogue"]["main"])]
    for role, options in [*told, ("stills", {"streams": streams})]:
        assert [one.message for one in validator(OPTIONS[role]).iter_errors(options)] == []


def test_a_server_file_is_as_it_says(tmp_path):
    lines = re.findall(r"`(Server(?:Address|Port): [^`]+)`", TEXT)
    (tmp_path / "film.serv").write_text("\n".join([*lines, "film.txt"]))
    listing, paths = alone.read_server_file(tmp_path / "film.serv")
    assert (listing.address, listing.port, [one.name for one in paths]) == ("127.0.0.1", 8071, ["film.txt"])


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command):
    name, *words = shlex.split(command)
    parser = argparse.ArgumentParser()
    {"stills": stills, "catalogue": catalogue}[name].arguments(parser)
    parser.parse_args(words)
