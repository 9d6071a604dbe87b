"""The engine on real stations: playbooks, systemd, SSH, sudo, cuts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.labkit import CHECKOUT, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NETWORK = "10.98.11"
SECRET = "correct-horse-battery"
HOME = "/var/lib/stationmaster"


def unit(instance: str) -> str:
    return f"stationmaster-beat@{instance}.service"


class Engine(Lab):
    """The lab with what the tests want from its two stations."""

    def want(self, one: dict, two: dict | None = None, **more) -> None:
        hosts = {"one": {"station_roles": {"beat": one}, **more}, "two": {"station_roles": {"beat": two or {}}}}
        Lab.of(NETWORK, hosts)

    def site(self, *arguments, check=True, **extra):
        return self.playbook("site.yml", *arguments, check=check, **extra)

    def invocations(self, station: str = "one") -> dict[str, str]:
        """Each running unit with its invocation: another one means that it was restarted."""
        text = self.out(station, "systemctl show --property=Id,InvocationID,ActiveState 'stationmaster-beat@*'")
        found = {}
        for block in text.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if values.get("ActiveState") == "active":
                found[values["Id"]] = values["InvocationID"]
        return found

    def state(self, station: str = "one") -> dict:
        return json.loads(self.read(station, f"{HOME}/state.json"))


BASE = {"live": {"live": True}, "work": {"password": SECRET}, "idle": {}}


@pytest.fixture(scope="module")
def lab():
    os.environ["STATIONMASTER_ROLES"] = str(Path(__file__).parent / "roles")
    made = Lab.of(NETWORK, {"one": {"station_roles": {"beat": BASE}}, "two": {}}, lab_image_extra=["sudo"])
    engine = Engine(made.inventory, **made.variables)
    engine.up()
    try:
        yield engine
    finally:
        engine.down()
        del os.environ["STATIONMASTER_ROLES"]


@pytest.fixture
def applied(lab):
    """The lab with the base wanted, applied and at rest."""
    lab.want(BASE, {"work": {}})
    if not lab.out("one", f"ls {HOME}/state.json 2>/dev/null || true"):  # the first test asked for
        lab.site()
    # one process, for starting Ansible takes longer than any of them
    play = lab.playbook("playbooks/on-air.yml", "playbooks/start.yml", "site.yml", check=False, minutes=0)
    if play.status or play.changed("one") or play.changed("two"):
        play = lab.site()
    assert play.changed("one") == play.changed("two") == 0, play.stdout
    return lab


def test_first_apply_then_nothing(lab):
    lab.want(BASE, {"work": {}})
    first = lab.site()
    assert first.changed("one") > 0
    assert set(lab.invocations()) == {unit("live"), unit("work"), unit("idle")}
    assert lab.out("one", "id -gn sm-beat") == "sm-media"
    play = lab.site()
    assert play.changed("one") == play.changed("two") == 0
    assert "skipping: no hosts matched" in play.stdout
    assert "WARNING" not in play.stdout + play.stderr


def test_one_change_restarts_one_unit(applied):
    before = applied.invocations()
    applied.want({**BASE, "work": {"text": "two", "password": SECRET}}, {"work": {}})
    play = applied.site()
    after = applied.invocations()
    assert [name for name in before if before[name] != after[name]] == [unit("work")]
    assert (play.changed("one"), play.changed("two")) == (1, 0)
    assert "beat@work" in play.stdout


def test_drift_is_repaired(applied):
    before = applied.invocations()
    applied.run("one", f"systemctl stop {unit('work')}; echo '# tampered' >> {HOME}/current/units/{unit('idle')}")
    play = applied.site()
    after = applied.invocations()
    assert play.changed("one") == 1
    assert after.keys() == before.keys()
    assert after[unit("live")] == before[unit("live")]
    assert "tampered" not in applied.out("one", f"systemctl cat {unit('idle')}")
    assert applied.site().changed("one") == 0


def test_a_removed_instance_leaves_nothing(applied):
    applied.want({"live": BASE["live"]}, {"work": {}})
    applied.site()
    assert set(applied.invocations()) == {unit("live")}
    assert "beat@work" not in applied.out("one", f"find -L {HOME}/current /usr/local/lib/systemd")
    loaded = applied.out("one", "systemctl list-units --all --plain --no-legend 'stationmaster-beat@*'")
    assert loaded.split()[0] == unit("live")
    assert len(loaded.splitlines()) == 1


def test_a_failing_unit_takes_the_files_back(applied):
    before = applied.invocations()
    files = applied.out("one", f"cd {HOME}/current/ && find . -type f ! -name bundle.json | sort | xargs sha256sum")
    applied.want({**BASE, "work": {"fail": True}, "idle": {"text": "two"}}, {"work": {"text": "two"}})
    play = applied.site(check=False)
    assert play.status != 0
    assert play.recap["one"]["failed"] == 1
    assert (play.recap["two"]["failed"], play.changed("two")) == (0, 1)
    assert "told to fail" in play.stdout
    assert "went back to generation" in play.stdout
    after = applied.invocations()
    assert after.keys() == before.keys()
    assert after[unit("live")] == before[unit("live")]
    again = applied.out("one", f"cd {HOME}/current/ && find . -type f ! -name bundle.json | sort | xargs sha256sum")
    assert again == files
    refused = applied.site(check=False, automatic=True)
    assert "FailedBefore" in refused.stdout


def test_on_air_holds_until_it_ends_or_the_operator_says_so(applied):
    before = applied.invocations()
    applied.playbook("playbooks/on-air.yml", "-l", "one", minutes=60)
    applied.want({**BASE, "live": {"live": True, "text": "two"}, "idle": {"text": "two"}}, {"work": {}})
    play = applied.site()
    during = applied.invocations()
    assert during[unit("live")] == before[unit("live")]
    assert during[unit("idle")] != before[unit("idle")]
    assert "beat@live: on air" in play.stdout
    assert applied.site().changed("one") == 0
    applied.playbook("playbooks/on-air.yml", "-l", "one", minutes=0)
    assert applied.site().changed("one") == 1
    released = applied.invocations()
    assert released[unit("live")] != before[unit("live")]
    applied.playbook("playbooks/on-air.yml", "-l", "one", minutes=60)
    applied.want({**BASE, "live": {"live": True, "text": "three"}}, {"work": {}})
    applied.site(interrupt=True)
    assert applied.invocations()[unit("live")] != released[unit("live")]


def test_check_and_diff_tell_the_truth_and_change_nothing(applied):
    before = applied.invocations()
    listing = f"find {HOME} /etc /usr/local/lib -newer /tmp/mark ! -path '*/.ansible*'"
    applied.run("one", "touch /tmp/mark; sleep 0.1")
    applied.want({"live": BASE["live"], "work": {"text": "two", "password": "another-secret"}, "new": {}}, {"work": {}})
    play = applied.site("--check", "--diff")
    assert play.changed("one") == 1
    assert '-  "text": "one"' in play.stdout
    assert '+  "text": "two"' in play.stdout
    assert "(secret changed)" in play.stdout
    assert SECRET not in play.stdout
    assert "another-secret" not in play.stdout
    table = play.stdout[play.stdout.rindex("\nstation ") :]
    assert "beat@work" in table
    assert "started beat@new" in table
    assert applied.out("one", listing) == ""
    assert applied.invocations() == before


def test_secrets_are_nowhere_to_be_read(applied):
    applied.want({**BASE, "work": {"password": SECRET, "text": "two"}}, {"work": {}})
    play = applied.site("-vvv", "--diff")
    assert SECRET not in play.stdout + play.stderr
    assert SECRET not in applied.out(
        "one", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; systemctl cat 'stationmaster-*'; journalctl"
    )
    found = applied.out(
        "one", f"grep -rlF {SECRET} /etc /var/lib /usr/local /run /srv 2>/dev/null || true"
    ).splitlines()
    assert found
    for path in found:
        assert applied.out("one", f"stat -c %a {path}") in ("600", "400")  # systemd's credentials are 400
        assert applied.run("one", f"runuser -u nobody -- cat {path}", check=False).returncode != 0
    wanted = f"systemctl show --property=MainPID --value {unit('work')}"
    told = applied.out("one", f"cat /proc/$({wanted})/environ | tr '\\0' '\\n'")
    assert SECRET not in told


def test_a_second_run_says_who_holds_the_lock(applied):
    holder = {"author": "grace", "verb": "apply", "run": "r-7", "since": "now"}
    hold = (
        f"exec 9>>{HOME}/lock; flock 9; echo '{json.dumps(holder)}' > {HOME}/lock; echo $$ > /tmp/held; exec sleep 600"
    )
    applied.write("one", "/tmp/hold", hold)
    applied.run("one", "rm -f /tmp/held; setsid sh /tmp/hold >/dev/null 2>&1 &")
    applied.wait("one", "test -s /tmp/held")
    try:
        play = applied.site(check=False, lock_wait=1)
    finally:
        applied.run("one", "kill $(cat /tmp/held)")
    assert play.recap["one"]["failed"] == 1
    assert "locked by grace (apply, run r-7)" in play.stdout
    assert play.recap["two"]["failed"] == 0


def test_rollback_stays_until_the_inventory_changes(applied):
    applied.want({**BASE, "idle": {"text": "two"}}, {"work": {}})
    applied.site()
    applied.playbook("playbooks/rollback.yml", "-l", "one", reason="it looked worse")
    assert '"one"' in applied.out("one", f"grep text {HOME}/current/etc/beat/idle/config.json")
    play = applied.site()
    assert play.changed("one") == 0
    assert "it looked worse" in play.stdout
    applied.want({**BASE, "idle": {"text": "three"}}, {"work": {}})
    applied.site()
    assert '"three"' in applied.out("one", f"grep text {HOME}/current/etc/beat/idle/config.json")


def test_stop_survives_a_boot_and_start_ends_it(applied):
    applied.playbook("playbooks/stop.yml", "-l", "one", instance="idle", author="ada")
    assert unit("idle") not in applied.invocations()
    applied.reboot("one")
    applied.wait("one", f"systemctl is-active {unit('live')}")
    assert unit("idle") not in applied.invocations()
    play = applied.site()
    assert "stopped by ada" in play.stdout
    assert unit("idle") not in applied.invocations()
    applied.playbook("playbooks/start.yml", "-l", "one", unit=unit("idle"))
    assert unit("idle") in applied.invocations()
    assert applied.site().changed("one") == 0


def test_restart_of_one_role(applied):
    before = applied.invocations()
    applied.playbook("playbooks/restart.yml", "-l", "one", role="beat", instance="work")
    after = applied.invocations()
    assert [name for name in before if before[name] != after[name]] == [unit("work")]


def test_a_mask_and_an_override_are_the_operators(applied):
    before = applied.invocations()
    applied.run("one", f"systemctl mask --now {unit('idle')}")
    play = applied.site()
    assert play.changed("one") == 0
    assert "masked" in play.stdout
    applied.run("one", f"systemctl unmask {unit('idle')}")
    folder = f"/etc/systemd/system/{unit('work')}.d"
    applied.run("one", f"mkdir -p {folder}; printf '[Service]\\nNice=5\\n' > {folder}/o.conf; systemctl daemon-reload")
    assert applied.site().changed("one") == 1  # what was masked runs again
    assert applied.invocations()[unit("work")] == before[unit("work")]
    applied.run("one", f"rm -r {folder}; systemctl daemon-reload")


def test_a_station_that_is_gone_stops_nobody(applied):
    applied.want({**BASE, "idle": {"text": "two"}}, {"work": {"text": "two"}})
    applied.cut("two")
    try:
        play = applied.site(check=False)
    finally:
        applied.restore("two")
    assert play.status != 0
    assert play.recap["two"]["unreachable"] == 1
    assert play.changed("one") == 1
    assert "unreachable" in play.stdout[play.stdout.rindex("\nstation ") :]


def test_the_local_block_list_is_the_owners(applied):
    applied.write("one", "/etc/stationmaster/blocked-roles", "beat  # too loud\n")
    try:
        play = applied.site(check=False)
    finally:
        applied.run("one", "rm /etc/stationmaster/blocked-roles")
    assert "BlockedRole" in play.stdout
    assert "/etc/stationmaster/blocked-roles:1" in play.stdout
    assert (play.recap["one"]["failed"], play.recap["two"]["failed"]) == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [["--tags", "encode"], ["--skip-tags", "encode"], ["-e", "role=beat"], ["-e", "unit=x"]],
)
def test_a_partial_apply_is_refused(applied, arguments):
    play = applied.site(*arguments, check=False)
    assert play.status != 0
    assert "an apply is always a whole station" in play.stdout + play.stderr
    assert play.recap["one"]["changed"] == 0


def test_findings_touch_nobody(applied):
    applied.want({**BASE, "idle": {"txet": "two"}}, {"work": {"text": "two"}})
    play = applied.site(check=False)
    assert play.status != 0
    assert "txet" in play.stdout
    assert "did you mean 'text'" in play.stdout
    assert "Apply the bundle" not in play.stdout
    assert '"one"' in applied.out("two", f"grep text {HOME}/current/etc/beat/work/config.json")


def test_without_root_login(applied):
    key = applied.out("one", "cat /root/.ssh/authorized_keys /etc/ssh/authorized_keys/root 2>/dev/null || true")
    applied.run(
        "one",
        "id crew 2>/dev/null || useradd --create-home --shell /bin/sh crew; mkdir -p ~crew/.ssh; "
        "echo 'crew ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/crew; chown -R crew ~crew/.ssh",
    )
    applied.write("one", "/home/crew/.ssh/authorized_keys", key + "\n", "0644")
    arguments = ["-l", "one", "-e", "ansible_user=crew", "-e", "ansible_become=true"]
    assert applied.site(*arguments).changed("one") == 0
    applied.want({**BASE, "idle": {"text": "two"}}, {"work": {}})
    assert applied.site(*arguments).changed("one") == 1
    refused = applied.site("-l", "one", "-e", "ansible_user=crew", check=False)
    assert "set ansible_become" in refused.stdout


def start_site(lab) -> subprocess.Popen:
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "site.yml", "-i", str(lab.inventory)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_converge_outlives_the_connection(applied):
    applied.want({**BASE, "idle": {"text": "two", "delay": 6}}, {"work": {}})
    running = start_site(applied)
    applied.wait("one", "systemctl list-units --plain --no-legend 'stationmaster-apply-*' | grep running", 60)
    applied.run("one", "pkill -f '[s]shd: root@'")
    output, _ = running.communicate()
    assert running.returncode != 0
    assert "UNREACHABLE" in output
    refused = applied.site("-l", "one", check=False, lock_wait=0)
    assert "Locked" in refused.stdout or refused.status == 0  # it may have ended in between
    assert until(lambda: not applied.out("one", f"ls {HOME}/pending.json 2>/dev/null || true"), 60)
    assert applied.state()["last"]["result"] == "changed"
    assert applied.site().changed("one") == 0


def test_the_next_boot_finishes_what_a_power_cut_left(applied):
    applied.want({**BASE, "idle": {"text": "two", "delay": 8}}, {"work": {}})
    running = start_site(applied)
    applied.wait("one", f"test -e {HOME}/pending.json", 60)
    time.sleep(1)
    applied.power_cut("one")
    running.communicate()
    applied.boot("one")
    assert until(lambda: not applied.out("one", f"ls {HOME}/pending.json 2>/dev/null || true"), 90)
    assert set(applied.invocations()) == {unit("live"), unit("work"), unit("idle")}
    # what the boot had started already with the right configuration went on
    told = applied.out("one", "journalctl --boot --unit 'stationmaster-beat@*'")
    assert " Starting " in told
    assert " Stopping " not in told
    assert applied.site().changed("one") == 0


def test_status_and_remove(applied):
    play = applied.playbook("playbooks/status.yml")
    assert re.search(r"one +beat@live +active +beating +live", play.stdout)
    applied.playbook("playbooks/remove.yml", "-l", "two")
    assert applied.out("two", "ls -d /var/lib/stationmaster /usr/local/lib/systemd/system 2>/dev/null || true") == ""
    assert applied.invocations("two") == {}
    assert applied.out("two", "ls -d /srv/stationmaster/beat/work") == "/srv/stationmaster/beat/work"
    applied.site()
    assert set(applied.invocations("two")) == {unit("work")}
