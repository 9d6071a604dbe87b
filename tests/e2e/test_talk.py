"""A talk from the camera to the archive, exact to the frame, with its receipt."""

import hashlib
import json
import subprocess

import pytest

from station import testcard, utc
from tests.e2e.stage import CAM, ENC, STORAGE, probe, strips, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FRAME = 1 / 25
SIZE = (320, 180)
SECONDS = 5
SPY = """
import glob, time
seen = set()
while True:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            seen.add(open(path, "rb").read())
        except OSError:
            pass
    with open("/run/spy", "wb") as file:
        file.write(b"\\n".join(seen))
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def talk(conference, tmp_path_factory):
    """A finished and uploaded talk: its manifest, its receipt, its files here, and all arguments of its time."""
    stage = conference
    stage.heal()
    name = "opening"
    when = stage.talk(CAM, "ingest/main", SECONDS)
    stage.write(ENC, "/run/spy.py", SPY)
    stage.run(ENC, "systemd-run --quiet --collect --unit=spy python3 /run/spy.py")
    try:
        stage.job(ENC, when, name)
        manifest = stage.product(ENC, name)
        receipt = wait_for(lambda: stage.json(ENC, f"upload/archive/receipts/{name}.json"), 60, "the receipt")
    finally:
        stage.run(ENC, "systemctl stop spy", check=False)
    folder = tmp_path_factory.mktemp("talk")
    for file in manifest["files"]:
        (folder / file["name"]).write_bytes(stage.get(ENC, f"encode/talks/done/{name}/{file['name']}"))
    arguments = stage.read(ENC, "/run/spy")
    return {"when": when, "manifest": manifest, "receipt": receipt, "folder": folder, "arguments": arguments}


def test_there_is_a_film_in_two_formats_and_the_sound_alone(talk):
    found = {}
    for file in talk["manifest"]["files"]:
        path = talk["folder"] / file["name"]
        data = path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
        facts = probe(path)
        found[file["format"]] = [stream["codec_name"] for stream in facts["streams"]]
        cards = 0 if file["format"] == "audio" else 2
        assert float(facts["format"]["duration"]) == pytest.approx(SECONDS + cards, abs=0.1)
        for stream in facts["streams"]:
            if stream["codec_type"] == "video":
                assert (stream["width"], stream["height"]) == SIZE
                assert int(stream["nb_read_frames"]) == round((SECONDS + cards) / FRAME)
    assert found == {"mp4": ["h264", "aac"], "webm": ["vp9", "opus"], "audio": ["opus"]}
    tags = probe(next(talk["folder"].glob("*.mp4")))["format"]["tags"]
    assert tags["title"] == "Talk opening"
    assert "Ada" in tags["artist"] and "Grace" in tags["artist"]


def shown(path):
    """The time in each frame of a film, by the clock that the source burnt in; None where there is none."""
    return [testcard.decode(row) for row in strips(path, *SIZE)]


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_cut_is_exact_by_the_clock_in_the_picture(talk, kind):
    """The clock was in the picture before the ingest saw it. A busy machine makes frames late, never early."""
    times = shown(next(talk["folder"].glob(f"*.{kind}")))
    frames = round(SECONDS / FRAME)
    card = (len(times) - frames) // 2
    inside = times[card : card + frames]
    assert None not in inside
    assert times[:card] == times[card + frames :] == [None] * card
    start, end = talk["when"]
    late = [moment - (start + at * FRAME) for at, moment in enumerate(inside)]
    assert -FRAME < min(late) < FRAME, late
    assert inside == sorted(inside)
    assert len(inside) == round((end - start) / FRAME)


def test_the_film_holds_each_recorded_frame_once(stage, talk, tmp_path):
    """Frame by frame what the camera's segments hold, however busy the machine was."""
    (part,) = talk["manifest"]["ranges"]
    recorded = []
    for segment in part["segments"]:
        data = stage.get(CAM, f"ingest/main/{segment['name']}")
        assert hashlib.sha256(data).hexdigest() == segment["sha256"]
        (tmp_path / "one.ts").write_bytes(data)
        recorded += shown(tmp_path / "one.ts")
    film = [moment for moment in shown(next(talk["folder"].glob("*.mp4"))) if moment is not None]
    at = recorded.index(film[0])
    assert film == recorded[at : at + len(film)]


def test_the_upload_is_verified_and_its_receipt_served(stage, talk):
    receipt = talk["receipt"]
    assert receipt["id"] == "opening"
    assert receipt["target"] == "archive"
    assert utc.from_text(receipt["verified_at"]) > talk["when"][1]
    assert receipt["ranges"] == talk["manifest"]["ranges"]
    sums = {file["name"]: file["sha256"] for file in talk["manifest"]["files"]}
    assert {file["name"]: file["sha256"] for file in receipt["files"] if file["name"] in sums} == sums
    stored = stage.out(
        STORAGE, "cd /srv/stationmaster/target/main; find . -type f ! -path '*/.incoming/*' -exec sha256sum {} +"
    )
    there = {line.split()[1].rpartition("/")[2]: line.split()[0] for line in stored.splitlines()}
    assert {name: there.get(name) for name in sums} == sums
    assert "opening" in stage.json(ENC, "upload/archive/receipts/index.json")
    assert all(file["url"] for file in receipt["files"])


def test_the_receipt_comes_to_the_camera_that_recorded_it(stage, talk):
    """Only then may its segments ever be deleted."""
    metrics = "cat /run/stationmaster/metrics/ingest-main.prom"
    place = "/srv/stationmaster/ingest/main"
    wait_for(
        lambda: (
            "opening" in stage.out(CAM, f"({metrics}; cat {place}/*.json {place}/.*.json; ls -R {place}) 2>/dev/null")
        ),
        90,
        "the receipt at the camera",
    )


def test_no_argument_ever_held_a_secret(stage, talk):
    assert b"rclone" in talk["arguments"]
    assert b"ffmpeg" in talk["arguments"]
    for word in stage.secrets():
        assert word.encode() not in talk["arguments"]


def test_a_bad_job_fails_alone_and_says_why(stage, talk):
    job = {
        "id": "backwards",
        "title": "Backwards",
        "start": "2026-03-01T10:00:00.000Z",
        "end": "2026-03-01T09:00:00.000Z",
    }
    stage.playbook("playbooks/encode.yml", "-l", ENC, instance="talks", job=job)
    reason = wait_for(lambda: stage.get(ENC, "encode/talks/fail/backwards.reason.json"), 30, "the reason")
    assert "end" in json.loads(reason)["reason"]
    assert stage.json(ENC, "encode/talks/done/opening/manifest.json") == talk["manifest"]


def test_the_page_of_a_product_can_be_played_in_parts(stage, talk):
    name = next(file["name"] for file in talk["manifest"]["files"] if file["format"] == "mp4")
    address = stage.url(ENC, f"encode/talks/done/opening/{name}")
    done = subprocess.run(["curl", "-s", "-r", "4-7", address], capture_output=True, check=True)
    assert done.stdout == b"ftyp"
