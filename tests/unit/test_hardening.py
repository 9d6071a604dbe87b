"""Every unit of every station role is sound and hardened, over all rows of the catalogue: systemd's own tools judge."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stationmaster import bundle, catalogue, inventory, resolve, rules

TOP = Path(__file__).resolve().parents[2]
CATALOGUE = catalogue.load()
THRESHOLD = 25
"""Tenths of the exposure that `systemd-analyze security` finds: 2.5 at most."""
EXCEPTIONS: dict[str, str] = {}
"""Units that may be more exposed, by role, each with the reason. There are none."""

EXAMPLES = {
    "agent": {"station": {"manager": "https://manager:8443", "token": "not-a-secret"}},
    "ingest": {
        "file": {"source": {"type": "file", "path": "/srv/loop.ts"}},
        "v4l2": {"source": {"type": "v4l2", "device": "/dev/video0", "audio_device": "hw:CARD=Grabber,DEV=0"}},
        "srt": {"source": {"type": "srt", "host": "10.0.0.9", "port": 9000, "passphrase": "not-a-secret"}},
        "listener": {"source": {"type": "srt", "listen": 9000}},
        "rtsp": {"source": {"type": "rtsp", "url": "rtsp://camera/1"}},
        "tcp": {"source": {"type": "tcp", "host": "mixer", "port": 11000}},
        "hls": {"source": {"type": "hls", "url": "https://example.org/live.m3u8"}},
        "vaapi": {"source": {"type": "testcard"}, "video": {"encoder": "vaapi"}},
    },
    "encode": {"crew": {"script": "/usr/bin/true"}},
    "script": {
        "lights": {"program": "/usr/bin/sleep", "options": {"text": '50% of $HOME "quoted"\nand two lines'}},
        "live": {"program": "/usr/bin/sleep", "live": True, "secrets": {"token": "not-a-secret"}},
    },
    "journal": {"main": {"to": "sink/bare"}},
    "broker": {"bare": {"password": "not-a-secret"}},
    "signage": {"door": {"to": ["storage/main"], "slides": {"from": "sink/file"}}},
    "stills": {
        "main": {
            "streams": {"hall": {"from": "sink/file"}, "card": {"testcard": {}, "method": "tcp_push", "port": 8081}}
        }
    },
    "sync": {"raw": {"from": "sink/file", "target": "archive"}},
}
"""Instances beside the demo's, for the forms that a unit can take. A role in neither is tried without options."""


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """The folder with the units of the demo and of one more station that has every other form, laid out in stations."""
    folder = tmp_path_factory.mktemp("hardening")
    shutil.copytree(TOP / "inventory", folder / "inventory")
    shown = {role for station in inventory.load(folder / "inventory").stations.values() for role in station.roles}
    bare = {role: {"bare": {}} for role in CATALOGUE.roles if role not in shown | EXAMPLES.keys()}
    sink = {"station_mac": "02:00:00:00:09:01", "station_roles": EXAMPLES | bare}
    room = {"vars": {"room_title": "Sink", "room_number": 9}, "hosts": {"sink": sink}}
    text = yaml.safe_dump({"rooms": {"children": {"sinks": room}}})
    (folder / "inventory/rooms/sink.yml").write_text(text)
    event = inventory.load(folder / "inventory", roles=CATALOGUE)
    found = rules.check(event, CATALOGUE)
    assert not found, "\n".join(finding.text() for finding in found)
    resolve.add_implied(event, CATALOGUE)
    for station in event.stations:
        made = bundle.render(event, station, CATALOGUE, "test")
        for path, entry in made.manifest["files"].items():
            place = folder / station / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(made.blobs[entry["sha256"]])
            place.chmod(int(entry["mode"], 8))
        for unit in (folder / station / "units").glob("*.service"):
            # systemd-analyze looks whether programs are there; ours are below the current generation of a station
            unit.write_text(unit.read_text().replace(bundle.CURRENT, str(folder / station)))
    return folder


def of(units, role="*"):
    return sorted(units.glob(f"*/units/stationmaster-{role}@*.service"))


def verify(*files):
    """Relative to the folder: systemd-analyze takes @ in a path for an instance."""
    return subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *(f"./{file.name}" for file in files)],
        cwd=files[0].parent,
        capture_output=True,
        text=True,
        check=False,
    )


def exposure(file):
    return subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", f"./{file.name}"],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_unit_is_left_out(units):
    roles = {file.name.removeprefix("stationmaster-").partition("@")[0] for file in of(units)}
    assert {name for name, role in CATALOGUE.roles.items() if role.units} <= roles
    assert set(EXCEPTIONS) <= set(CATALOGUE.roles)


@pytest.mark.parametrize("role", sorted(CATALOGUE.roles))
def test_systemd_understands_the_units(units, role):
    for folder in {file.parent for file in of(units, role)}:
        done = verify(*sorted(folder.glob(f"stationmaster-{role}*@*.service")))
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("role", sorted(CATALOGUE.roles))
def test_the_units_are_hardened(units, role):
    for file in of(units, f"{role}*"):
        done = exposure(file)
        assert done.returncode == 0 or role in EXCEPTIONS, f"{file.name}: {done.stdout[-300:]}"


def test_the_target_and_the_boot_unit_are_sound(units):
    folder = next(units.glob("hall-a-cam/units"))
    done = verify(folder / "stationmaster.target", folder / "stationmaster-converge.service")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RestartSec=2", "RestartSecs=2"),
        ("Type=notify", "Type=notified"),
        ('ExecStart="/usr/bin/python3"', "ExecStart=/usr/bin/no-such-program"),
        ("MemoryMax=", "MemoryMax=lots-"),
    ],
)
def test_a_known_bad_unit_is_found(units, tmp_path, old, new):
    text = of(units, "ingest")[0].read_text()
    assert old in text
    bad = tmp_path / "stationmaster-bad@main.service"
    bad.write_text(text.replace(old, new))
    done = verify(bad)
    assert done.returncode or done.stderr


def test_an_open_unit_is_found(units, tmp_path):
    text = of(units, "ingest")[0].read_text()
    bad = tmp_path / "stationmaster-bad@main.service"
    bad.write_text(text[: text.index("# hardening")])
    assert exposure(bad).returncode
