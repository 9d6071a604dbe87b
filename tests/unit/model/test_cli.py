"""The console script: what it prints where, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stationmaster import catalogue, cli

TOP = Path(__file__).parents[3]
KEYS = ["error", "station", "stations", "role", "instance", "path", "file", "line", "value", "allowed"]
KEYS += ["suggestion", "message"]
"""What the API, the playbook and other programs rely on."""


@pytest.fixture(autouse=True)
def shipped(monkeypatch, roles):
    """Let the commands use the catalogue of the tests."""
    monkeypatch.setattr(catalogue, "load", lambda: roles)


def spoil(folder):
    path = folder / "rooms" / "hall-a.yml"
    path.write_text(path.read_text().replace("record: {copy", "recrod: {copy"))


def test_check_of_an_inventory_in_order(folder, capsys):
    assert cli.main(["check", "-i", str(folder)]) == 0
    assert capsys.readouterr().out == "5 stations, nothing to complain about\n"


def test_check_with_findings(folder, capsys, monkeypatch):
    spoil(folder)
    monkeypatch.chdir(folder)
    assert cli.main(["check", "-i", "."]) == 1
    out = capsys.readouterr().out
    assert out.startswith("rooms/hall-a.yml:18: hall-a-enc: MissingRoleFactory: there is no station role 'recrod'")
    assert len(out.splitlines()) == 1


def test_check_as_json(folder, capsys):
    assert cli.main(["check", "--json", "-i", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == {"findings": []}
    spoil(folder)
    assert cli.main(["check", "--json", "-i", str(folder)]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert list(finding) == KEYS
    assert finding["error"] == "MissingRoleFactory"
    assert finding["file"] == str(folder / "rooms" / "hall-a.yml")


@pytest.mark.parametrize("text", [None, "rooms: [\n"])
def test_check_of_an_unusable_inventory(folder, capsys, text):
    if text is None:
        folder = folder / "nowhere"
    else:
        (folder / "services.yml").write_text(text)
    assert cli.main(["check", "--json", "-i", str(folder)]) == 2
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["error"] == "InvalidConfiguration"
    assert cli.main(["check", "-i", str(folder)]) == 2


def test_nothing_of_ansible_reaches_stdout(folder, tmp_path):
    """As a program, away from the repository, with files that Ansible warns about."""
    (folder / "services.yml").write_text("rooms: [\n")
    (folder / "README").write_text("no inventory")
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    command = [sys.executable, "-m", "stationmaster", "check", "--json", "-i", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert len(json.loads(done.stdout)["findings"]) >= 1
    assert "Traceback" not in done.stderr


def test_roles(capsys, roles):
    assert cli.main(["roles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(roles.roles)


def test_explain(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert cli.main(["explain", "hall-a-enc", "-i", "."]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for expected in (
        "address 10.83.0.18    <- derived",
        "MAC 02:00:00:00:01:0b    <- rooms/hall-a.yml:15",
        'from = "hall-a-cam/main"    <- rooms/hall-a.yml:18',
        "keep = 72    <- the role's default",
        "token = (secret)    <- rooms/hall-a.yml:20",
        "source hall-a-cam/main: http://10.83.0.17:8080/ingest/main/",
        "target archive: sftp 10.83.0.2 2022    <- group_vars/all/event.yml:5",
        "unit stationmaster-record@copy.service",
        "port 8080/tcp (http)",
        "file /var/lib/stationmaster/current/etc/record/copy/config.json",
    ):
        assert expected in lines, "\n".join(lines)
    assert cli.main(["explain", "hall-a-cam", "-i", "."]) == 0
    assert "video.rate = 50    <- rooms/hall-a.yml:7 (room_role_defaults)" in capsys.readouterr().out


def test_explain_of_a_station_that_there_is_not(folder, capsys):
    assert cli.main(["explain", "hall-a-can", "-i", str(folder)]) == 2
    assert "hall-a-cam" in capsys.readouterr().err


def test_explain_with_findings(folder, capsys):
    spoil(folder)
    assert cli.main(["explain", "hall-a-enc", "-i", str(folder)]) == 1
    shown = capsys.readouterr()
    assert "recrod" in shown.err
    assert "upload/archive" in shown.out


def test_wrong_use_is_no_traceback(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["chekc"])
