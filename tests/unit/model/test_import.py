"""Configurations of the first systems become a room file that passes the check, apart from what is named."""

import json

import pytest
import yaml

from stationmaster import catalogue, cli

FIRST = {
    "encode": {"5b0c-11e4": {"script": "/usr/bin/true", "is_mixer": True, "timestamp": 1406000000000, "nice": 3}},
    "monitoring": {"m1": {"src_ip": "10.4.4.1", "src_port": 2000, "dst_ip": "10.4.4.2", "dst_port": 2001}},
    "cut": {"c1": {"script": "scripts/run_cut.py"}},
}
OLDER = {
    "nickname": "Room 1 camera",
    "room": "Room 1",
    "roles": ["ingest", "record", "stream"],
    "macaddress": "AA-BB-CC-00-11-22",
    "devices": [
        {"id": "video0", "type": "v4l", "device": "/dev/video0", "name": "Webcam"},
        {"id": "0d8c:0008", "type": "alsa", "name": "USB audio"},
    ],
    "stream": {"host": "icecast", "password": "hunter2"},
    "run": "1",
}


@pytest.fixture(autouse=True)
def shipped(monkeypatch, roles):
    monkeypatch.setattr(catalogue, "load", lambda: roles)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return str(path)


def hosts(text):
    return yaml.safe_load(text)["rooms"]["children"]["imported"]["hosts"]


def test_roles_uuids_and_known_options_are_taken_over(tmp_path, capsys):
    file = write(tmp_path / "encoder1" / "station_config.json", FIRST)
    write(tmp_path / "encoder1" / "station.json", {"blocked_roles": ["ingest", "mixer"]})
    assert cli.main(["import", file]) == 0
    shown = capsys.readouterr()
    assert hosts(shown.out) == {
        "encoder1": {
            "station_blocked_roles": ["ingest"],
            "station_roles": {
                "encode": {"5b0c-11e4": {"script": "/usr/bin/true", "is_mixer": True, "timestamp": 1406000000000}}
            },
        }
    }
    for gap in ("monitoring/m1", "10.4.4.1", "cut/c1", "nice = 3", "blocked role 'mixer'"):
        assert gap in shown.err
        assert any(gap in line for line in shown.out.splitlines() if line.strip().startswith("#"))


def test_what_was_written_passes_the_check(tmp_path, capsys):
    file = write(tmp_path / "aabbcc001122.json", FIRST)
    output = tmp_path / "event" / "rooms" / "old.yml"
    output.parent.mkdir(parents=True)
    assert cli.main(["import", file, "-o", str(output)]) == 0
    capsys.readouterr()
    assert cli.main(["check", "-i", str(tmp_path / "event")]) == 0
    assert list(hosts(output.read_text())) == ["station-001122"]


def test_what_is_missing_is_named(tmp_path, capsys):
    file = write(tmp_path / "up.json", {"upload": {"u": {"script": "scripts/up.py"}}})
    output = tmp_path / "event" / "old.yml"
    output.parent.mkdir()
    cli.main(["import", file, "-o", str(output)])
    told = capsys.readouterr().err
    for gap in ("scripts/up.py", "from is required", "target is required"):
        assert gap in told
    cli.main(["check", "--json", "-i", str(output.parent)])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["path"].rpartition(".")[2] for finding in found} == {"from", "target", "script"}


def test_the_older_system(tmp_path, capsys):
    file = write(tmp_path / "cam" / "config.json", OLDER)
    assert cli.main(["import", file]) == 0
    shown = capsys.readouterr()
    assert hosts(shown.out) == {
        "room-1-camera": {
            "station_mac": "aa:bb:cc:00:11:22",
            "station_roles": {"ingest": {"video0": {"source": {"type": "v4l2", "device": "/dev/video0"}}}},
        }
    }
    assert "room_title: Room 1" in shown.out
    assert "hunter2" not in shown.out + shown.err
    for gap in ("USB audio", "stream", "record"):
        assert gap in shown.err


def test_stations_of_one_name_are_numbered(tmp_path, capsys):
    files = [write(tmp_path / place / "enc" / "station_config.json", FIRST) for place in ("a", "b")]
    assert cli.main(["import", *files]) == 0
    assert list(hosts(capsys.readouterr().out)) == ["enc", "enc-2"]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"encode": 3}', '{"roles": [3]}', '{"encode": {"a": 3}}', "\x00"])
def test_any_file_is_imported_or_refused(tmp_path, capsys, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert cli.main(["import", str(path)]) in (0, 2)
    shown = capsys.readouterr()
    assert yaml.safe_load(shown.out) is not None or "stationmaster:" in shown.err
