"""What is in force: only a state that passed the check, with the hashes that an apply would bring."""

import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from sqlalchemy import select

from api.inventory_child import Worker
from api.inventory_sources import KEPT_TREES, Branch
from api.inventory_worker import Judged, Rendered
from api.problems import Problem
from api.settings import CHECKOUT, Settings
from api.tables import Run, Wanted
from tests.api import event as events

PAYLOADS = """
- name: What an apply would send
  hosts: ~^(rooms|services)$
  gather_facts: false
  tasks:
    - name: Check and render, as site.yml does
      station_check:
      run_once: true

    - name: Keep the payloads
      ansible.builtin.shell: cp {{ top }}/ansible-local-*/stationmaster/*.payload {{ top }}
      delegate_to: localhost
      connection: local
      run_once: true
"""


def manifest(payload: bytes) -> dict:
    """The manifest in a payload, as the applier finds it."""
    head, _, rest = payload.partition(b"\n")
    rest = rest[int(head.split()[1]) :]
    size, _, body = rest.partition(b"\n")
    return json.loads(zlib.decompress(body[: int(size)]))["manifest"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A followed copy of the demo, with all hashes; not for tests that change it."""
    top = tmp_path_factory.mktemp("demo")
    folder = events.copy(top / "inventory")
    with events.following(top / "data", inventory=folder) as inventory:
        events.in_force(inventory)
        yield inventory


def test_wanted_hashes_are_those_that_an_apply_sends(demo, tmp_path):
    playbook = tmp_path / "payloads.yml"
    playbook.write_text(PAYLOADS)
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", demo.current().path, playbook]
    environment = {**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    done = subprocess.run(
        [*command, "-e", f"top={tmp_path}"], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sent = {path.stem: manifest(path.read_bytes())["wanted"] for path in tmp_path.glob("*.payload")}
    assert len(sent) == 6
    assert demo.wanted() == sent


def test_wanted_hashes_are_kept_by_revision(demo):
    with demo._database.reading() as session:
        kept = {row.station: row.hash for row in session.scalars(select(Wanted))}
        revisions = set(session.scalars(select(Wanted.revision)))
    assert kept == demo.wanted()
    assert revisions == {demo.current().revision}
    assert re.fullmatch("folder:[0-9a-f]{12}", demo.current().revision)


def test_a_snapshot_knows_rooms(demo):
    snapshot = demo.current()
    assert snapshot.room_of("hall-a-cam") == "hall_a"
    assert snapshot.room_of("storage") is None
    assert snapshot.room_of("nobody") is None
    assert snapshot.stations_of("hall_b") == ["hall-b-cam", "hall-b-enc"]
    assert snapshot.stations_of("services") == []
    assert snapshot.event.stations["hall-a-cam"].room is snapshot.event.rooms["hall_a"]


def test_no_secret_leaves_the_worker(demo):
    vault = ["--vault-id", "demo@inventory/demo-vault-password"]
    command = [Path(sys.executable).with_name("ansible"), "-i", "inventory", "storage", *vault]
    done = subprocess.run(
        [*command, "-m", "debug", "-a", "msg={{ storage_password }}"], cwd=CHECKOUT, capture_output=True, text=True
    )
    secret = re.search(r'"msg": "(.+)"', done.stdout)[1]
    assert len(secret) > 5
    state = pickle.dumps(demo.current().event) + json.dumps(demo.newest.findings).encode()
    assert b"hall-a-enc" in state
    assert secret.encode() not in state
    assert b"PRIVATE KEY" not in state
    target = demo.current().event.stations["storage"].roles["target"]["main"]
    assert "password" not in target.options and "host_key" in target.options
    database = Path(demo._database.url.database)
    for path in database.parent.iterdir():
        assert path.is_dir() or secret.encode() not in path.read_bytes()


def test_an_edit_is_in_force_once_it_passes(tmp_path):
    folder = events.copy(tmp_path / "inventory")
    room = folder / "rooms/hall-a.yml"
    told, refused = [], []
    with events.following(tmp_path / "data", inventory=folder) as inventory:
        inventory.subscribe(lambda snapshot: told.append((snapshot.state, len(inventory.wanted()))))
        inventory.subscribe_refused(refused.append)
        first = events.in_force(inventory)
        before = dict(inventory.wanted())

        events.edit(room, "testcard", "testcrad")
        assert not inventory.is_settled()
        found = events.until(lambda: inventory.findings)
        assert (found[0]["station"], found[0]["file"]) == ("hall-a-cam", "rooms/hall-a.yml")
        assert str(tmp_path) not in json.dumps(found)
        assert inventory.current() is first and inventory.wanted() == before
        assert refused == [found]

        events.edit(room, "testcrad", "testcard")
        events.edit(room, "{source: {type: testcard}}", "{source: {type: testcard}, video: {rate: 30}}")
        second = events.in_force(inventory, not_state=first.state)
        assert inventory.findings == []
        changed = {name for name, value in inventory.wanted().items() if value != before[name]}
        assert "hall-a-cam" in changed and not any(name.startswith("hall-b") for name in changed)
        events.until(lambda: len(told) == 4)
    assert told == [(first.state, 0), (first.state, 6), (second.state, 0), (second.state, 6)]


def test_one_that_is_broken_from_the_start_is_told_and_mended(tmp_path):
    folder = events.copy(tmp_path / "inventory")
    events.edit(folder / "rooms/hall-a.yml", "station_blocked_roles: [ingest]", "station_blocked_roles: [encode]")
    with events.following(tmp_path / "data", inventory=folder) as inventory:
        events.until(lambda: inventory.findings)
        with pytest.raises(Problem) as caught:
            inventory.current()
        assert (caught.value.status, caught.value.code) == (503, "InventoryUnusable")
        assert caught.value.extra["findings"][0]["error"] == "BlockedRole"
        assert inventory.wanted_of("storage") is None and not inventory.is_settled()
        events.edit(folder / "rooms/hall-a.yml", "station_blocked_roles: [encode]", "station_blocked_roles: [ingest]")
        events.in_force(inventory)


def test_a_folder_in_git_has_the_commit_for_revision(tmp_path):
    folder = events.copy(tmp_path / "inventory")
    events.git(tmp_path, "init", "-q", "inventory")
    first = events.commit(folder, "Begin")
    with events.following(tmp_path / "data", inventory=folder) as inventory:
        clean = events.in_force(inventory, first)
        assert not clean.dirty
        events.edit(folder / "group_vars/all/event.yml", "A conference in a box", "A conference")
        dirty = events.in_force(inventory, not_state=clean.state)
        assert (dirty.revision, dirty.dirty) == (first, True)
        second = events.commit(folder, "Name it")
        committed = events.in_force(inventory, second)
        assert not committed.dirty


def test_a_branch_is_followed_commit_by_commit(tmp_path):
    folder = events.copy(tmp_path / "repository")
    events.git(tmp_path, "init", "-q", "repository")
    first = events.commit(folder, "Begin")
    settings = {"inventory": folder, "branch": "main", "follow_interval": 0.1}
    with events.following(tmp_path / "data", **settings) as inventory:
        snapshot = events.in_force(inventory, first)
        assert snapshot.path == tmp_path / "data" / "inventory" / first
        assert snapshot.path.stat().st_mode & 0o777 and (tmp_path / "data/inventory").stat().st_mode & 0o077 == 0
        described = events.git(snapshot.path, "describe", "--always", "--dirty=+dirty", "--abbrev=12", "--exclude=*")
        assert described == first[:12]

        events.edit(folder / "rooms/hall-a.yml", "testcard", "testcrad")
        time.sleep(0.5)
        assert inventory.newest.revision == first  # an edit that is not committed is nobody's business
        broken = events.commit(folder, "Break it")
        events.until(lambda: inventory.newest.revision == broken)
        assert inventory.findings and inventory.current().revision == first
        assert inventory.is_settled()
    with events.following(tmp_path / "data", **settings) as inventory:
        events.in_force(inventory, first)  # after a restart too, although the newest still does not pass
        events.until(lambda: inventory.newest.revision == broken)
        assert inventory.current().revision == first
        (snapshot.path / "rooms/hall-a.yml").write_text("changed behind our back")
        events.edit(folder / "rooms/hall-a.yml", "testcrad", "testcard")
        mended = events.commit(folder, "Mend it")
        events.in_force(inventory, mended)
        events.edit(folder / "rooms/hall-b.yml", "Hall B", "Second hall")
        events.git(folder, "checkout", "-q", "-b", "side")
        events.commit(folder, "On another branch")
        time.sleep(0.5)
        assert inventory.newest.revision == mended
        events.git(folder, "branch", "-f", "main", first)
        again = events.in_force(inventory, first)
        assert "hall_a" in (again.path / "rooms/hall-a.yml").read_text()  # made anew


def test_a_repository_that_goes_away_changes_nothing(tmp_path):
    folder = events.copy(tmp_path / "repository")
    events.git(tmp_path, "init", "-q", "repository")
    first = events.commit(folder, "Begin")
    with events.following(
        tmp_path / "data", inventory=f"file://{folder}", branch="main", follow_interval=0.1
    ) as inventory:
        events.in_force(inventory, first)
        folder.rename(tmp_path / "away")
        problem = events.until(lambda: inventory.newest.problem)
        assert str(tmp_path) not in problem
        assert inventory.current().revision == first
        assert inventory.check().problem == problem
        (tmp_path / "away").rename(folder)
        events.until(lambda: inventory.newest.problem is None)


def test_old_work_trees_go_unless_a_run_uses_them(tmp_path):
    folder = events.copy(tmp_path / "repository")
    events.git(tmp_path, "init", "-q", "repository")
    settings = Settings(data=tmp_path / "data", inventory=folder, branch="main")
    branch, commits = Branch(settings), []
    for number in range(8):
        (folder / "files" / "README.md").write_text(str(number))
        commits.append(events.commit(folder, f"Change {number}"))
        assert branch.look().revision == commits[-1]
    branch.tidy({commits[0], commits[-1]})
    kept = {path.name for path in (tmp_path / "data/inventory").iterdir() if len(path.name) == 40}
    assert kept == {commits[0], *commits[-KEPT_TREES:]}


def test_what_runs_use_is_not_removed(tmp_path, monkeypatch):
    folder = events.copy(tmp_path / "repository")
    events.git(tmp_path, "init", "-q", "repository")
    first = events.commit(folder, "Begin")
    told = []
    monkeypatch.setattr(Branch, "tidy", lambda _self, used: told.append(used))
    with events.following(tmp_path / "data", inventory=folder, branch="main") as inventory:
        with inventory._database.writing() as session:
            for name, ended in (("running", None), ("over", 2.0)):
                session.add(
                    Run(
                        id=name, action="apply", target={}, parameters={}, stations=["spare"], state="x", author="a",
                        body_hash="", created_at=1.0, revision=f"{name} of", result={}, ended_at=ended,
                    )
                )  # fmt: skip
        events.until(lambda: told)
    assert told[0] == {first, "running of"}


def test_checks_beside_the_following_do_not_disturb_it(tmp_path):
    folder = events.copy(tmp_path / "repository")
    events.git(tmp_path, "init", "-q", "repository")
    events.commit(folder, "Begin")
    with events.following(tmp_path / "data", inventory=folder, branch="main", follow_interval=0.01) as inventory:
        found = []
        threads = [threading.Thread(target=lambda: found.append(inventory.check())) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(one.problem, one.stations, one.findings) for one in found] == [(None, 6, [])] * 6
        assert len({id(one) for one in found}) <= 2  # who waits shares what began after it came
        events.in_force(inventory)


def test_a_script_of_the_inventory_that_hangs_is_killed_with_the_check(tmp_path):
    folder = events.copy(tmp_path / "inventory")
    script = folder / "hangs"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    with events.following(tmp_path / "data", inventory=folder) as inventory:
        pid = events.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        began = time.monotonic()
        inventory.stop()
        assert time.monotonic() - began < 5
        events.until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_check_that_dies_is_no_finding(tmp_path):
    worker = Worker(events.copy(tmp_path / "inventory"), "x")
    worker.end()
    (message,) = worker.messages()
    assert isinstance(message, Judged) and "status -9" in message.failed and not message.findings


def test_a_state_that_changes_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    folder = events.copy(tmp_path / "inventory")
    started = []

    class Slow(Worker):
        def messages(self):
            for message in super().messages():
                if isinstance(message, Judged) and not started:
                    started.append(self)
                    events.edit(folder / "rooms/hall-a.yml", "Hall A", "Aula")
                yield message

    monkeypatch.setattr("api.inventory.Worker", Slow)
    titles = []
    with events.following(tmp_path / "data", inventory=folder) as inventory:
        inventory.subscribe(lambda snapshot: titles.append(snapshot.event.rooms["hall_a"].title))
        events.in_force(inventory)
    assert started and set(titles) == {"Aula"}


def test_what_ansible_prints_is_no_message(tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_DEBUG", "1")  # goes to the standard output
    folder = events.copy(tmp_path / "inventory")
    script = folder / "chatty"
    script.write_text('#!/bin/sh\necho noise >&2\necho \'{"_meta": {"hostvars": {}}}\'\n')
    script.chmod(0o755)
    messages = list(Worker(folder, "x").messages())
    assert [type(message) for message in messages] == [Judged, Rendered]
    assert messages[0].findings == []


def test_settings_refuse_what_cannot_be_followed(tmp_path):
    with pytest.raises(ValueError, match="branch"):
        Settings(data=tmp_path, inventory="https://example.org/event.git")
    kept = Settings(data=tmp_path, inventory="https://example.org/event.git", branch="main")
    assert kept.inventory == "https://example.org/event.git"
    for wrong in ("--upload-pack=x", "a b", ""):
        with pytest.raises(ValueError):
            Settings(data=tmp_path, inventory=tmp_path, branch=wrong)
    for wrong in ("/etc", "../x", "a/../.."):
        with pytest.raises(ValueError):
            Settings(data=tmp_path, inventory=tmp_path, branch="main", inventory_subfolder=wrong)
