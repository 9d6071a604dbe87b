"""The manager on a station of its own: deployed, asked over TLS, restarted, deployed again."""

import ssl
import subprocess

import httpx2
import pytest

from stationmaster import manager_package
from tests.labkit import CHECKOUT, Lab, until

STATION, NETWORK = "boss", "10.95.21"
URL = f"https://{NETWORK}.17:8443"
AUTHORITY = CHECKOUT / ".state/manager/test/ca.pem"


@pytest.fixture(scope="module")
def lab():
    made = Lab.of(NETWORK, {}, {"event_manager": STATION}, lab_disk_size="1G")
    roles = f"{{collector: {{main: {{}}}}, journal: {{main: {{to: {STATION}/main}}}}}}"
    host = f"{{ansible_host: {NETWORK}.17, station_mac: '02:00:00:63:21:11', station_roles: {roles}}}"
    (made.inventory / "services.yml").write_text(
        f"stations: {{children: {{services: {{hosts: {{{STATION}: {host}}}}}}}}}\n"
    )
    with made:
        yield made


def ask(path, **more):
    return httpx2.get(f"{URL}{path}", verify=ssl.create_default_context(cafile=AUTHORITY), **more)


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_deployed_it_serves_over_tls_and_a_second_run_changes_nothing(lab, tmp_path):
    manager_package.wheels("x86_64")  # their download is not what is measured
    password = tmp_path / "vault-password"
    password.write_text("not-a-secret\n")
    extra = {"manager_vault_password_file": str(password)}
    first = lab.playbook("playbooks/manager.yml", **extra)
    assert first.changed(STATION) > 0
    assert ask("/readyz").json() == {"status": "ready"}
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        httpx2.get(f"{URL}/readyz")
    token = lab.out(STATION, "stationmaster-manager token create --scope operate 2>/dev/null")
    assert ask("/v1/whoami", headers=bearer(token)).json()["scope"] == "operate"

    data = "/var/lib/stationmaster-manager"
    kept = f"stat -c '%a %U' {data} {data}/vault-password {data}/ssh/id_ed25519 {data}/tls/ca.key {data}/manager.db"
    assert lab.out(STATION, kept).splitlines()[1:4] == ["600 stationmaster"] * 3
    assert lab.out(STATION, kept).splitlines()[0] == "700 stationmaster"
    assert not [word for word in lab.out(STATION, kept).split()[8:9] if word[-2:] != "00"]

    pid = lab.out(STATION, "systemctl show --property=MainPID --value stationmaster-manager")
    user = lab.out(STATION, "id -u stationmaster")
    second = lab.playbook("playbooks/manager.yml", **extra)
    assert second.changed(STATION) == 0, second.stdout
    assert second.changed("localhost") == 0
    assert lab.out(STATION, "systemctl show --property=MainPID --value stationmaster-manager") == pid

    # a run is a unit of the user's own systemd, and outlives a restart of the manager
    assert until(lambda: posted(token).status_code < 300, 60, 1), posted(token).text
    run = f"/v1/runs/{posted(token).json()['id']}"
    lab.run(STATION, "systemctl restart stationmaster-manager")
    assert until(lambda: reachable("/readyz"), 30)
    assert until(lambda: ask(run, headers=bearer(token)).json()["ended_at"], 60, 1)
    assert ask(run, headers=bearer(token)).json()["state"] == "succeeded", ask(run, headers=bearer(token)).text
    lab.run(STATION, f"journalctl --quiet --boot _UID={user} | grep 'Started stationmaster-run-'")
    lab.run(STATION, f"pkill --signal KILL --uid {user} --full 'stationmaster serve'")
    assert until(lambda: reachable("/readyz"), 30)

    # journals arrive where the manager reads them
    lab.run(STATION, "logger --tag lab-test a line of the station")
    assert lab.playbook("site.yml").changed(STATION) > 0
    journal = f"/v1/stations/{STATION}/journal?lines=1000"
    text = '"identifier":"lab-test","pid":'
    assert until(lambda: text in ask(journal, headers=bearer(token)).text, 60, 1)

    # the stations let it in, with its own key
    own = f"setpriv --reuid={user} --regid=sm-media --clear-groups ssh -i {data}/ssh/id_ed25519 -o BatchMode=yes"
    accept = "-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null"
    assert lab.out(STATION, f"{own} {accept} root@{NETWORK}.17 id -un 2>/dev/null") == "root"
    assert lab.read(STATION, "/etc/stationmaster/manager-ca.pem") == AUTHORITY.read_bytes()
    exposure = "systemd-analyze security --threshold=25 stationmaster-manager"
    lab.run(STATION, exposure)


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_removed_it_leaves_nothing(lab):
    if lab.run(STATION, "systemctl cat stationmaster-manager", check=False).returncode:
        lab.playbook("playbooks/manager.yml")
    assert lab.playbook("playbooks/remove.yml", purge=True).changed(STATION) > 0
    left = "find /etc /opt /usr /var -xdev -name '*stationmaster-manager*'; ls -d /opt/stationmaster* 2>/dev/null"
    assert lab.run(STATION, left, check=False).stdout.split() == []
    assert lab.run(STATION, "pgrep --uid stationmaster", check=False).stdout == ""
    assert "stationmaster-manager" not in lab.out(STATION, "cat ~root/.ssh/authorized_keys")
    assert lab.playbook("playbooks/remove.yml", purge=True).changed(STATION) == 0


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def posted(token):
    """A check of the station, asked for once however often this is called."""
    context = ssl.create_default_context(cafile=AUTHORITY)
    headers = bearer(token) | {"Idempotency-Key": "one"}
    body = {"action": "check", "target": {"station": STATION}}
    return httpx2.post(f"{URL}/v1/runs", json=body, headers=headers, verify=context)


def reachable(path):
    try:
        return ask(path).status_code == 200
    except httpx2.TransportError:
        return False


def test_an_inventory_without_a_manager_is_refused(tmp_path):
    (tmp_path / "rooms.yml").write_text(
        "rooms: {}\nservices: {hosts: {one: {station_roles: {}, ansible_host: 192.0.2.1}}}\n"
    )
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("event_name: test\nevent_title: Test\n")
    command = [CHECKOUT / ".venv/bin/ansible-playbook", "-i", tmp_path, "playbooks/manager.yml"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "event_manager: NAME" in done.stdout + done.stderr
    assert "(one)" in done.stdout + done.stderr
