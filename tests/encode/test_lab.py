"""Encode on real stations: hardened units, segments over HTTP, and an honest power cut in the middle of a job."""

import json
import time

import pytest

from station import utc
from station.cut import stamp
from tests.labkit import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
DATA = "/srv/stationmaster/encode"
SCRIPT = '#!/bin/sh\nid -un\nprintf "%s" "$1" > "$STATIONMASTER_OUTPUT/job.json"\n'


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    camera = {"ingest": {"main": {"source": {"type": "testcard"}, "video": {"size": "320x180", "rate": 25}}}}
    quick = {"from": "cam/main", "mp4": {"preset": "ultrafast"}, "webm": {"speed": 8}, "keep_free": 10}
    encoders = {"encode": {"talks": quick, "crew": {"script": "crew.sh"}}}
    made = Lab.of("10.99.71", {"cam": {"station_roles": camera}, "enc": {"station_roles": encoders}})
    files = made.inventory / "files"
    files.mkdir(exist_ok=True)
    (files / "crew.sh").write_text(SCRIPT)
    with made as lab:
        lab.playbook("site.yml")
        yield lab


def segments(lab):
    index = "/srv/stationmaster/ingest/main/index.jsonl"
    text = lab.wait("cam", f"test $(wc -l < {index}) -gt 4 && cat {index}", 90)
    return [json.loads(line) for line in text.splitlines()]


def job(lab, id_, seconds):
    """A job for the newest `seconds` of the recording."""
    end = utc.from_text(segments(lab)[-1]["utc"])
    return {"id": id_, "title": f"Talk {id_}", "start": stamp(end - seconds), "end": stamp(end)}


def put(lab, instance, value):
    path = f"{DATA}/{instance}/todo/{value['id']}.json"
    lab.write("enc", path, json.dumps(value))


def finished(lab, id_, seconds=240, instance="talks"):
    folder = f"{DATA}/{instance}"
    look = f"cat {folder}/done/{id_}/manifest.json || {{ cat {folder}/status.json; tail {folder}/fail/*; false; }}"
    return json.loads(lab.wait("enc", look, seconds))


def test_a_talk_from_another_station(lab):
    put(lab, "talks", job(lab, "first", 6))
    manifest = finished(lab, "first")
    assert manifest["frames"] == 150 and not manifest["gaps"]
    assert sorted(file["name"] for file in manifest["files"]) == ["first.mp4", "first.opus", "first.webm"]
    for file in manifest["files"]:
        assert lab.out("enc", f"sha256sum < {DATA}/talks/done/first/{file['name']}").split()[0] == file["sha256"]
    # Others on the station may read it, and over HTTP everyone.
    owner = lab.out("enc", f"stat -c '%U:%G %a' {DATA}/talks/done/first/first.mp4")
    assert owner in ("sm-encode:sm-media 640", "sm-encode:sm-media 644")
    url = f"http://{lab.address('enc')}:8080/encode/talks/done/index.json"
    fetch = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
    assert json.loads(lab.out("cam", ["python3", "-c", fetch])) == ["first"]
    status = lab.out("enc", "systemctl show -P StatusText stationmaster-encode@talks.service")
    assert "0 in fail/" in status


def test_a_job_by_the_crews_program(lab):
    put(lab, "crew", {"schedule_id": "7", "id": "seven", "anything": [1]})
    manifest = finished(lab, "seven", 60, "crew")
    assert [file["name"] for file in manifest["files"]] == ["job.json"]
    assert json.loads(lab.read("enc", f"{DATA}/crew/done/seven/job.json"))["anything"] == [1]


def test_a_power_cut_in_the_middle_loses_no_job_and_no_product(lab):
    """What was finished stays whole, what was being made is made after the boot, and nothing half is ever in done/."""
    before = lab.out("enc", f"cat {DATA}/talks/done/index.json")
    put(lab, "talks", job(lab, "cut", 8))
    # The job itself must be on the disk: whoever writes it with station.job has that.
    lab.run("enc", f"sync {DATA}/talks/todo/cut.json {DATA}/talks/todo")
    lab.wait("enc", f"grep -q '\"mp4\": ' {DATA}/talks/status.json && test -e {DATA}/talks/wip/cut.work/product", 60)
    time.sleep(1)
    lab.power_cut("enc")
    lab.boot("enc")
    manifest = finished(lab, "cut")
    assert manifest["frames"] == 200
    for file in manifest["files"]:
        assert lab.out("enc", f"sha256sum < {DATA}/talks/done/cut/{file['name']}").split()[0] == file["sha256"]
    assert set(json.loads(before)) < set(json.loads(lab.out("enc", f"cat {DATA}/talks/done/index.json")))
