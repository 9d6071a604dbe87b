"""The rows ingest, record and web: their options, and the units that come of them."""

import json
import subprocess

import jsonschema
import pytest

from stationmaster import bundle, catalogue, options, resolve
from stationmaster.model import Event, Instance, Room, Station

CATALOGUE = catalogue.load()
SOURCES = {
    "testcard": {"type": "testcard"},
    "file": {"type": "file", "path": "/srv/loop.ts"},
    "v4l2": {"type": "v4l2", "device": "/dev/v4l/by-id/usb-grabber-index0", "audio_device": "hw:CARD=Grabber,DEV=0"},
    "srt": {"type": "srt", "host": "10.0.0.9", "port": 9000, "passphrase": "canary-secret"},
    "listener": {"type": "srt", "listen": 9000},
    "rtsp": {"type": "rtsp", "url": "rtsp://camera/1", "user": "crew", "password": "canary-secret"},
    "tcp": {"type": "tcp", "host": "mixer", "port": 11000, "format": "matroska"},
    "hls": {"type": "hls", "url": "https://example.org/live.m3u8"},
}
VAAPI = {"source": SOURCES["testcard"], "video": {"encoder": "vaapi"}}


def valid(value):
    return jsonschema.Draft202012Validator(CATALOGUE.roles["ingest"].options).is_valid(value)


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_is_accepted(name):
    assert valid({"source": SOURCES[name]})


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"source": {"type": "vhs"}},
        {"source": {"type": "testcard", "device": "/dev/video0"}},
        {"source": {"type": "file"}},
        {"source": {"type": "file", "path": "/a", "file": "b"}},
        {"source": {"type": "v4l2", "device": "/etc/passwd"}},
        {"source": {"type": "srt", "host": "a"}},
        {"source": {"type": "srt", "host": "a", "port": 1, "listen": 9000}},
        {"source": {"type": "srt", "host": "a?mode=listener", "port": 1}},
        {"source": {"type": "rtsp", "url": "rtsp://user:password@camera/1"}},
        {"source": {"type": "rtsp", "url": "file:///etc/passwd"}},
        {"source": {"type": "testcard"}, "video": {"size": "1281x720"}},
        {"source": {"type": "testcard"}, "video": {"rate": 0}},
        {"source": {"type": "testcard"}, "video": {"bitrate": "4M"}},
        {"source": {"type": "testcard"}, "audio": {"tracks": [{"label": "a\nb"}]}},
        {"source": {"type": "testcard"}, "audio": {"tracks": [{"label": "a", "channels": []}]}},
        {"source": {"type": "testcard"}, "retention": {"hours": -1}},
        {"source": {"type": "testcard"}, "bitrate": 4000},
    ],
)
def test_what_is_wrong_is_refused(value):
    assert not valid(value)


def every_option(schema, path=()):
    for key, below in schema.get("properties", {}).items():
        if "const" not in below:
            yield (*path, key), below
        yield from every_option(below, (*path, key))
    for branch in schema.get("oneOf", ()):
        yield from every_option(branch, path)
    if isinstance(schema.get("items"), dict):
        yield from every_option(schema["items"], path)


@pytest.mark.parametrize("name", ["ingest", "record", "web"])
def test_every_option_says_what_it_is(name):
    for path, schema in every_option(CATALOGUE.roles[name].options):
        assert schema.get("description"), path


def instance(role, name, value):
    return Instance(role, name, options.fill_defaults(CATALOGUE.roles[role].options, value))


def station(name, roles, of=None):
    room = Room("hall_a", "Hall A", 1)
    here = Station(name, room, "10.83.0.17", "02:00:00:00:00:01", [], roles)
    camera = Station(
        "cam",
        room,
        "10.83.0.18",
        "02:00:00:00:00:02",
        [],
        {"ingest": {"main": instance("ingest", "main", {"source": {"type": "testcard"}})}},
    )
    event = Event("demo", "Demo", "/nonexistent", {"hall_a": room}, {"cam": camera, name: here})
    resolve.add_implied(event, CATALOGUE)
    return bundle.render(event, of or name, CATALOGUE, "test")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A station with every kind of source, laid out in a folder."""
    folder = tmp_path_factory.mktemp("station")
    ingests = {name: instance("ingest", name, {"source": source}) for name, source in SOURCES.items()}
    ingests["vaapi"] = instance("ingest", "vaapi", VAAPI)
    made = station("enc", {"ingest": ingests, "record": {"copy": instance("record", "copy", {"from": "cam/main"})}})
    for path, entry in made.manifest["files"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(made.blobs[entry["sha256"]])
    return folder


def test_units_are_sound_and_hardened(rendered):
    units = sorted((rendered / "units").glob("*@*.service"))
    assert len(units) == len(SOURCES) + 3
    for unit in units:
        unit.write_text(unit.read_text().replace("/var/lib/stationmaster/current/libexec/", "/bin/true "))
    # Relative to the folder: systemd-analyze takes @ in a path for an instance.
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *[f"./{unit.name}" for unit in units]],
        cwd=rendered / "units",
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stderr
    for unit in units:
        judged = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", f"./{unit.name}"],
            cwd=rendered / "units",
            capture_output=True,
            text=True,
        )
        assert judged.returncode == 0, judged.stdout[-500:]


def test_devices_only_for_who_needs_them(rendered):
    def settings(name):
        text = (rendered / "units" / f"stationmaster-ingest@{name}.service").read_text()
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))

    assert settings("testcard")["PrivateDevices"] == "yes"
    assert settings("v4l2")["PrivateDevices"] == "no" and settings("v4l2")["SupplementaryGroups"] == "video audio"
    assert settings("vaapi")["DeviceAllow"] == "char-drm rw"


def test_secrets_are_in_the_credential_only(rendered):
    found = [path for path in rendered.rglob("*") if path.is_file() and b"canary-secret" in path.read_bytes()]
    assert sorted(path.relative_to(rendered).as_posix() for path in found) == [
        "secrets/ingest/rtsp/secrets.json",
        "secrets/ingest/srt/secrets.json",
    ]


def test_the_copy_knows_where_its_source_is(rendered):
    config = json.loads((rendered / "etc" / "record" / "copy" / "config.json").read_text())
    assert config["sources"]["cam/main"]["url"] == "http://10.83.0.18:8080/ingest/main/"
    assert config["options"]["retention"] == {"hours": 72, "reserve_percent": 5, "warn_hours": 4}


def test_a_source_knows_its_copies():
    made = station("enc", {"record": {"copy": instance("record", "copy", {"from": "cam/main"})}}, of="cam")
    context = json.loads(made.blobs[made.manifest["files"]["etc/ingest/main/context.json"]["sha256"]])
    assert context["copies"] == ["http://10.83.0.17:8080/record/copy/"]
