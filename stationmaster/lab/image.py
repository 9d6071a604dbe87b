"""The stations' image: Debian 12 with the packages of all station roles, built once per list of packages."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from .errors import LabError
from .scripts import INIT, INIT_PATH
from .sources import RELEASE, host_options, host_sources
from .system import INSTALL, environment, locked, run

CACHE = Path("/var/cache/stationmaster/lab")
BUILD_SECONDS = 1800
"""How long to wait for another run that is building: a slow mirror takes minutes."""
BASE = (
    "ca-certificates", "chrony", "dbus", "iproute2", "libpam-systemd", "openssh-server", "procps", "python3",
    "strace", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
"""What every station has: an installed Debian's own, what roles/provision sets up, and strace for tests."""

# Debian enables every service that a package brings; on a station only units of
# its roles run, so all but SSH start disabled.
PRESET = "enable ssh.service\ndisable *\n"
PRESET_PATH = "usr/lib/systemd/system-preset/00-stationmaster-lab.preset"
UNREAD = ("doc", "info", "locale", "man", "lintian", "bug")
"""Folders of /usr/share that nobody reads on a lab station: left out, a third of the unpacking time."""
STRAY = ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "etc/ssh/ssh_host_*")
"""What the build puts there from itself or this machine, and each station has as its own."""


def role_packages(roles: Path) -> list[str]:
    """Return the Debian packages that the station roles below `roles` need."""
    found: set[str] = set()
    for path in sorted(roles.glob("*/role.yml")):
        try:
            row = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise LabError(f"{path} is not YAML: {error}") from error
        found.update((row or {}).get("packages") or ())
    return sorted(found)


def name_of(packages: Iterable[str]) -> str:
    """Return the name of the image with these packages: a hash over them and the way it is built."""
    recipe = [sorted({*BASE, *packages}), RELEASE, INIT, PRESET, UNREAD, STRAY]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def root_of(name: str) -> Path:
    """Return the folder that holds the files of the image."""
    return CACHE / name / "root"


def ensure(packages: Iterable[str], say: Callable[[str], None]) -> tuple[str, bool]:
    """Build the image with these packages unless it is there; return its name and whether it was built.

    A build that fails or is killed leaves no image; two at once wait for each
    other. Raises LabError with the end of the log when it fails.
    """
    wanted = sorted({*BASE, *packages})
    name = name_of(packages)
    if (CACHE / name).is_dir():
        return name, False
    with locked(CACHE, BUILD_SECONDS, f"{CACHE}: another build of an image does not end") as handle:
        if (CACHE / name).is_dir():
            return name, False
        for left in CACHE.glob("building-*"):
            shutil.rmtree(left)
        say(f"building the stations' image once ({len(wanted)} packages, about a minute) …")
        folder = CACHE / f"building-{name}"
        try:
            (folder / "root").mkdir(parents=True)
            _build(folder, wanted, handle)
            folder.rename(CACHE / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return name, True


def _build(folder: Path, packages: list[str], handle: int) -> None:
    root = folder / "root"
    sources = folder / "sources.list"
    sources.write_text("".join(f"{line}\n" for line in host_sources()))
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    command += [f"--include={','.join(packages)}"]
    command += [f"--aptopt={line.removesuffix(';')}" for line in host_options()]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    # a build that is cut off is thrown away, so nothing has to be on the disk before the end
    command += ["--dpkgopt=force-unsafe-io", RELEASE, str(root), str(sources)]
    log = folder / "log"
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), check=False,
                pass_fds=(handle,),  # should this process be killed, the lock lasts as long as the build
            )  # fmt: skip
        except FileNotFoundError as error:
            raise LabError(f"mmdebstrap is missing on this machine: {INSTALL}") from error
    if done.returncode:
        raise LabError("the stations' image could not be built:\n" + "\n".join(log.read_text().splitlines()[-20:]))
    _finish(root)


def _finish(root: Path) -> None:
    for pattern in STRAY:
        for path in root.glob(pattern):
            path.unlink()
    (root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink(missing_ok=True)
    init = root / INIT_PATH.lstrip("/")
    init.parent.mkdir(parents=True)
    init.write_text(INIT)
    init.chmod(0o755)
    (root / PRESET_PATH).write_text(PRESET)
    run("systemctl", f"--root={root}", "preset-all")
    run("chroot", root, "python3", "-m", "compileall", "-q", "/usr/lib/python3", "/usr/lib/python3.11")


def purge(used: Iterable[str]) -> list[str]:
    """Remove all images but those in `used`; return which were removed."""
    if not CACHE.is_dir():
        return []
    keep = set(used)
    with locked(CACHE, BUILD_SECONDS, f"{CACHE}: a build of an image does not end"):
        removed = sorted(path.name for path in CACHE.iterdir() if path.name not in keep)
        for name in removed:
            shutil.rmtree(CACHE / name)
        if not keep:
            CACHE.rmdir()
    return removed
