"""Runs on the manager's station as root: TOP CODE WHEELS REVISION [INVENTORY].

Unpacks what lies in TOP/incoming: the code into TOP/code-CODE, its Python into TOP/wheels-WHEELS, the inventory into
the folder INVENTORY. Prints what it did. Killed at any moment, it does the rest next time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSH = "/var/lib/stationmaster-manager/ssh"
KEEP = 3
"""Versions of the code that stay: a run that began before goes on with its own."""


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Give a folder, beside the archive, with what is in it."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as name, tarfile.open(archive) as tar:
        tar.extractall(name)
        yield Path(name)


def install_python(top: Path, name: str) -> bool:
    """Make a virtual environment of the wheels; its last file says that it is whole."""
    folder = top / f"wheels-{name}"
    if (folder / "complete").exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    with unpacked(top / "incoming/wheels.tar.gz") as house:
        pip = next(house.glob("pip-*.whl")) / "pip"
        command = [folder / "bin/python", pip, "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        command += ["--root-user-action=ignore", "--require-hashes", "--no-deps", f"--find-links={house}"]
        subprocess.run([*command, "-r", house / "requirements.lock"], check=True, env={"PATH": "/usr/bin:/bin"})
    (folder / "complete").touch()
    return True


def install_code(top: Path, name: str, wheels: str, revision: str) -> bool:
    """Unpack the code and make it the current one."""
    folder, link = top / f"code-{name}", top / "current"
    if not folder.exists():
        with unpacked(top / "incoming/code.tar.gz") as found:
            found.chmod(0o755)
            (found / "NAME").write_text(f"{name}\n")
            (found / "REVISION").write_text(f"{revision}\n")
            (found / ".venv").symlink_to(f"../wheels-{wheels}")
            # where ansible.cfg has the key that stations are reached with
            (found / ".state").mkdir()
            (found / ".state/ssh").symlink_to(SSH)
            shutil.copytree(found, top / "new", symlinks=True)
        (top / "new").rename(folder)
    if link.is_symlink() and link.readlink() == Path(folder.name):
        return False
    staged = top / "current.new"
    staged.unlink(missing_ok=True)
    staged.symlink_to(folder.name)
    staged.replace(link)
    os.utime(folder)
    return True


def install_inventory(top: Path, folder: Path) -> bool:
    """Make a folder hold exactly the inventory's files, each replaced in one step."""
    with unpacked(top / "incoming/inventory.tar.gz") as found:
        wanted = {path.relative_to(found) for path in found.rglob("*") if path.is_file()}
        there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()
        changed = there != wanted
        for path in wanted:
            data, place = (found / path).read_bytes(), folder / path
            if path in there and place.read_bytes() == data:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            staged = place.with_name(f".{place.name}.new")
            staged.write_bytes(data)
            staged.chmod((found / path).stat().st_mode & 0o777)
            staged.replace(place)
            changed = True
        for path in there - wanted:
            (folder / path).unlink()
    if changed:
        owner = folder.parent.stat()
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)
    return changed


def forget(top: Path) -> None:
    """Remove old versions, and the Python that none of those that stay has."""
    codes = sorted(top.glob("code-*"), key=lambda path: path.stat().st_mtime)
    for path in codes[:-KEEP]:
        shutil.rmtree(path)
    used = {(path / ".venv").readlink().name for path in codes[-KEEP:]}
    for path in top.glob("wheels-*"):
        if path.name not in used:
            shutil.rmtree(path)
    for name in ("code", "wheels"):
        (top / f"incoming/{name}.tar.gz").unlink(missing_ok=True)


def main(top: Path, code: str, wheels: str, revision: str, inventory: str = "") -> None:
    """Do what the arguments say."""
    os.umask(0o022)
    shutil.rmtree(top / "new", ignore_errors=True)
    if install_python(top, wheels):
        print(f"Python {wheels}")
    if install_code(top, code, wheels, revision):
        print(f"code {code}")
    if inventory and install_inventory(top, Path(inventory)):
        print("inventory")
    forget(top)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
