"""Each trap of driving ansible-runner and ansible-core, with real runs; numbers are those of the notes on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api import run_ansible
from api.run_tree import MARK
from api.tables import RunLock
from tests.api.run_fixtures import CHECKOUT
from tests.api.run_kit import alive, shell, wait_for

CANARY = "canary-4711-hunter2"
STUBBORN = """\
trap '' TERM INT HUP
( trap '' TERM; exec setsid sleep 300 ) >/dev/null 2>&1 </dev/null &
touch {{ trace }}/{{ inventory_hostname }}.works
sleep 300 & wait; sleep 300
"""


def works(project, *stations):
    wait_for(lambda: all((project.trace / f"{name}.works").exists() for name in stations))


def nothing_left(caller, run):
    assert alive(run) == []
    assert alive(run, MARK) == []
    with caller.manager.database.reading() as session:
        assert session.query(RunLock).count() == 0


def test_a_cancel_leaves_nothing_of_the_run_alive(managing, project):
    """1, 2, 8: stubborn commands and what they put into the background."""
    project.playbook("apply", shell(STUBBORN))
    caller = managing()
    run = caller.start(room="hall_a")
    works(project, "a1", "a2", "a3")
    assert alive(run)
    assert caller.post(f"/v1/runs/{run}/cancel").json()["state"] == "canceling"
    ended = caller.ended(run)
    nothing_left(caller, run)
    assert (ended["state"], ended["unproven"], ended["cancel_by"]) == ("canceled", {}, ended["author"])
    assert caller.events(run)[-1]["data"]["state"] == "canceled"


def test_a_cancel_names_the_stations_that_it_could_not_check(managing, project):
    inventory = json.loads(project.inventory.read_text())
    inventory["rooms"]["children"]["hall_b"]["hosts"]["b3"] = {
        "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1,
    }  # fmt: skip
    project.inventory.write_text(json.dumps(inventory))
    project.playbook("apply", shell(STUBBORN))
    caller = managing()
    run = caller.start(room="hall_b")
    works(project, "b1", "b2")
    caller.post(f"/v1/runs/{run}/cancel")
    ended = caller.ended(run)
    assert (ended["state"], list(ended["unproven"])) == ("cancel_unverified", ["b3"])
    assert "b3 (could not be reached)" in ended["reason"]
    nothing_left(caller, run)


@pytest.mark.parametrize("setting", ["run_timeout", "silence_timeout"])
def test_a_run_that_takes_too_long_is_ended(managing, project, setting):
    project.playbook("apply", shell(STUBBORN))
    caller = managing(**{setting: 4.0})
    run = caller.ended(caller.start(station="a1"))
    assert run["state"] == "timed_out"
    assert "4 s" in run["reason"]
    nothing_left(caller, run["id"])


def test_without_statistics_a_run_is_incomplete(managing, project):
    """5, 6, 16: neither a broken playbook nor a killed Ansible is a success."""
    (project.folder / "site.yml").write_text("- hosts: [\n")
    caller = managing()
    broken = caller.ended(caller.start(station="a1"))
    assert broken["state"] == "incomplete"
    assert "site.yml" in broken["reason"]
    project.playbook("check", shell(STUBBORN))
    run = caller.start("check", station="a2")
    works(project, "a2")
    for pid in alive(run, MARK):
        if b"ansible-playbook" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    killed = caller.ended(run)
    assert killed["state"] == "incomplete"
    for pid in alive(run):
        os.kill(pid, signal.SIGKILL)


def test_a_station_that_no_play_has_is_told(managing, project):
    """14: a limit that matches less than was asked for is no success."""
    project.playbook("apply", shell("true"), hosts="hall_a")
    caller = managing()
    run = caller.ended(caller.start())
    assert run["state"] == "incomplete"
    assert "b1, b2, b3" in run["reason"]
    assert run["results"]["b1"]["state"] == "untouched"


def test_a_handler_that_fails_ends_nothing(tmp_path, project):
    """4, 5, 14: in a process of its own; and no stations means no run, never all of them."""
    text = """
import json, sys
from pathlib import Path
from api import run_ansible
folder = Path(sys.argv[1])
job = {"run": "x", "project": str(folder), "inventory": str(folder / "inventory.yml"), "stations": ["a1"],
       "known_hosts": None, "environment": run_ansible.passed_on(), "arguments": []}
def handler(event):
    raise RuntimeError("broken")
rc = run_ansible.run(Path(sys.argv[2]), job, folder / "site.yml", {"run": "x"}, handler, lambda: False)
for nobody in ([], ["*"], [""], ["all:!a1"], ["@/etc/passwd"]):
    try:
        run_ansible.run(Path(sys.argv[2]), {**job, "stations": nobody}, folder / "site.yml", {}, handler, lambda: False)
    except ValueError:
        continue
    raise SystemExit(f"{nobody} was run")
print(json.dumps(rc))
"""
    done = subprocess.run(
        [sys.executable, "-c", text, project.folder, tmp_path / "private"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
    assert project.done("a1") == ["apply x"]
    assert project.done("b1") == []


def test_events_are_rows_and_large_results_are_marked(managing, project):
    """6, 12, 13: no file an event, nothing lost at the end, and what was cut says so."""
    many = shell("echo {{ item }}", loop="{{ range(30) | list }}", name="Many")
    huge = shell("head -c 800000 /dev/zero | tr '\\0' x", name="Huge")
    large = shell("head -c 100000 /dev/zero | tr '\\0' y", name="Large")
    hold = shell(
        "touch {{ trace }}/{{ inventory_hostname }}.works; while [ ! -e {{ trace }}/.open ]; do sleep .1; done"
    )
    project.playbook("apply", many, huge, large, hold)
    caller = managing()
    run = caller.start(station="a1")
    works(project, "a1")
    folder = caller.manager.runs.folder(run)
    wait_for(lambda: caller.get(f"/v1/runs/{run}/events").json()["last"] > 35)
    assert len(list(folder.private.rglob("job_events/*.json"))) < 5
    settings = json.loads((folder.private / "env" / "settings").read_text())
    assert settings["pexpect_timeout"] == 0.5
    assert {oct(path.stat().st_mode & 0o777) for path in (folder.path, folder.private)} == {"0o700"}
    (project.trace / ".open").touch()
    assert caller.ended(run)["state"] == "succeeded"
    told = {one["data"].get("task"): one for one in caller.events(run) if one["kind"] == "runner_on_ok"}
    assert told["Huge"]["data"]["truncated"]
    assert told["Large"]["data"]["truncated"]
    assert len(json.dumps(told["Large"])) < 20_000
    assert sum(one["kind"] == "runner_item_on_ok" for one in caller.events(run)) == 30
    wait_for(lambda: not folder.path.exists())


def test_a_secret_gets_nowhere(managing, project, tmp_path, monkeypatch):
    """9, 10: not from the vault, and not from the manager's environment."""
    password = tmp_path / "vault-password"
    password.write_text("open sesame")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    monkeypatch.setenv("SOME_PASSWORD", CANARY)
    vault = [Path(sys.executable).parent / "ansible-vault", "encrypt_string", CANARY]
    text = subprocess.run(vault, cwd=project.folder, capture_output=True, text=True, check=True).stdout
    folder = project.folder / "group_vars"
    folder.mkdir()
    (folder / "rooms.yml").write_text("secret: " + text)
    copy = {"content": "{{ secret }}", "dest": "{{ trace }}/{{ inventory_hostname }}.works", "mode": "0600"}
    project.playbook(
        "apply",
        {"name": "Put it", "ansible.builtin.copy": copy, "no_log": True},
        shell("while [ ! -e {{ trace }}/.open ]; do sleep .1; done"),
        shell("echo {{ secret }}; exit 1", name="Fail with it", no_log=True),
    )
    caller = managing()
    run = caller.start(station="a1")
    works(project, "a1")
    data = caller.manager.settings.data

    def holders():
        # a file that is there for a moment may be gone when it is read
        return [path for path in data.rglob("*") if path.is_file() and CANARY.encode() in _content(path)]

    wait_for(lambda: any(path.name == "command" for path in data.rglob("command")))
    assert holders() == []
    for pid in alive(run, MARK):
        assert CANARY.encode() not in _content(Path(f"/proc/{pid}/environ")), "the manager's environment went along"
        assert CANARY.encode() not in _content(Path(f"/proc/{pid}/cmdline"))
    (project.trace / ".open").touch()
    assert (project.trace / "a1.works").read_text() == CANARY
    ended = caller.ended(run)
    assert ended["state"] == "failed"
    assert CANARY not in json.dumps([ended, caller.events(run)])
    assert holders() == []


def _content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_ssh_checks_host_keys_and_keeps_alive(project, tmp_path):
    """15, 19, 20: ours come first, for ssh takes the first; the project's own stay behind them."""
    (tmp_path / "theirs").write_text("old ssh-ed25519 AAAA\n")
    (tmp_path / "pinned").write_text("new ssh-ed25519 BBBB")
    theirs = f"-o ControlPersist=600s -o UserKnownHostsFile={tmp_path / 'theirs'} -o ServerAliveInterval=7"
    (project.folder / "ansible.cfg").write_text(f"[ssh_connection]\nssh_args = {theirs}\n")
    text = run_ansible.ssh_arguments(project.folder, tmp_path / "own")
    assert text.index("StrictHostKeyChecking=yes") < text.index(f"UserKnownHostsFile={tmp_path / 'own'}")
    assert text.index(f"UserKnownHostsFile={tmp_path / 'own'}") < text.index(theirs)
    assert text.endswith("-o ServerAliveInterval=5 -o ServerAliveCountMax=3")
    assert run_ansible.known_hosts(project.folder, tmp_path / "pinned") == (
        "new ssh-ed25519 BBBB\nold ssh-ed25519 AAAA\n"
    )


@pytest.fixture
def sshd(tmp_path, project):
    """A real SSH server on this machine, and the project's stations behind it; gives its known_hosts line."""
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    port = 20000 + os.getpid() % 20000
    options = [
        f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={folder / 'host'}",
        f"AuthorizedKeysFile={folder / 'authorized'}",
        "PermitRootLogin=yes", "StrictModes=no", "UsePAM=no", f"PidFile={folder / 'pid'}",
    ]  # fmt: skip
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *(word for one in options for word in ("-o", one))]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stderr=log)
    inventory = json.loads(project.inventory.read_text())
    inventory["rooms"]["vars"] = {
        "trace": str(project.trace), "ansible_host": "127.0.0.1", "ansible_port": port,
        "ansible_ssh_private_key_file": str(folder / "user"), "ansible_ssh_pipelining": True,
        "ansible_ssh_control_path_dir": str(folder / "cp"),
    }  # fmt: skip
    project.inventory.write_text(json.dumps(inventory))
    wait_for((folder / "pid").exists)
    yield f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
    for socket in (folder / "cp").glob("*"):
        subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "x"], capture_output=True, check=False)
    server.terminate()
    server.wait()


def test_over_ssh_the_host_key_must_be_pinned_and_a_cancel_reaches_the_station(managing, project, sshd, tmp_path):
    """2, 15, 18, 20: with pipelining a command goes on after Ansible is gone."""
    project.playbook("apply", shell("setsid sh -c 'touch {{ trace }}/{{ inventory_hostname }}.works; exec sleep 300'"))
    caller = managing()
    stranger = caller.ended(caller.start("check", station="a1"))
    assert stranger["state"] == "unreachable"
    assert "Host key verification failed" in stranger["error"]["message"]
    pinned = tmp_path / "pinned"
    pinned.write_text(sshd)
    caller.manager.registry.known_hosts = pinned
    assert caller.ended(caller.start("check", station="a1"))["state"] == "succeeded"
    old = Path.home() / ".ansible" / "tmp" / f"ansible-tmp-0-{os.getpid()}"
    old.mkdir(parents=True, exist_ok=True)
    os.utime(old, (time.time() - 7200,) * 2)
    run = caller.start(station="a1")
    works(project, "a1")
    assert alive(run)
    caller.post(f"/v1/runs/{run}/cancel")
    ended = caller.ended(run)
    assert (ended["state"], ended["unproven"]) == ("canceled", {})
    nothing_left(caller, run)
    assert not old.exists()


def test_a_converge_that_outlives_the_connection_is_waited_for(managing, project, tmp_path, monkeypatch):
    """The sweep reads the station's own note of it; here with stand-ins for systemctl and the note's place."""
    from api import sweep

    script = sweep.SCRIPT.replace("@RUN@", "R1").replace("@MINUTES@", "9")
    home = tmp_path / "stationmaster"
    home.mkdir()
    script = script.replace("/var/lib/stationmaster", str(home)).replace("~/.ansible", str(tmp_path))
    tool = tmp_path / "systemctl"
    tool.write_text(f"#!/bin/sh\ntest -e {tmp_path}/converges && echo stationmaster-apply-1.service\ntrue\n")
    tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    def ran():
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout

    (home / "pending.json").write_text('{"generation": 3, "run": "R1"}')
    assert ran() == "stationmaster-sweep clean\n"
    (tmp_path / "converges").touch()
    assert ran() == "stationmaster-sweep left converge\n"
    (home / "pending.json").write_text('{"generation": 3, "run": "R2"}')
    assert ran() == "stationmaster-sweep clean\n"


def test_streams_carry_the_same_numbers_and_end_with_the_manager(served, project):
    """3, 4, 21: the manager ends in order in the middle of a run and of a stream, and the run does not."""
    project.playbook("apply", shell("touch {{ trace }}/{{ inventory_hostname }}.works; sleep 6"), shell("true"))
    caller = served()
    run = caller.start(station="a1")
    works(project, "a1")

    def read(lines, count):
        found = []
        for line in lines:
            if line.startswith("id: "):
                found.append(int(line[4:]))
                if len(found) == count:
                    break
        return found

    with caller.client.stream("GET", f"/v1/runs/{run}/stream", headers=caller.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert read(lines, 3) == [1, 2, 3]
        caller.process.terminate()
        assert caller.process.wait(20) in (0, -signal.SIGTERM)
        read(lines, 10**6)  # the stream ends, and in order
    assert caller.client.is_closed is False
    caller.launch()
    assert caller.ended(run)["state"] == "succeeded"
    numbers = [one["number"] for one in caller.events(run)]
    headers = {**caller.headers, "Last-Event-ID": "3"}
    with caller.client.stream("GET", f"/v1/runs/{run}/stream", headers=headers) as answer:
        assert read(answer.iter_lines(), 10**6) == numbers[3:]
    assert caller.get("/v1/runs/00000000000000000000000000/stream").status_code == 404
