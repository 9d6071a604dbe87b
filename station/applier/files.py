"""The files of a generation: what differs from its manifest."""

from __future__ import annotations

import os
import stat

from station.applier.light import digest, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MANIFEST = "bundle.json"
SECRETS = "secrets"
"""Below this folder everything is for root's eyes only, and never shown."""


def folder_mode(path: str) -> int:
    """Return the mode of a folder inside a generation."""
    return 0o700 if path == SECRETS or path.startswith(SECRETS + "/") else 0o755


def faithful(path: str, entry: dict[str, Any], owner: tuple[int, int] | None = None) -> str | None:
    """Return why the file at `path` is not what its manifest entry says, or None if it is.

    `owner` is the user and the group that it should have, by default this process's.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return "missing"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    if stat.S_IMODE(status.st_mode) != int(entry["mode"], 8):
        return "mode"
    if (status.st_uid, status.st_gid) != (owner or (os.geteuid(), os.getegid())):
        return "owner"
    return None if digest(read(path)) == entry["sha256"] else "content"


def drift(folder: str, manifest: dict[str, Any], owner: tuple[int, int] | None = None) -> dict[str, str]:
    """Return each path of a generation that is not as its manifest says, and why; `owner` as for `faithful`.

    Compiled Python beside the code is the interpreter's and does not count.
    """
    found = {}
    files, links = manifest["files"], manifest["links"]
    for path, entry in files.items():
        reason = faithful(f"{folder}/{path}", entry, owner)
        if reason:
            found[path] = reason
    for path, target in links.items():
        try:
            if os.readlink(f"{folder}/{path}") != target:
                found[path] = "target"
        except FileNotFoundError:
            found[path] = "missing"
        except OSError:
            found[path] = "not a link"
    _walk(folder, "", files.keys() | links.keys(), found)
    return found


def _walk(folder: str, below: str, known: set[str], found: dict[str, str]) -> None:
    """Add to `found` what no manifest knows and folders whose mode is wrong."""
    try:
        entries = os.scandir(f"{folder}/{below}")
    except OSError:
        return
    with entries:
        for entry in entries:
            path = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name == "__pycache__":
                    continue
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                if mode != folder_mode(path):
                    found[path + "/"] = "mode"
                _walk(folder, path + "/", known, found)
            elif path not in known and path != MANIFEST:
                found[path] = "extra"


def changes(have: dict[str, Any], target: dict[str, Any], drifted: dict[str, str]) -> list[str]:
    """Return the paths that differ between two manifests or on the disk, sorted."""
    found = set(drifted)
    for kind in ("files", "links"):
        old, new = have[kind], target[kind]
        found |= {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    return sorted(found)
