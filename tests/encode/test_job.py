"""What a job file may say, and what is said of one that is wrong."""

import json
import stat
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from station import job

GOOD = {"id": "a", "title": "T", "start": "2026-03-01T09:00:00.000Z", "end": "2026-03-01T09:45:00.000Z"}


def test_defaults():
    parsed = job.parse(GOOD, ["cam/main"], ["mp4"])
    assert (parsed.source, parsed.formats, parsed.presenters) == ("cam/main", ("mp4",), ())
    assert parsed.end - parsed.start == 2700


def test_one_presenter_several_and_a_number_as_id():
    assert job.parse({**GOOD, "presenters": "Ann", "id": 7}, ["c/m"]).presenters == ("Ann",)
    assert job.parse({**GOOD, "presenters": ["Ann", " Bob "], "id": 7}, ["c/m"]).presenters == ("Ann", "Bob")
    assert job.parse({**GOOD, "id": 7}, ["c/m"]).id == "7"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "../x"}, "id: is"),
        ({"id": ""}, "names a folder"),
        ({"id": None}, "names a folder"),
        ({"title": " "}, "title: is empty"),
        ({"title": 7}, "title: is 7; needed is a text"),
        ({"presenters": [1]}, "presenters: is"),
        ({"source": "other/one"}, "this instance reads cam/main"),
        ({"start": "yesterday"}, 'start: is "yesterday"; needed is UTC'),
        ({"start": "2026-03-01T09:00:00"}, "needed is UTC"),
        ({"end": "2026-03-01T08:00:00Z"}, "end: is -3600.000 s after start"),
        ({"end": "2027-03-01T08:00:00Z"}, "at most 86400 s"),
        ({"formats": []}, "formats: is"),
        ({"formats": ["ogv"]}, "needed is a list of some of mp4, webm, audio"),
        ({"formats": "mp4"}, "formats: is"),
        ({"language": "English"}, "three letters"),
        ({"allow_gaps": "yes"}, "needed is true or false"),
        ({"presenter": "Ann"}, "presenter: unknown; a job has id, title, presenters"),
    ],
)
def test_each_wrong_field_is_named(change, says):
    with pytest.raises(job.JobError) as caught:
        job.parse({**GOOD, **change}, ["cam/main"])
    assert says in str(caught.value)
    # Only what is about this instance's sources, or about two fields, is beyond a schema.
    if not {"source", "end", "start", "title"} & set(change):
        assert not Draft202012Validator(job.SCHEMA).is_valid({**GOOD, **change})


def test_all_faults_at_once_and_what_is_missing():
    with pytest.raises(job.JobError) as caught:
        job.parse({"id": "/", "formats": 3}, ["a/b", "c/d"])
    for part in ("id: ", "title: is missing", "start: is missing", "end: is missing", "formats: ", "several: a/b, c/d"):
        assert part in str(caught.value)
    with pytest.raises(job.JobError, match="a job is a JSON object"):
        job.parse([1], ["a/b"])


def test_the_schema_is_one_and_takes_what_is_taken():
    Draft202012Validator.check_schema(job.SCHEMA)
    assert Draft202012Validator(job.SCHEMA).is_valid({**GOOD, "presenters": "x", "formats": ["mp4"], "replace": True})


def test_the_tool_writes_a_job_that_others_can_read(tmp_path):
    command = [sys.executable, "-m", "station.job", "--data", str(tmp_path), "--format", "mp4", "--presenter", "Ann"]
    command += [f"--{key}={value}" for key, value in GOOD.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "todo" / "a.json"
    assert done.stdout.strip() == str(path)
    assert json.loads(path.read_text()) == {**GOOD, "formats": ["mp4"], "presenters": ["Ann"]}
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1 and "waits already" in again.stderr
    bad = subprocess.run([*command, "--end=never"], capture_output=True, text=True)
    assert bad.returncode == 1 and "end: is" in bad.stderr
