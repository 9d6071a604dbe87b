"""The inventory judged with lines that it has not: in a copy that means the same, one at a time, and never kept."""

import os
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from api import inventory_trial
from api.inventory_worker import Judged
from api.problems import Problem
from tests.api import event as events


class Fake:
    """A worker that looks at its folder instead of judging it."""

    seen: list
    answer = Judged([{"error": "x"}])

    def __init__(self, folder, revision):
        assert revision is None
        self.folder = folder

    def judged(self):
        type(self).look(self.folder)
        return self.answer


@pytest.fixture
def turns():
    return SimpleNamespace(checking=threading.Lock())


def test_the_copy_has_what_ansible_reads_and_nothing_else(tmp_path, monkeypatch, turns):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "all.yml").write_text("far: away")
    folder = tmp_path / "event"
    for below in (".git", "rooms", "files", "group_vars"):
        (folder / below).mkdir(parents=True)
    (folder / ".git/config").write_text("token")
    (folder / "rooms/a.yml").write_text("a: b")
    (folder / "rooms/near.yml").symlink_to(folder / "rooms/a.yml")
    (folder / "group_vars/all").symlink_to("../../outside")
    (folder / "rooms/gone.yml").symlink_to("nowhere.yml")
    found = {}

    def look(copy):
        found["modes"] = [stat.S_IMODE(place.stat().st_mode) for place in (copy, copy.parent)]
        everything = [Path(place, name) for place, *below in os.walk(copy) for names in below for name in names]
        found["names"] = {str(path.relative_to(copy)) for path in everything}
        found["links"] = {str(path.relative_to(copy)): str(path.readlink()) for path in everything if path.is_symlink()}
        found["last"] = max((path.name for path in copy.iterdir()), key=os.fsencode)
        found["copy"] = copy

    monkeypatch.setattr(Fake, "look", look, raising=False)
    monkeypatch.setattr(inventory_trial, "Worker", Fake)
    for given in (folder, folder / "rooms/../"):
        inventory_trial.judge_with(turns, given, "rooms: {}")
        assert found["modes"] == [0o700, 0o700]
        assert found["names"] == {
            inventory_trial.ADDED, "files", "group_vars", "group_vars/all", "rooms", "rooms/a.yml", "rooms/gone.yml",
            "rooms/near.yml",
        }  # fmt: skip
        assert found["links"] == {
            "files": str(folder / "files"), "group_vars/all": str(outside), "rooms/near.yml": "a.yml",
            "rooms/gone.yml": str(folder / "rooms/nowhere.yml"),
        }  # fmt: skip
        assert found["last"] == inventory_trial.ADDED
        assert not found["copy"].parent.exists()


def test_the_copy_is_removed_and_the_turn_given_back_when_the_check_breaks(tmp_path, monkeypatch, turns):
    def look(copy):
        raise RuntimeError(copy.parent)

    monkeypatch.setattr(Fake, "look", look, raising=False)
    monkeypatch.setattr(inventory_trial, "Worker", Fake)
    folder = events.copy(tmp_path / "demo")
    for _ in range(inventory_trial.WAITING + 1):
        with pytest.raises(RuntimeError) as error:
            inventory_trial.judge_with(turns, folder, "")
        assert not error.value.args[0].exists()
    assert not turns.checking.locked()


@pytest.mark.parametrize("answer", [Judged([], failed="a script hung"), Judged([])])
def test_a_check_that_failed_claims_nothing(tmp_path, monkeypatch, turns, answer):
    monkeypatch.setattr(Fake, "look", lambda copy: None, raising=False)
    monkeypatch.setattr(Fake, "answer", answer)
    monkeypatch.setattr(inventory_trial, "Worker", Fake)
    for path in (events.copy(tmp_path / "demo"), tmp_path / "none"):
        with pytest.raises(Problem) as error:
            inventory_trial.judge_with(turns, path, "")
        assert (error.value.status, error.value.code, error.value.retryable) == (503, "InventoryUnusable", True)


def test_one_check_runs_at_a_time_and_few_wait(tmp_path, monkeypatch, turns):
    running, most, refused, done = [], [], [], []

    def look(copy):
        running.append(copy)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    def ask():
        try:
            inventory_trial.judge_with(turns, folder, "")
            done.append(1)
        except Problem as told:
            refused.append((told.status, told.code))

    monkeypatch.setattr(Fake, "look", look, raising=False)
    monkeypatch.setattr(inventory_trial, "Worker", Fake)
    folder = events.copy(tmp_path / "demo")
    askers = [threading.Thread(target=ask) for _ in range(20)]
    with turns.checking:
        for one in askers:
            one.start()
        events.until(lambda: len(refused) == 20 - inventory_trial.WAITING)
    for one in askers:
        one.join()
    assert (set(most), len(done), set(refused)) == ({1}, inventory_trial.WAITING, {(503, "TooManyChecks")})
