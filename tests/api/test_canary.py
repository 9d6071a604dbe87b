"""Secrets stay where they belong: nothing of them in the manager's files, database, answers, logs or argument lists."""

import base64
import contextlib
import json
import os
import secrets
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import plain_http
from tests.api.conftest import CHECKOUT, Served
from tests.api.event import copy
from tests.api.run_fixtures import Caller
from tests.api.run_kit import alive, shell, wait_for
from tests.api.small_event import SmallEvent
from tests.api.stations_kit import Machine

PASSWORD_FILE = CHECKOUT / "inventory/demo-vault-password"
CONFIG = f"""\
[defaults]
host_key_checking = True
interpreter_python = /usr/bin/python3
vault_identity_list = demo@{PASSWORD_FILE}
inventory_ignore_patterns = ^files$, vault-password
roles_path = {CHECKOUT}/roles
action_plugins = {CHECKOUT}/plugins/action
vars_plugins = {CHECKOUT}/plugins/vars
filter_plugins = {CHECKOUT}/plugins/filter
library = {CHECKOUT}/plugins/modules
vars_plugins_enabled = stationmaster_addresses, host_group_vars
deprecation_warnings = False
"""
USE = "{{ storage_password }}"
TASKS = [
    {"name": "Check and render, as site.yml does", "station_check": {}, "run_once": True},
    {
        "name": "Write it to a file", "no_log": True,
        "ansible.builtin.copy": {"content": USE, "dest": "{{ trace }}/secret-{{ inventory_hostname }}", "mode": "0600"},
    },
    {"name": "Look at its end", "no_log": True, "ansible.builtin.command": {"cmd": "wc -c", "stdin": USE}},
    {
        "name": "Fail with it", "no_log": True, "ignore_errors": True,
        "ansible.builtin.fail": {"msg": f"wrong password {USE}"},
    },
    shell("touch {{ trace }}/.reached; while [ ! -e {{ trace }}/.go ]; do sleep 0.05; done"),
]  # fmt: skip


def vaulted(secret: str) -> str:
    """A vault value as `ansible-vault encrypt_string` writes it, under the demo's password."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    password = VaultSecret(PASSWORD_FILE.read_bytes().strip())
    lines = VaultLib([("demo", password)]).encrypt(secret, vault_id="demo").decode().splitlines()
    return "!vault |\n" + "".join(f"  {line}\n" for line in lines)


def shapes(secret: str) -> list[bytes]:
    """A secret as it is, and what base64 makes of it wherever it begins in a text."""
    found = [secret.encode()]
    for before in range(3):
        coded = base64.b64encode(b"x" * before + secret.encode())
        found.append(coded[4 if before else 0 : -4])
    return found


class Watch(threading.Thread):
    """Looks at all argument lists of this machine, and at the files of runs, again and again."""

    def __init__(self, needles: dict[str, list[bytes]], folder: Path) -> None:
        super().__init__(daemon=True)
        self.needles = needles
        self.folder = folder
        self.found: set[str] = set()
        self.seen = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):  # it takes a processor while it looks
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                self.look(path)
            # unlike rglob it bears that a folder goes while it walks
            for place, _, names in os.walk(self.folder):
                for name in names:
                    self.look(Path(place, name))

    def look(self, path: Path) -> None:
        """Search one file."""
        with contextlib.suppress(OSError):
            if path.is_file() and not stat.S_ISSOCK(path.stat().st_mode):
                content = path.read_bytes()
                self.seen += 1
                for name, forms in self.needles.items():
                    for form in forms:
                        if (place := content.find(form)) >= 0:
                            self.found.add(f"{name} in {path}: {content[max(place - 300, 0) : place + 30]!r}")


@pytest.fixture
def event(tmp_path):
    """The demo's event with a password of our own, and its stations on this machine."""
    made = SmallEvent(tmp_path / "project")
    made.secret = "canary" + secrets.token_hex(24)
    made.inventory = copy(made.folder / "demo")
    path = made.inventory / "group_vars/all/secrets.yml"
    before, mark, after = path.read_text().partition("storage_host_private_key")
    path.write_text(
        before.rpartition("storage_password")[0] + f"storage_password: {vaulted(made.secret)}" + mark + after
    )
    (made.inventory / "group_vars/all/local.yml").write_text(
        f"ansible_connection: local\nansible_become: false\ntrace: {made.trace}\n"
    )
    (made.folder / "ansible.cfg").write_text(CONFIG)
    for action in ("apply", "restart"):
        made.playbook(action, *TASKS, hosts="~^(rooms|services)$")
    return made


def test_no_secret_is_anywhere_it_does_not_belong(event, tmp_path):
    data, environment = tmp_path / "data", "canary" + secrets.token_hex(24)
    served = Served(
        data, "-i", str(event.inventory), STATIONMASTER_PROJECT=str(event.folder), SECRET_OF_ANOTHER=environment
    )
    with contextlib.ExitStack() as stack:
        stack.callback(served.stop)
        admin, enrol = served.token("admin"), served.token("enrol")["Authorization"].removeprefix("Bearer ")
        machine = Machine("hall-a-cam", macs=["02:00:00:00:01:0a"])
        client = stack.enter_context(plain_http.Client(base_url=served.url, timeout=60))
        caller = Caller(client, admin)
        told = wait_for(lambda: (one := caller.get("/v1/inventory").json())["newest"]["revision"] and one, 100)
        assert told["in_force"], told
        assert machine.enrol(client, {"Authorization": enrol}).status_code == 201
        assert machine.hello(client).status_code == 200
        needles = {
            name: shapes(text)
            for name, text in {
                "the vault's value": event.secret, "an admin's token": admin["Authorization"].removeprefix("Bearer "),
                "a room's token": enrol, "a station's secret": machine.secret, "a station's claim": machine.claim,
                "the manager's environment": environment,
            }.items()
        }  # fmt: skip
        watch = Watch(needles, data)
        watch.start()
        run = caller.start("apply")
        wait_for(lambda: (event.trace / ".reached").exists(), 100)
        for process in alive(run):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one may end at any time
                assert environment.encode() not in Path(f"/proc/{process}/environ").read_bytes()
        (event.trace / ".go").touch()
        ended = caller.ended(run, 100)
        assert ended["state"] == "succeeded", ended
        dry = caller.ended(caller.start("apply", dry_run=True), 100)
        assert dry["state"] == "succeeded", dry
        answers = [caller.events(run), caller.events(dry["id"]), ended, dry]
        for path in ("/v1/stations", "/v1/stations/hall-a-cam", "/v1/tokens", "/v1/runs", "/v1/inventory", "/metrics"):
            answers.append(caller.get(path).text)
    watch.over.set()
    watch.join()
    assert not watch.found
    assert watch.seen > 100
    # the run did have it in its hands
    assert (event.trace / "secret-storage").read_text() == event.secret
    assert any("censored" in json.dumps(one) for one in answers[0])
    (tmp_path / "answers").write_text(json.dumps(answers))
    last = Watch(needles, data)
    for path in (*data.rglob("*"), tmp_path / "serve.log", tmp_path / "answers"):
        last.look(path)
    assert not last.found
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_a_secret_would_be_found_in_any_shape(tmp_path):
    secret = "canary" + secrets.token_hex(24)
    for number in range(4):
        text = f"{'y' * number}{secret}{'z' * number}".encode()
        for content in (text, base64.b64encode(text)):
            (tmp_path / "file").write_bytes(content)
            watch = Watch({"it": shapes(secret)}, tmp_path)
            watch.look(tmp_path / "file")
            assert watch.found, content
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", secret])
    try:
        watch = Watch({"it": shapes(secret)}, tmp_path / "nothing")
        watch.start()
        wait_for(lambda: watch.found)
        watch.over.set()
        watch.join()
    finally:
        child.kill()
        child.wait()
