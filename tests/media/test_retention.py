"""What may be deleted, and what never."""

import http.server
import json
import threading
from dataclasses import replace
from functools import partial

import pytest

from station import index, receipts
from station.config import load
from station.media import MediaFolder
from station.receipts import Witnesses, hashes
from station.retention import NEWEST, Policy, plan
from tests.media import kit

RULE = Policy(hours=72, reserve_share=0.05, warn_hours=4)
NOW = 1_772_355_600.0
FULL = {"free": 0, "total": 100_000_000}
ROOMY = {"free": 90_000_000, "total": 100_000_000}


def segments(count, *, hours_ago=0.0):
    """So many talk segments, and behind them the newest ones, which never go."""
    start = NOW - hours_ago * 3600
    return [
        index.Segment(
            name=f"20260301/09/a_{number}.ts",
            seq=number,
            pts=0.0,
            utc=index.utc.to_text(start + 2 * number),
            duration=2.0,
            frames=50,
            size=1_000_000,
            sha256=f"{number:064x}",
            discontinuity=False,
            boot_id="b",
        )
        for number in range(count + NEWEST)
    ]


def test_without_a_receipt_nothing_goes_at_any_age():
    old = segments(20, hours_ago=10_000)
    made = plan(old, set(), set(), RULE, now=NOW, **FULL)
    assert not made.receipted and not made.copied
    assert made.missing == 5_000_000


def test_age_takes_only_what_has_a_receipt():
    old = segments(20, hours_ago=100)
    verified = {one.sha256 for one in old[:10]}
    made = plan(old, verified, set(), RULE, now=NOW, **ROOMY)
    # The last one of the talk borders on something without a receipt: it may belong to the next talk.
    assert made.receipted == old[:9]
    assert not plan(segments(20, hours_ago=10), verified, set(), RULE, now=NOW, **ROOMY).receipted
    assert not plan(old, verified, set(), replace(RULE, hours=0), now=NOW, **ROOMY).receipted


def test_space_takes_receipts_first_then_copies_oldest_first_and_no_more_than_needed():
    fresh = segments(20)
    verified = {one.sha256 for one in fresh[10:15]}
    copies = {(one.name, one.sha256) for one in fresh}
    made = plan(fresh, verified, copies, RULE, now=NOW, **FULL)
    assert made.receipted == fresh[11:14]
    assert made.copied == fresh[:3]
    assert made.missing == 0


def test_a_copy_counts_only_with_the_same_checksum():
    fresh = segments(20)
    made = plan(fresh, set(), {(one.name, "0" * 63 + "x") for one in fresh}, RULE, now=NOW, **FULL)
    assert not made.copied


def test_the_newest_never_go():
    fresh = segments(0)
    everything = {one.sha256 for one in fresh}
    assert not plan(fresh, everything, {(one.name, one.sha256) for one in fresh}, RULE, now=NOW, **FULL).receipted


@pytest.mark.parametrize(
    "receipt", [None, [], {}, {"verified_at": None, "ranges": [{"segments": [{"sha256": "a"}]}]}, {"verified_at": "x"}]
)
def test_an_unverified_receipt_is_none(receipt):
    assert list(hashes(receipt)) == []


def test_take_off_notes_unlists_deletes_in_this_order(tmp_path):
    media = kit.recording(tmp_path / "data", 5)
    going = media.index.segments[:2]
    freed = media.take_off(going, "receipt")
    assert freed == sum(segment.size for segment in going)
    assert [segment.seq for segment in index.reader(media.folder).poll()] == [2, 3, 4]
    assert not (media.folder / going[0].name).exists()
    notes = [json.loads(line) for line in (media.folder / "removed.jsonl").read_text().splitlines()]
    assert [(note["name"], note["reason"]) for note in notes] == [(one.name, "receipt") for one in going]
    assert MediaFolder(media.folder, 2).removed == {one.name for one in going}


def test_full_disk_still_lets_go(tmp_path, small_disk):
    """Not even the note about it has room: the oldest file makes some."""
    disk = small_disk(2)
    media = kit.recording(disk / "data", 6, size=250_000)
    with pytest.raises(OSError, match="No space"):  # noqa: SIM117 - what fills the disk is the point
        with (disk / "ballast").open("wb") as file:
            for _ in range(100):
                file.write(bytes(65536))
                file.flush()
    assert media.take_off(media.index.segments[:3], "receipt") == 750_000
    assert len(MediaFolder(media.folder, 2).index.segments) == 3


def test_receipts_and_copies_are_fetched_kept_and_distrusted_when_stale(tmp_path, closing, monkeypatch):
    upload = tmp_path / "upload" / "receipts"
    upload.mkdir(parents=True)
    media = kit.recording(tmp_path / "copy", 3)
    wanted = media.index.segments[0]
    receipt = {
        "id": "talk1",
        "verified_at": "2026-03-01T10:00:00Z",
        "ranges": [{"segments": [{"sha256": wanted.sha256}]}],
    }
    (upload / "index.json").write_text(json.dumps(["talk1", "talk2", "../evil"]))
    (upload / "talk1.json").write_text(json.dumps(receipt))
    (upload / "talk2.json").write_text(json.dumps({"id": "talk2", "verified_at": None, "ranges": []}))
    handler = partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    context = {"receipts": [f"{base}/upload/receipts/"], "copies": [f"{base}/copy/"]}
    instance = closing(kit.Instance(tmp_path / "ingest", "ingest", {}, context=context))
    config = load(instance.folder / "config.json")
    config.paths.data.mkdir()
    try:
        witnesses = Witnesses(config)
        witnesses.refresh()
        assert witnesses.receipts == {wanted.sha256}
        assert witnesses.copies() == {(one.name, one.sha256) for one in media.index.segments}
        (media.index).rewrite(media.index.segments[:1])
        witnesses.refresh()
        assert witnesses.copies() == {(wanted.name, wanted.sha256)}
        monkeypatch.setattr(receipts, "FRESH", 0.0)
        assert witnesses.copies() == set()
        assert witnesses.receipts == {wanted.sha256}
    finally:
        server.shutdown()
        server.server_close()
    # The upload station is gone: what it said is still known, a copy that nobody sees is not.
    later = Witnesses(config)
    later.refresh()
    assert later.receipts == {wanted.sha256}
    assert later.copies() == set()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
