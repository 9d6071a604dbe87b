"""The schema of event_targets takes what works and names what does not."""

import jsonschema
import pytest

from stationmaster.options import split_secrets
from stationmaster.targets import ALL_SCHEMA, ENTRIES, SCHEMA

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8lXQ0o5y0r3o1f0G2mBqTt0dJ1nq8G2Gm6y1mS7o8b"
SFTP = {"type": "sftp", "host": "backup.example.org", "user": "crew", "password": "secret", "host_key": KEY}
S3 = {"type": "s3", "bucket": "talks", "access_key_id": "AK", "secret_access_key": "SK"}
GOOD = [
    SFTP,
    SFTP | {"host_key": f"{KEY}\n{KEY} comment\n", "path": "events/2026", "port": 2222, "verify": "download"},
    {"type": "sftp", "host": "h", "user": "u", "private_key": "PEM", "accept_any_host_key": True},
    S3,
    {"type": "webdav", "url": "https://cloud.example.org/dav", "user": "u", "password": "p"},
    {"type": "local", "path": "/media/disk"},
    {"type": "station", "station": "storage/main"},
]
BAD = [
    {"type": "ftp", "host": "h"},
    {"host": "h"},
    {key: value for key, value in SFTP.items() if key != "host_key"},
    {key: value for key, value in SFTP.items() if key != "password"},
    SFTP | {"accept_any_host_key": False, "host_key": "AAAAC3Nz"},
    SFTP | {"path": "../up"},
    SFTP | {"path": "a/../b"},
    SFTP | {"port": 0},
    SFTP | {"secret_access_key": "x"},
    S3 | {"bucket": "With Space"},
    {"type": "webdav", "url": "https://u:p@cloud.example.org/"},
    {"type": "local", "path": "relative"},
    {"type": "local", "path": "/a/.."},
    {"type": "station", "station": "storage"},
]


def check(schema, value):
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("entry", GOOD)
def test_good_entry(entry):
    check(SCHEMA, entry)
    check(ENTRIES[entry["type"]], entry)
    check(ALL_SCHEMA, {"archive": entry})


@pytest.mark.parametrize("entry", BAD)
def test_bad_entry(entry):
    with pytest.raises(jsonschema.ValidationError):
        check(SCHEMA, entry)


def test_bad_name():
    with pytest.raises(jsonschema.ValidationError):
        check(ALL_SCHEMA, {"the archive": S3})


@pytest.mark.parametrize(
    ("entry", "secrets"), [(SFTP, {"password"}), (S3, {"secret_access_key"}), (GOOD[2], {"private_key"})]
)
def test_split_parts_secrets(entry, secrets):
    public, secret = split_secrets(SCHEMA, entry)
    assert set(secret) == secrets
    assert not secrets & set(public)
    assert {key: (public | secret)[key] for key in entry} == entry


def test_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(ALL_SCHEMA)
