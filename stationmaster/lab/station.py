"""One station of a lab: its folder, its disk, booting and ending it.

A station is running when the PID 1 of its own is found in its control group:
nothing else is remembered. Its mounts, loop device and network namespace belong
to its processes and end with them.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from . import network
from .cgroups import StationGroup
from .errors import LabError
from .keys import make_key
from .plan import MACHINE, LabPlan, StationPlan, address_in
from .scripts import INIT_PATH, LAUNCHER
from .system import environment, inner_pid, kill, run, wait_until

BOOT_SECONDS = 180
"""A station answers within 2 s on an idle machine; on one that encodes on all processors a minute was measured."""
STOP_SECONDS = 20
"""Twice the units' TimeoutStopSec of 10 s."""
NSPAWN = Path("/run/systemd/nspawn")


@dataclass(slots=True)
class Machine:
    """A station of a lab: `folder` holds its disk image and mount points."""

    lab: LabPlan
    plan: StationPlan
    folder: Path
    group: StationGroup

    @classmethod
    def of(cls, lab: LabPlan, plan: StationPlan, labs: Path) -> Machine:
        """Return the station `plan` of `lab`, whose folder is below `labs`."""
        folder = labs / lab.id / "stations" / plan.name
        return cls(lab, plan, folder, StationGroup(lab.id, plan.name))

    @property
    def disk(self) -> Path:
        """The station's disk image."""
        return self.folder / "disk.img"

    def running(self) -> bool:
        """Tell whether the station's PID 1 lives."""
        return self.group.leader() is not None

    def make(self, size: str, hosts: str, authorized: str) -> str:
        """Make the station's disk of `size` (as truncate(1) takes it) and its identity; return its public host key.

        `hosts` is its /etc/hosts, `authorized` its root's authorized_keys.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("disk", "root"):
            (self.folder / name).mkdir(exist_ok=True)
        key = self.folder / "host_key"
        for path in (key, key.with_suffix(".pub"), self.disk):
            path.unlink(missing_ok=True)
        make_key(key, self.plan.name)
        public = key.with_suffix(".pub").read_text()
        self._seed({
            "etc/hostname": (0o644, f"{self.plan.name}\n"),
            "etc/hosts": (0o644, hosts),
            "etc/machine-id": (0o444, f"{uuid.uuid4().hex}\n"),
            "etc/ssh/ssh_host_ed25519_key": (0o600, key.read_text()),
            "etc/ssh/ssh_host_ed25519_key.pub": (0o644, public),
            "root/.ssh/authorized_keys": (0o600, authorized),
        })  # fmt: skip
        key.unlink()
        key.with_suffix(".pub").unlink()
        blank = self.folder / "disk.new"
        run("truncate", f"--size={size}", blank)
        # no space kept for root: a full disk is full for everyone
        run("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", blank)
        blank.rename(self.disk)
        return public.strip()

    def _seed(self, files: Mapping[str, tuple[int, str]]) -> None:
        with tarfile.open(self.folder / "seed.tar", "w") as archive:
            home = tarfile.TarInfo("root/.ssh")
            home.type, home.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(home)
            for path, (mode, text) in files.items():
                entry = tarfile.TarInfo(path)
                entry.mode, entry.size, entry.mtime = mode, len(text.encode()), int(time.time())
                archive.addfile(entry, io.BytesIO(text.encode()))
        (self.folder / "seed.tar").chmod(0o600)

    def boot(self, image: Path, seconds: float = BOOT_SECONDS) -> None:
        """Boot the station on its disk over `image` and wait until its SSH answers.

        Raises LabError with the end of its console when it does not within
        `seconds`.
        """
        self.clear()
        self.group.prepare()
        for name in ("entered", "prepared"):
            (self.folder / name).unlink(missing_ok=True)
        groups = [str(folder) for folder in self.group.folders]
        launcher = [
            "unshare", "--mount", "--propagation=private", "--net", "sh", "-c", LAUNCHER, "station", str(self.folder),
            str(image), str(os.getpid()), self.plan.port, f"{self.plan.address}/{self.lab.network.prefixlen}",
            self.plan.mac, "yes" if self.group.unified else "no", *groups, "--", *self._nspawn(),
        ]  # fmt: skip
        with (self.folder / "console.log").open("w") as console:
            subprocess.run(
                ["setsid", "--fork", *self.group.launch_prefix(), *launcher],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/", check=True,
                env={**environment(), "SYSTEMD_NSPAWN_TMPFS_TMP": "0"},  # /tmp lies on the disk, as on a real station
            )  # fmt: skip
        end = time.monotonic() + seconds
        self._await(lambda: (self.folder / "prepared").exists(), end, "could not be prepared")
        network.connect(self.lab, self.plan)
        self._await(self._answers, end, f"does not answer on {self.plan.address}:22")

    def _await(self, condition: Callable[[], bool], end: float, trouble: str) -> None:
        """Wait for a condition until `end` (monotonic), or until the station has ended by itself."""
        while not condition():
            # the launcher's first act is to enter its group
            ended = (self.folder / "entered").exists() and not self.group.pids()
            if ended or time.monotonic() > end:
                why = "it ended by itself" if ended else "it has had its time"
                raise LabError(f"{self.plan.name} {trouble} ({why}); its console:\n{self.console()}")
            time.sleep(0.1)

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no",
            f"--directory={self.folder / 'root'}", f"--machine={self.plan.machine}", f"--hostname={self.plan.name}",
            "--network-namespace-path=/proc/self/ns/net", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
            # what systemd needs to enforce address filters and device lists with BPF; never CAP_SYS_TIME
            "--system-call-filter=bpf", "--capability=CAP_BPF,CAP_PERFMON",
            "--kill-signal=SIGRTMIN+3", "--console=pipe", INIT_PATH, *self.group.controllers(),
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection((str(self.plan.address), 22), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def console(self, lines: int = 15) -> str:
        """Return the last lines of what the station printed while booting."""
        path = self.folder / "console.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no console)"

    def shut_down(self, seconds: float = STOP_SECONDS) -> None:
        """Power the station off in order; what is not down within `seconds` is killed."""
        if leader := self.group.leader():
            # systemd(1): SIGRTMIN+4 powers off
            kill([leader], signal.SIGRTMIN + 4)
            wait_until(lambda: not self.group.pids(), seconds)
        self.clear()

    def clear(self) -> None:
        """End everything of the station that still runs or lingers; its disk stays.

        Right after a crash, a dirty kill or half a boot, and without effect
        on a station that is off.
        """
        self.group.kill()
        network.remove_link(self.plan)
        self.group.remove()
        self._release_disk()

    def _release_disk(self) -> None:
        """Wait until the kernel has let go of the disk: mounts of ended processes go a little later."""
        if not wait_until(lambda: not loops_of(self.disk), 10):
            raise LabError(f"{self.disk} is still in use by {', '.join(loops_of(self.disk))}")

    def remove(self) -> None:
        """End the station and delete its disk."""
        self.clear()
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def enter(self, *command: str, text: bytes = b"", seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the station as root, past its network; output and exit status are the caller's to judge.

        Raises LabError when the station is off.
        """
        leader = self.group.leader()
        if leader is None:
            raise LabError(f"{self.plan.name} is not running")
        return subprocess.run(
            ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wdns=/root",
             "--", *command],
            input=text, capture_output=True, check=False, env=environment(), timeout=seconds,
        )  # fmt: skip

    def inside(self, path: Path) -> Path:
        """Return a path that leads to `path` of the station's own mounts on this machine, as its disk's folder.

        Raises LabError when the station is off.
        """
        pid = self.group.outside()
        if pid is None or not inner_pid(pid):
            raise LabError(f"{self.plan.name} is not running")
        return Path(f"/proc/{pid}/root{path}")


def tidy(lab: IPv4Network, labs: Path) -> None:
    """Remove what a killed systemd-nspawn left of the lab on a network, and the empty folders of labs and nspawn."""
    for lock in NSPAWN.glob("locks/*"):
        _unlink_unlocked(lock)
    own = [path for path in NSPAWN.glob(f"propagate/{MACHINE}????????") if address_in(path.name, MACHINE) in lab]
    for folder in (*own, NSPAWN / "locks", NSPAWN / "propagate", NSPAWN, labs):
        try:
            folder.rmdir()
        except OSError:
            continue


def _unlink_unlocked(path: Path) -> None:
    """Remove a lock that a killed systemd-nspawn left; one that is held (a record lock) stays."""
    try:
        with path.open("r+") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, PermissionError, FileNotFoundError):
        return


def loops_of(disk: Path) -> list[str]:
    """Return the loop devices that a disk image is attached to."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().strip().removesuffix(" (deleted)") == str(disk):
                found.append(f"/dev/{backing.parent.parent.name}")
        except OSError:
            continue
    return found
