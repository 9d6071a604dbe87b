"""Bringing files to a target so that what has its final name there is whole and verified.

Files go to a staging folder `.incoming/…` at the target, are verified there,
and are renamed into place. What is whole in the staging folder is not sent a
second time, so an upload that was cut off goes on with the file at which it
was. A file that has its final name is never overwritten.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from station import files
from station.digests import Digests, digests
from station.rclone import Entry, Rclone
from station.remote import Remote

log = logging.getLogger(__name__)
KNOWN_HASHES = ("sha1", "md5")
"""Checksums that we can compare, best first."""


class DeliveryError(Exception):
    """A delivery that failed for a reason of ours: a copy that differs, a source that changed."""


class SourceDiffers(DeliveryError):
    """An original, `name`, is not what its manifest or index states."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Conflict(DeliveryError):
    """A different file has the final name at the target."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file to deliver: path below the source folder (and below the final one), size in bytes, SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LargeFiles:
    """Another way than rclone for files of at least `size` bytes; `send` takes a file and its path at the target."""

    size: int
    send: Callable[[Path, str], None]


class Delivery:
    """Delivers the files of one folder to one target."""

    def __init__(
        self,
        rclone: Rclone,
        source: Path,
        items: Sequence[Item],
        staging: str,
        tick: Callable[[], object],
        *,
        parallel: int = 1,
        large: LargeFiles | None = None,
    ) -> None:
        """Prepare a delivery.

        Args:
            rclone: knows the target.
            source: local folder that holds the items.
            items: what to deliver.
            staging: folder at the target for what is not verified yet; of this delivery alone.
            tick: called often; may raise to stop.
            parallel: files sent at a time: 1 finishes one after the other, more suits many small files.
            large: another way for large files, if there is one.
        """
        self._rclone = rclone
        self._remote: Remote = rclone.remote
        self._source = source
        self._staging = staging
        self._staged: dict[str, Entry] = {}
        self._items = {item.name: item for item in items}
        self._tick = tick
        self._parallel = parallel
        self._large = large
        self._digests: dict[str, Digests] = {}

    def state(self, final: str) -> tuple[set[str], set[str]]:
        """Look at a final folder: names that are there and verified, and names that differ from ours."""
        there = {place: f"{place}/{{}}" for place in (final, self._staging)}
        names = [path.format(name) for path in there.values() for name in self._items]
        found = self._rclone.listing(self._remote.path(), names)
        finals, self._staged = (
            {name: found[f"{place}/{name}"] for name in self._items if f"{place}/{name}" in found} for place in there
        )
        same = self._whole(final, finals)
        differ = set(finals) - same
        if same and self._hash_name() is None:
            same, wrong = self._read_back(final, same)
            differ |= wrong
        return same, differ

    def run(self, final: str, done: set[str]) -> str:
        """Bring all items but those in `done` to the folder `final`, by way of the staging folder; call `state` first.

        They get their names in the order of the items as far as the last one
        goes: it comes when all others are there.

        Returns:
            How they were verified, for the receipt.

        Raises:
            Conflict: a different file has a final name.
            DeliveryError: a copy or a source differs from what was promised.
            RcloneError: the target; OSError: the source.
        """
        names = [name for name in self._items if name not in done]
        if names:
            self._stage(names)
            for part in (names[:-1], names[-1:]):
                if part:
                    self._rclone.move(self._remote.path(self._staging), self._remote.path(final), part)
        self._confirm(final)
        if self._remote.kind == "local":
            self._make_durable(final)
        name = self._hash_name()
        return f"{name} at the target" if name else "sha256, read back"

    def _stage(self, names: list[str]) -> None:
        staging = self._remote.path(self._staging)
        whole = self._whole(self._staging, self._staged)
        missing = [name for name in names if name not in whole]
        for name in missing:
            self._digest(name)
        found = self._staged
        if missing:
            if whole:
                log.info("%d of %d files were there already", len(whole), len(names))
            self._send(missing)
            hash_name, size = self._hash_name() or "", sum(self._items[name].size for name in names)
            found = self._rclone.listing(staging, names, hash_name=hash_name, size=size)
            whole = {name for name, entry in found.items() if self._matches(name, entry)}
        if whole and self._hash_name() is None:
            whole, _ = self._read_back(self._staging, whole & set(names))
        wrong = set(names) - whole
        for name in sorted(wrong & set(found)):
            self._rclone.delete(self._remote.path(self._staging, name))
        if wrong:
            name = min(wrong)
            state = f"has {found[name].size} bytes" if name in found else "is missing"
            raise DeliveryError(
                f"{name}: the copy at the target differs from the original ({state}, {self._items[name].size} wanted; "
                "size or checksum); it was removed and is sent again"
            )

    def _send(self, names: list[str]) -> None:
        small = [name for name in names if not self._large or self._items[name].size < self._large.size]
        for name in names:
            if self._large and name not in small:
                self._large.send(self._source / name, f"{self._staging}/{name}")
        if small:
            self._rclone.copy(str(self._source), self._remote.path(self._staging), small, parallel=self._parallel)

    def _whole(self, folder: str, found: dict[str, Entry]) -> set[str]:
        """Return which files of a folder, listed without checksums, are whole; without reading them back."""
        fitting = [name for name, entry in found.items() if entry.size == self._items[name].size]
        if fitting and (hash_name := self._hash_name()):
            size = sum(found[name].size for name in fitting)
            found = found | self._rclone.listing(self._remote.path(folder), fitting, hash_name=hash_name, size=size)
        return {name for name in fitting if self._matches(name, found[name])}

    def _confirm(self, final: str) -> None:
        found = self._rclone.listing(self._remote.path(final), list(self._items))
        for name, item in self._items.items():
            size = found[name].size if name in found else None
            if size is not None and size != item.size:
                raise Conflict(f"{self._remote.locate(final, name)}: a different file with {size} bytes has this name")
            if size is None:
                raise DeliveryError(f"{self._remote.locate(final, name)}: not there after the rename; it is sent again")

    def _matches(self, name: str, entry: Entry) -> bool:
        if entry.size != self._items[name].size:
            return False
        hash_name = self._hash_name()
        return hash_name is None or entry.digest == getattr(self._digest(name), hash_name)

    def _read_back(self, folder: str, names: set[str]) -> tuple[set[str], set[str]]:
        size = sum(self._items[name].size for name in names)
        read = self._rclone.read_back(self._remote.path(folder), sorted(names), size)
        same = {name for name in names if read.get(name) == self._items[name].sha256}
        return same, names - same

    def _hash_name(self) -> str | None:
        """Return the checksum to compare, None when every byte must be read back."""
        if self._remote.verify == "download":
            return None
        name = next((name for name in KNOWN_HASHES if name in self._rclone.hashes()), None)
        if name is None and self._remote.verify == "hash":
            raise DeliveryError("the target states no checksum that we know; set `verify: download` for it")
        return name

    def _digest(self, name: str) -> Digests:
        """Checksums of the original, which must be what its manifest or index says."""
        if name not in self._digests:
            path = self._source / name
            found = digests(path, self._tick)
            item = self._items[name]
            if (found.size, found.sha256) != (item.size, item.sha256):
                raise SourceDiffers(
                    name,
                    f"{path}: differs from what its manifest or index states ({found.size} bytes, {item.size} stated); "
                    "nothing was uploaded under its name",
                )
            self._digests[name] = found
        return self._digests[name]

    def _make_durable(self, final: str) -> None:
        folder = Path(self._remote.base) / final
        for name in self._items:
            files.sync_file(folder / name)
            for parent in {(folder / name).parent, folder}:
                files.sync_folder(parent)
        while folder != Path(self._remote.base) and os.access(folder.parent, os.R_OK):
            folder = folder.parent
            files.sync_folder(folder)
