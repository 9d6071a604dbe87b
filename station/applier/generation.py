"""Generations: stage one, make it the current one by one rename, drop old ones."""

from __future__ import annotations

import os
import zlib

from station.applier import durable, files
from station.applier.layout import GENERATIONS_KEPT, Layout, Refusal
from station.applier.light import dumps, read
from station.applier.records import load_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Blobs:
    """The contents that came with the request, each packed on its own behind the other.

    `index` maps a SHA-256 to offset and length in `packed`.
    """

    def __init__(self, index: dict[str, list[int]], packed: bytes) -> None:
        self._index = index
        self._packed = packed

    def has(self, sha256: str) -> bool:
        """Return whether a content came along."""
        return sha256 in self._index

    def get(self, entry: dict[str, Any]) -> bytes | None:
        """Return the content of a manifest's file, or None if it did not come along."""
        if entry["sha256"] not in self._index:
            return None
        offset, length = self._index[entry["sha256"]]
        return zlib.decompress(self._packed[offset : offset + length])


class Donors:
    """Files of older generations by content and mode, checked anew before each use."""

    def __init__(self, layout: Layout) -> None:
        self._paths: dict[tuple[str, str], list[str]] = {}
        for number in reversed(layout.numbers()):
            manifest = load_manifest(layout, number)
            for path, entry in (manifest or {"files": {}})["files"].items():
                key = (entry["sha256"], entry["mode"])
                self._paths.setdefault(key, []).append(f"{layout.generation(number)}/{path}")

    def find(self, entry: dict[str, Any]) -> str | None:
        """Return a file that is exactly as the entry says; a hand-edited one never is."""
        for path in self._paths.get((entry["sha256"], entry["mode"]), []):
            if files.faithful(path, entry) is None:
                return path
        return None

    def get(self, entry: dict[str, Any]) -> bytes | None:
        """Return the content of a manifest's file, or None if no generation has it any more."""
        path = self.find(entry)
        return read(path) if path else None


def absent(layout: Layout, manifest: dict[str, Any], blobs: Blobs) -> list[str]:
    """Return the SHA-256 of each content that neither came along nor is on the station."""
    donors = Donors(layout)
    entries = {entry["sha256"]: entry for entry in manifest["files"].values() if not blobs.has(entry["sha256"])}
    return sorted(digest for digest, entry in entries.items() if not donors.find(entry))


def _folders(paths: set[str]) -> list[str]:
    """Return all folders that these paths lie in, parents first."""
    found = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(found)


def stage(layout: Layout, manifest: dict[str, Any], blobs: Blobs) -> int:
    """Write a new generation beside the others, durably, and return its number.

    A file that an older generation has unchanged becomes a hard link to it. Refusal
    `IncompleteBundle` if a content neither came along nor is on the station.
    """
    number = max([*layout.numbers(), 0]) + 1
    for name in os.listdir(layout.generations):
        if name.startswith(".stage-"):
            durable.remove_tree(f"{layout.generations}/{name}")
    folder = f"{layout.generations}/.stage-{number}"
    os.mkdir(folder, 0o755)
    folders = _folders(manifest["files"].keys() | manifest["links"].keys() | {"units/x"})
    for path in folders:
        os.mkdir(f"{folder}/{path}")
        os.chmod(f"{folder}/{path}", files.folder_mode(path))
    donors = Donors(layout)
    for path, entry in manifest["files"].items():
        donor = donors.find(entry)
        if donor:
            os.link(donor, f"{folder}/{path}")
            continue
        data = blobs.get(entry)
        if data is None:
            raise Refusal(
                "IncompleteBundle",
                f"The content of {path} neither came along nor is on the station any more.",
                file=path,
            )
        durable.create(f"{folder}/{path}", data, int(entry["mode"], 8))
    for path, target in manifest["links"].items():
        os.symlink(target, f"{folder}/{path}")
    durable.create(f"{folder}/{files.MANIFEST}", dumps({**manifest, "generation": number}).encode(), 0o644)
    damage = files.drift(folder, manifest)
    if damage:
        raise Refusal("DamagedStage", f"What was written does not read back: {damage}. Check the station's disk.")
    for path in reversed(folders):
        durable.sync_folder(f"{folder}/{path}")
    durable.sync_folder(folder)
    os.rename(folder, layout.generation(number))
    durable.sync_folder(layout.generations)
    return number


def swap(layout: Layout, number: int) -> None:
    """Make a generation the current one, in one step and durably."""
    if layout.current_number() != number:
        durable.point(layout.current, f"generations/{number}")


def prune(layout: Layout, keep: set[int]) -> None:
    """Remove all generations but the newest ones and those in `keep`."""
    numbers = layout.numbers()
    for number in numbers[:-GENERATIONS_KEPT]:
        if number not in keep and number != layout.current_number():
            doomed = f"{layout.generations}/.stage-{number}-old"
            os.rename(layout.generation(number), doomed)
            durable.remove_tree(doomed)


def read_text(layout: Layout, number: int, path: str) -> str | None:
    """Return a file of a generation as text, None if it is absent or no text."""
    try:
        return read(f"{layout.generation(number)}/{path}").decode()
    except (OSError, UnicodeDecodeError):
        return None
