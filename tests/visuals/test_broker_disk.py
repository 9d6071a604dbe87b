"""A broker's files after a power cut: what changed was synchronised, what is torn goes aside, the rest stays."""

import os
from pathlib import Path

import pytest

from station import broker_disk


def test_each_round_synchronises_what_changed_since_the_last_and_new_files_with_their_folder(tmp_path, monkeypatch):
    told = []
    real = os.fsync

    def fsync(handle):
        told.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    one, two = tmp_path / "a/one", tmp_path / "a/two"
    one.parent.mkdir()
    one.write_text("1")
    two.write_text("2")
    synchroniser = broker_disk.Synchroniser(tmp_path)
    assert synchroniser.round() == 2
    assert {str(one), str(two), str(one.parent), str(tmp_path)} <= set(told)
    told.clear()
    assert synchroniser.round() == 0 and not told
    with two.open("a") as file:
        file.write("more")
    assert synchroniser.round() == 1 and told == [str(two)]
    told.clear()
    (tmp_path / "new").write_text("3")
    synchroniser.round()
    told.clear()
    (tmp_path / "new").rename(one)
    assert synchroniser.round() == 1 and str(one.parent) in told, "the name of what replaces another is not durable"


@pytest.mark.parametrize("name", broker_disk.NEVER_EMPTY)
def test_torn_files_are_set_aside_and_kept(tmp_path, name):
    database = tmp_path / "node"
    (database / "quorum").mkdir(parents=True)
    (database / "quorum" / name).touch()
    (database / "stream").write_text("what was there")
    assert broker_disk.set_torn_aside(database)
    assert not database.exists()
    assert (tmp_path / "node.torn/stream").read_text() == "what was there"


def test_whole_files_stay_where_they_are(tmp_path):
    database = tmp_path / "node"
    database.mkdir()
    (database / "meta.dets").write_text("whole")
    (database / "empty").touch()
    assert not broker_disk.set_torn_aside(database)
    assert (database / "meta.dets").exists()
    assert not broker_disk.set_torn_aside(tmp_path / "none yet")
