"""The two roles as data: schemas say what the workers take, units are safe, installed programs do not travel."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from station import encode_graph, encode_script, job
from station.encode_cards import CARD_SECONDS
from stationmaster import bundle, catalogue, inventory, resolve
from stationmaster.options import fill_defaults

HOSTS = """
rooms:
  children:
    hall_a:
      vars: {room_title: Hall A, room_number: 1}
      hosts:
        enc:
          station_mac: "02:00:00:00:01:0b"
          station_roles:
            encode:
              shipped: {script: enc.sh, intro: intro.mp4}
              installed: {script: /usr/bin/true}
            script:
              keep: {program: enc.sh, options: {text: "50% $HOME"}, secrets: {key: hunter2}, live: true}
"""


@pytest.fixture(scope="module")
def roles():
    return catalogue.load()


@pytest.fixture(scope="module")
def event(tmp_path_factory, roles):
    folder = tmp_path_factory.mktemp("inventory")
    (folder / "rooms").mkdir()
    (folder / "files").mkdir()
    (folder / "group_vars" / "all").mkdir(parents=True)
    (folder / "group_vars" / "all" / "event.yml").write_text("event_name: conf\nevent_title: A Conference\n")
    (folder / "rooms" / "hall-a.yml").write_text(HOSTS)
    (folder / "files" / "enc.sh").write_text("#!/bin/sh\n")
    (folder / "files" / "intro.mp4").write_bytes(b"film")
    made = inventory.load(str(folder), roles=roles)
    assert [finding.message for finding in made.findings] == []
    resolve.add_implied(made, roles)
    return made


@pytest.fixture(scope="module")
def rendered(event, roles):
    return bundle.render(event, "enc", roles, "r")


def config(rendered, instance, role="encode"):
    return json.loads(rendered.blobs[rendered.manifest["files"][f"etc/{role}/{instance}/config.json"]["sha256"]])


def test_files_of_the_event_travel_and_installed_programs_do_not(rendered):
    assert config(rendered, "shipped")["options"]["script"].endswith("/etc/encode/shipped/files/enc.sh")
    assert "etc/encode/shipped/files/intro.mp4" in rendered.manifest["files"]
    assert config(rendered, "installed")["options"]["script"] == "/usr/bin/true"
    assert not [path for path in rendered.manifest["files"] if "encode/installed/files" in path]


def test_secrets_of_a_script_are_in_its_credential_only(rendered):
    assert config(rendered, "keep", "script")["options"]["options"] == {"text": "50% $HOME"}
    holding = [
        path for path, file in rendered.manifest["files"].items() if b"hunter2" in rendered.blobs[file["sha256"]]
    ]
    assert holding == ["secrets/script/keep/secrets.json"]
    assert rendered.manifest["units"]["stationmaster-script@keep.service"]["live"] is True
    assert rendered.manifest["units"]["stationmaster-encode@shipped.service"]["live"] is False


@pytest.mark.parametrize("unit", ["encode@shipped", "script@keep"])
def test_units_are_well_formed_and_not_exposed(rendered, tmp_path, unit):
    name = f"stationmaster-{unit}.service"
    text = rendered.blobs[rendered.manifest["files"][f"units/{name}"]["sha256"]].decode()
    # What it starts is on a station, not here.
    path = tmp_path / name
    path.write_text(re.sub(r"/var/lib/stationmaster/current/libexec/\S+", "/bin/true", text))
    verify = ["systemd-analyze", "verify", "--recursive-errors=no", str(path)]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(path)]
    assert subprocess.run(security, capture_output=True).returncode == 0


def test_defaults_agree_with_the_worker(roles):
    options = fill_defaults(roles.roles["encode"].options, {"from": "a/b"})
    assert options["formats"] == list(job.FORMATS)
    assert options["title"]["seconds"] == options["credits"]["seconds"] == CARD_SECONDS
    assert options["script_timeout"] == encode_script.TIMEOUT
    assert options["loudness"]["target"] > encode_graph.SILENCE
    source = "".join(path.read_text() for path in Path("station").glob("encode*.py"))
    source += Path("station/admission.py").read_text() + Path("station/cards.py").read_text()
    for name in roles.roles["encode"].options["properties"]:
        assert f'"{name}"' in source or name == "from", f"no code reads the option {name}"
