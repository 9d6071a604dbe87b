"""Every half state that a crash or a power cut can leave is taken up to one of two ends: done, or queued again."""

import json

import pytest

from station import job_folder
from station.job_folder import Busy, JobFolder


@pytest.fixture
def folder(tmp_path):
    made = JobFolder(tmp_path, "boot-1")
    yield made
    made.close()


def put(folder, name="a", value=None):
    path = folder.todo / f"{name}.json"
    path.write_text(json.dumps(value or {"id": name}))
    return path


def claimed(folder, name="a"):
    put(folder, name)
    folder.scan()
    (found,) = (one for one in folder.scan() if one.path.stem == name)
    folder.begin(name)
    return folder.claim(found)


def product(folder, name="a", text="new"):
    work = folder.work(name)
    (work / "product").mkdir(parents=True, exist_ok=True)
    (work / "product" / "film").write_text(text)
    (work / "manifest.json").write_text(json.dumps({"id": name, "text": text}))


def test_a_file_is_read_when_it_no_longer_changes(folder):
    path = put(folder)
    assert folder.scan() == []
    assert [found.value for found in folder.scan()] == [{"id": "a"}]
    path.write_text('{"id": "a", "ti')
    folder.scan()
    assert folder.scan() == [], "half a job may still be being copied"


def test_a_job_is_on_the_disk_once_it_was_seen(folder, monkeypatch):
    """Whoever copied it there did not synchronise it; it must survive a power cut all the same."""
    synced = []
    monkeypatch.setattr(job_folder.files, "sync_file", synced.append)
    path = put(folder)
    for _ in range(3):
        folder.scan()
    assert synced == [path]
    path.write_text('{"id": "a", "title": "changed"}')
    folder.scan()
    folder.scan()
    assert synced == [path, path]


def test_half_a_job_is_a_bad_one_after_a_while(folder, monkeypatch):
    monkeypatch.setattr(job_folder, "SETTLE", 0)
    (folder.todo / "a.json").write_text('{"id": "a", "ti')
    folder.scan()
    (found,) = folder.scan()
    assert "is no JSON" in found.problem


def test_what_is_no_ordinary_file_is_not_read(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(job_folder, "SETTLE", 0)
    (tmp_path / "secret").write_text('{"id": "a"}')
    (folder.todo / "link.json").symlink_to(tmp_path / "secret")
    (folder.todo / "huge.json").write_text('"' + "x" * job_folder.LARGEST + '"')
    (folder.todo / "deep.json").write_text("[" * 100_000)
    (folder.todo / "dir.json").mkdir()
    (folder.todo / ".a.json.part").write_text("{}")
    (folder.todo / "old.reason.json").write_text("{}")
    folder.scan()
    assert {found.path.name: bool(found.problem) for found in folder.scan()} == {
        "link.json": True,
        "huge.json": True,
        "deep.json": True,
        "dir.json": True,
    }


def test_a_job_that_changes_at_the_last_moment_is_not_claimed(folder):
    path = put(folder)
    folder.scan()
    (found,) = folder.scan()
    path.write_text('{"id": "b"}')
    assert folder.claim(found) is None
    assert path.exists()
    path.unlink()
    assert folder.claim(found) is None


def test_refusing_twice_overwrites_nothing(folder):
    first = folder.refuse(put(folder), {"reason": "one"})
    second = folder.refuse(put(folder), {"reason": "two"})
    assert first.name == "a.json" and second.name == "a-2.json"
    reasons = [json.loads(path.with_suffix(".reason.json").read_text())["reason"] for path in (first, second)]
    assert reasons == ["one", "two"]
    first.rename(folder.todo / "a.json")
    folder.tidy()
    assert not (folder.fail / "a.reason.json").exists() and (folder.fail / "a-2.reason.json").exists()


def test_two_processes_never_share_a_folder(folder, tmp_path):
    with pytest.raises(Busy):
        JobFolder(tmp_path, "b")


def test_what_was_being_made_is_queued_again(folder):
    path = claimed(folder)
    product(folder)
    folder.recover({path: "a"})
    assert (folder.todo / "a.json").exists() and not path.exists()
    assert not (folder.done / "a").exists()
    assert folder.begin("a") == (1, 0)


def test_reboots_and_crashes_are_told_apart(folder, tmp_path):
    path = claimed(folder)
    folder.recover({path: "a"})
    folder.close()
    other = JobFolder(tmp_path, "boot-2")
    assert other.begin("a") == (0, 1)
    other.forget("a")
    assert other.begin("a") == (0, 1)
    other.close()


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize("replaces", [False, True])
def test_a_power_cut_at_any_step_of_publishing_is_taken_up(tmp_path, monkeypatch, replaces):
    """Each durable step fails in turn; the next start ends with the whole product, and an old one is never lost."""
    steps = 0
    while True:
        root = tmp_path / str(steps)
        folder = JobFolder(root, "b")
        if replaces:
            (folder.done / "a").mkdir()
            (folder.done / "a" / "manifest.json").write_text('{"text": "old"}')
        path = claimed(folder)
        product(folder)
        left = steps

        def move(path, target, left_at=[left], move=job_folder._move):  # noqa: B006 - counts down over the calls
            if left_at[0] == 0:
                raise Cut
            left_at[0] -= 1
            move(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(job_folder, "_move", move)
            try:
                folder.publish(path, "a")
                finished = True
            except Cut:
                finished = False
        folder.close()
        manifest = folder.done / "a" / "manifest.json"
        if manifest.exists() and json.loads(manifest.read_text())["text"] == "new":
            assert (folder.done / "a" / "film").read_text() == "new"
        folder = JobFolder(root, "b")
        folder.recover(dict.fromkeys(folder.working(), "a"))
        assert json.loads(manifest.read_text())["text"] == "new"
        assert (folder.done / "a" / "film").read_text() == "new"
        assert json.loads((folder.done / "index.json").read_text()) == ["a"]
        assert (folder.done / "a.json").exists()
        assert not list(folder.wip.iterdir()) and not list(folder.todo.iterdir())
        old = list((root / "replaced").glob("a-*/manifest.json"))
        assert [json.loads(one.read_text())["text"] for one in old] == (["old"] if replaces else [])
        folder.close()
        if finished:
            break
        steps += 1
    assert steps == (4 if replaces else 3)


def test_working_folders_without_a_job_are_removed(folder):
    for name in ("a", "b"):
        folder.begin(name)
    folder.sweep({"a"})
    assert [path.name for path in folder.wip.iterdir()] == ["a.work"]
