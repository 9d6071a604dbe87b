"""SSH: the controller's key, the stations' host keys and who is known.

`ansible.cfg` names the key and the known_hosts file, both below `.state/ssh/`
of the checkout. Lines of known_hosts carry the lab that wrote them, so that
several labs and real stations share the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from .plan import StationPlan
from .system import locked, run

FOLDER = Path(".state/ssh")
MARK = "stationmaster-lab:"


def controller_key(checkout: Path) -> str:
    """Return the public half of the checkout's SSH key, which is made if absent."""
    folder = checkout / FOLDER
    key = folder / "id_ed25519"
    with _locked(folder):
        if not key.exists():
            make_key(key, "stationmaster")
            _give(checkout, folder.parent, folder, key, key.with_suffix(".pub"))
        public = key.with_suffix(".pub")
        if not public.exists():
            public.write_text(run("ssh-keygen", "-y", "-f", key))
        return public.read_text().strip()


def make_key(path: Path, comment: str) -> None:
    """Make an Ed25519 key pair without passphrase at `path` and `path`.pub."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)


def know(checkout: Path, lab: str, keys: Mapping[str, tuple[StationPlan, str]]) -> bool:
    """Write the host keys of a lab's stations, by station name, into known_hosts; return whether it changed.

    Lines of the same lab or address that were there go.
    """
    folder = checkout / FOLDER
    path = folder / "known_hosts"
    with _locked(folder):
        before = path.read_text() if path.exists() else ""
        after = merged(before, lab, keys)
        if after == before:
            return False
        if after:
            temporary = path.with_suffix(".new")
            temporary.write_text(after)
            _give(checkout, temporary)
            temporary.replace(path)
        else:
            path.unlink(missing_ok=True)
        return True


def merged(text: str, lab: str, keys: Mapping[str, tuple[StationPlan, str]]) -> str:
    """Return the known_hosts `text` with a lab's own lines replaced by `keys`."""
    addresses = {str(station.address) for station, _ in keys.values()}
    kept = [
        line
        for line in text.splitlines()
        if not line.endswith(f" {MARK}{lab}") and not addresses & set(line.partition(" ")[0].split(","))
    ]
    own = [
        f"{name},{station.address} {' '.join(public.split()[:2])} {MARK}{lab}"
        for name, (station, public) in sorted(keys.items())
    ]
    return "".join(f"{line}\n" for line in kept + own)


def _give(checkout: Path, *paths: Path) -> None:
    """Give files that root made to the checkout's owner, who calls Ansible for all but the lab."""
    owner = checkout.stat()
    for path in paths:
        os.chown(path, owner.st_uid, owner.st_gid)


def _locked(folder: Path) -> AbstractContextManager[int]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return locked(folder, 30, f"{folder} is locked by another run")
