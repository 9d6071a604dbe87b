"""Real stations for tests: bring a lab up, look into stations, do to them what happens to real ones.

    from tests.labkit import Lab

    @pytest.fixture(scope="module")
    def lab():
        with Lab.of("10.99.41", {"cam": {"station_roles": {…}}, "enc": {…}}) as lab:   # or Lab(Path("inventory"))
            yield lab

    @pytest.mark.lab
    def test_something(lab):
        assert lab.playbook("site.yml").changed("cam")
        lab.run("cam", "systemctl is-active stationmaster.target")
        lab.power_cut("cam")

Take a /24 below 10.99 that no other test takes. A lab that a killed test left
is taken over by the next run of the same test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stationmaster.lab import faults, image
from stationmaster.lab.errors import LabError
from stationmaster.lab.keys import FOLDER
from stationmaster.lab.lab import find, machine
from stationmaster.lab.network import link_up
from stationmaster.lab.station import BOOT_SECONDS, Machine
from stationmaster.lab.wish import CHECKOUT
from tests import warm_ansible

BIN = Path(sys.executable).parent


@dataclass(slots=True)
class Play:
    """What ansible-playbook said: `recap` maps host to ok, changed, unreachable, failed, …"""

    status: int
    stdout: str
    stderr: str
    recap: dict[str, dict[str, int]]

    def changed(self, host: str) -> int:
        """Return how many tasks changed the host; fails if it was not played."""
        return self.recap[host]["changed"]


def recap_of(text: str) -> dict[str, dict[str, int]]:
    """Return the numbers of Ansible's PLAY RECAP."""
    _, _, recap = text.partition("PLAY RECAP")
    lines = re.findall(r"^(\S+)\s+: (ok=\d+ .*)$", recap, re.MULTILINE)
    return {host: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}


class Lab:
    """The lab of one inventory."""

    def __init__(self, inventory: Path, **variables: Any) -> None:
        """Name the lab of `inventory`; `variables` are those of the Ansible role lab (`lab_disk_size="64M"`)."""
        self.inventory = Path(inventory).resolve()
        self.variables = variables

    @classmethod
    def of(
        cls,
        network: str,
        stations: Mapping[str, Mapping[str, Any]],
        event: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Lab:
        """Return the lab of an inventory made for it.

        `network` are the first three numbers of the addresses; `stations` maps
        names to host variables, where address, MAC address and an empty
        `station_roles` are filled in; `event` are variables of all.
        """
        folder = CHECKOUT / ".state/labs" / network
        (folder / "rooms").mkdir(parents=True, exist_ok=True)
        c = int(network.split(".")[-1])
        hosts = {
            name: {
                "ansible_host": f"{network}.{17 + i}",
                "station_mac": f"02:00:00:63:{c:02x}:{17 + i:02x}",
                "station_roles": {},
                **given,
            }
            for i, (name, given) in enumerate(stations.items())
        }
        room = {"vars": {"room_title": "Test hall", "room_number": 1}, "hosts": hosts}
        _write(folder / "rooms/hall-x.yml", {"stations": {"children": {"rooms": {"children": {"hall_x": room}}}}})
        _write(folder / "group_vars/all/event.yml", {"event_name": "test", "event_title": "Test", **(event or {})})
        return cls(folder, **variables)

    def __enter__(self) -> Lab:
        """Bring the lab up."""
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the lab down."""
        self.down()

    def up(self) -> Play:
        """Boot what does not run; undo all faults."""
        return self._state("present")

    def down(self) -> Play:
        """Remove the lab."""
        return self._state("absent")

    def _state(self, state: str) -> Play:
        return self.playbook("playbooks/lab.yml", lab_state=state, **self.variables)

    # --- Ansible

    def playbook(self, playbook: str, *arguments: str, check: bool = True, **extra: Any) -> Play:
        """Run a playbook of the checkout on the lab with `extra` variables. Fails if it does, unless `check` is off.

        `arguments` may begin with more playbooks, which run after it in the same process.
        """
        command = [BIN / "ansible-playbook", playbook, *arguments, "-i", self.inventory]
        if extra:
            command += ["-e", json.dumps(extra)]
        return self._ansible(command, check)

    def ansible(self, pattern: str, module: str, arguments: str = "", check: bool = True) -> Play:
        """Run one module on the hosts of a pattern."""
        return self._ansible([BIN / "ansible", "-i", self.inventory, pattern, "-m", module, "-a", arguments], check)

    def _ansible(self, command: Sequence[str | Path], check: bool) -> Play:
        environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
        done = warm_ansible.run([str(word) for word in command], CHECKOUT, environment)
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Play(done.returncode, done.stdout, done.stderr, recap_of(done.stdout))

    # --- stations

    def machine(self, station: str) -> Machine:
        """Return the station as the lab knows it."""
        return machine(find(self.inventory), station)

    @property
    def stations(self) -> list[str]:
        """The names of all stations."""
        return list(find(self.inventory).stations)

    def whole(self) -> bool:
        """Tell whether the lab stands, with all its stations running, plugged in and with free disks."""
        try:
            machines = [self.machine(name) for name in self.stations]
        except LabError:
            return False
        return all(each.running() and link_up(each.plan) and not faults.filled(each) for each in machines)

    def address(self, station: str) -> str:
        """Return the station's address."""
        return str(self.machine(station).plan.address)

    def run(
        self, station: str, command: str | Sequence[str], check: bool = True, text: str = "", seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command (a string: by sh) in the station as root, past its network, so also while that is cut."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        done = self.machine(station).enter(*words, text=text.encode(), seconds=seconds)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert not check or done.returncode == 0, f"{station}: {command}: exit {done.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, done.returncode, out, err)

    def out(self, station: str, command: str | Sequence[str]) -> str:
        """Return what a command in the station prints, stripped."""
        return self.run(station, command).stdout.strip()

    def ssh(self, station: str, command: str = "true", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the station over SSH as Ansible would, on a connection of its own."""
        folder = CHECKOUT / FOLDER
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": 10,
            "ControlPath": "none",
            "IdentityFile": folder / "id_ed25519",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": folder / "known_hosts",
        }
        words = [
            "ssh",
            *(f"-o{key}={value}" for key, value in options.items()),
            f"root@{self.address(station)}",
            command,
        ]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{station}: {command}: exit {done.returncode}\n{done.stderr}"
        return done

    def read(self, station: str, path: str) -> bytes:
        """Return a file of the station."""
        done = self.machine(station).enter("cat", path)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def write(self, station: str, path: str, data: bytes | str, mode: str = "0644") -> None:
        """Write a file of the station, with its folders; not synchronised."""
        raw = data.encode() if isinstance(data, str) else data
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        done = self.machine(station).enter("sh", "-c", script, "sh", path, mode, text=raw)
        assert done.returncode == 0, done.stderr.decode()

    def wait(self, station: str, command: str, seconds: float = 30) -> str:
        """Wait until a command in the station succeeds; return its output."""
        last: list[subprocess.CompletedProcess[str]] = []

        def works() -> bool:
            last[:] = [self.run(station, command, check=False)]
            return last[0].returncode == 0

        assert until(works, seconds), f"{station}: {command} fails for {seconds} s: {last[0].stdout}{last[0].stderr}"
        return last[0].stdout

    # --- faults

    def cut(self, station: str) -> None:
        """Unplug the station's network cable."""
        faults.cut(self.machine(station))

    def restore(self, station: str) -> None:
        """Plug the station's network cable in."""
        faults.restore(self.machine(station))

    def power_cut(self, station: str) -> None:
        """Take the station's power away, honestly: what was not synchronised is lost. It stays off."""
        faults.power_cut(self.machine(station))

    def boot(self, station: str) -> None:
        """Switch the station on and wait until its SSH answers."""
        record = find(self.inventory)
        self.machine(station).boot(image.root_of(record.stations[station].image), BOOT_SECONDS)

    def shut_down(self, station: str) -> None:
        """Shut the station down in order."""
        self.machine(station).shut_down()

    def reboot(self, station: str) -> None:
        """Shut the station down in order and boot it."""
        self.shut_down(station)
        self.boot(station)

    def fill(self, station: str, leave: int = 0) -> None:
        """Fill the station's disk but for `leave` bytes."""
        faults.fill(self.machine(station), leave)

    def free(self, station: str) -> None:
        """Free the station's disk again."""
        faults.free(self.machine(station))


def until(condition: Callable[[], object], seconds: float = 30, step: float = 0.2) -> bool:
    """Wait until `condition` is true, at most `seconds`; return whether it is."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


def _write(path: Path, data: object) -> None:
    """Write YAML (JSON is YAML)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1))
