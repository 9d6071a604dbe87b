"""What the controller brings to the manager's station: code, wheels, inventory, each as one archive.

Archives are named by the hash of what is in them, so that equal content is
sent and unpacked once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from stationmaster.model import Event

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD = CHECKOUT / "build" / "manager"
LOCK = Path("api/requirements.lock")
CODE = (
    "api", "playbooks", "plugins", "roles", "station", "stationmaster", "templates",
    "ansible.cfg", "inventory/demo-vault-password", "pyproject.toml", "site.yml",
)  # fmt: skip
"""What the manager runs on, and what its runs play; ansible.cfg names the demo's password file."""
PYTHON = "3.11"
"""Debian 12's; wheels are chosen for it, whatever Python the controller has."""
GLIBC = (36, 17, 12, 5)
"""Minor version of Debian 12's glibc, and the older ones that have a name of their own among wheel platforms."""
DOWNLOAD_SECONDS = 900
UNWANTED = ("__pycache__", ".git", ".state", ".ansible", "node_modules")
PAGES = Path("api/pages")
VENDORED = re.compile(r'"/static/(vendor/[^"]+)"')
"""What a template of the page loads that is no file of the checkout: `make venv` fetches it."""


class PackageError(Exception):
    """The manager cannot be packed; the text says why and what to do."""


def manager_of(event: Event) -> str:
    """Return the station that the manager runs on.

    Raises:
        PackageError: the inventory names none.
    """
    name = event.settings.get("manager")
    if not name:
        services = sorted(station.name for station in event.stations.values() if station.room is None)
        raise PackageError(
            "this inventory names no manager: write 'event_manager: NAME' into group_vars/all/event.yml, where "
            f"NAME is a station of the group services ({', '.join(services) or 'none yet'})"
        )
    return str(name)


def code(checkout: Path = CHECKOUT, folder: Path = BUILD) -> Path:
    """Pack the checkout's code, with what the page loads; return the archive, `code-<hash>.tar.gz`.

    Raises:
        PackageError: something that the page loads was not fetched yet.
    """
    pages = checkout / PAGES
    loaded = {name for path in pages.glob("templates/*") for name in VENDORED.findall(path.read_text("utf-8"))}
    missing = sorted(name for name in loaded if not (pages / "static" / name).is_file())
    if missing:
        raise PackageError(
            f"the manager's page loads what is not in {PAGES}/static: {', '.join(missing)}; run 'make venv', which "
            "fetches it"
        )
    return _pack(checkout, [checkout / name for name in CODE], folder, "code")


def inventory(source: Path, folder: Path = BUILD) -> Path:
    """Pack an inventory without its history and without passwords that lie beside it; return the archive.

    Args:
        source: its folder, or the file that it is.
        folder: where the archive goes.
    """
    top = source if source.is_dir() else source.parent
    return _pack(top, [source], folder, "inventory", without="vault-password")


def known_hosts(event: Event, checkout: Path = CHECKOUT) -> str:
    """Return the lines of the checkout's known_hosts about the event's stations; hashed names are passed over."""
    path = checkout / ".state/ssh/known_hosts"
    names = {name for station in event.stations.values() for name in (station.name, station.address)}
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return "".join(f"{line}\n" for line in lines if names & set(line.partition(" ")[0].split(",")))


def wheels(machine: str, checkout: Path = CHECKOUT, folder: Path = BUILD) -> Path:
    """Return the archive of all wheels that the manager needs, which is built when the lock or the machine is new.

    Args:
        machine: as the station's `uname -m` says it.
        checkout: whose lock.
        folder: where wheelhouse and archive go.

    Raises:
        PackageError: pip could not get them all with the hashes of the lock.
    """
    lock = checkout / LOCK
    name = hashlib.sha256(lock.read_bytes() + machine.encode()).hexdigest()[:16]
    made = folder / f"wheels-{name}.tar.gz"
    if made.exists():
        return made
    house = folder / f"wheelhouse-{name}"
    shutil.rmtree(house, ignore_errors=True)
    house.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    command += ["--abi=cp311", "--abi=abi3", "--abi=none", *(f"--platform={one}" for one in platforms(machine))]
    command += [f"--requirement={lock}", f"--dest={house}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
    )
    if done.returncode:
        raise PackageError("pip could not get what the manager needs:\n" + "\n".join(done.stderr.splitlines()[-10:]))
    shutil.copy(lock, house / "requirements.lock")
    packed = _pack(house, [house], folder, "wheels")
    shutil.rmtree(house)
    packed.rename(made)
    return made


def platforms(machine: str) -> Iterator[str]:
    """Yield the names of wheel platforms that Debian 12 on such a machine takes, the newest first."""
    for minor in range(GLIBC[0], GLIBC[-1] - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
    for name in ("manylinux2014", "manylinux2010", "manylinux1"):
        yield f"{name}_{machine}"


def _pack(top: Path, sources: Iterable[Path], folder: Path, kind: str, without: str = "\n") -> Path:
    """Write an archive that depends on names and contents only: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(path for source in sources for path in _files(source) if without not in path.name):
            entry = tarfile.TarInfo(str(path.relative_to(top)))
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    raw = buffer.getvalue()
    made = folder / f"{kind}-{hashlib.sha256(raw).hexdigest()[:16]}.tar.gz"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        staged = made.with_suffix(".new")
        staged.touch(mode=0o600)
        staged.write_bytes(gzip.compress(raw, 1, mtime=0))
        staged.rename(made)
        _forget(folder, kind, made)
    return made


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    elif source.is_dir():
        for path in source.iterdir():
            if path.name not in UNWANTED and path.suffix != ".pyc" and not path.is_symlink():
                yield from _files(path)


def _forget(folder: Path, kind: str, made: Path, keep: int = 5) -> None:
    """Remove the older archives of a kind: each apply of a changed checkout leaves one."""
    others = sorted(folder.glob(f"{kind}-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for path in others[:-keep]:
        if path != made:
            path.unlink(missing_ok=True)


def name_of(archive: Path) -> str:
    """Return the hash in an archive's name."""
    return archive.name.removesuffix(".tar.gz").partition("-")[2]
