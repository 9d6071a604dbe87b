"""Finished products of an encode: found, checked, and fetched when they are on another station.

A product is `done/<id>/` with its files and `manifest.json`, which is renamed
in last. What a manifest says becomes paths here and at the target, so every
name in it is checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from station.config import Source
from station.deliver import Item
from station.download import SourceAway, SourceGone, fetch, get, join, need_space

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 32 << 20
"""Bytes. An 8-hour product lists 14,400 segments, about 2 MB."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,200}(/[^\x00-\x1f\x7f/]{1,200})*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadProduct(Exception):
    """A product that cannot be uploaded as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Product:
    """A finished product; `version` is the SHA-256 of its manifest, `items` includes the manifest."""

    id: str
    version: str
    manifest: dict[str, Any]
    raw: bytes
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.items)


def parse(name: str, raw: bytes) -> Product:
    """Read a manifest. Raises BadProduct."""
    try:
        manifest = json.loads(raw)
        rows = [Item(str(row["name"]), int(row["size"]), str(row["sha256"])) for row in manifest["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadProduct(f"{MANIFEST} cannot be read: {error!r}") from error
    for row in rows:
        parts = row.name.split("/")
        if not _NAME.fullmatch(row.name) or ".." in parts or "." in parts or row.name == MANIFEST:
            raise BadProduct(f"{MANIFEST} names a file {row.name!r}; allowed are paths below the product's folder")
        if row.size < 0 or not _SHA256.fullmatch(row.sha256):
            raise BadProduct(f"{MANIFEST} gives {row.name} no size and SHA-256")
    if len({row.name for row in rows}) != len(rows):
        raise BadProduct(f"{MANIFEST} names a file twice")
    if not _ID.fullmatch(name) or str(manifest.get("id", name)) != name:
        raise BadProduct(f"the manifest in folder {name!r} is of {manifest.get('id')!r}")
    version = hashlib.sha256(raw).hexdigest()
    return Product(name, version, manifest, raw, (*rows, Item(MANIFEST, len(raw), version)))


class Products(Protocol):
    """A place with finished products."""

    def scan(self) -> dict[str, Product | BadProduct]:
        """Return all products by id. Raises SourceAway."""

    def fetch(self, product: Product, tick: Callable[[], object]) -> Path:
        """Return a local folder that holds the product's files. Raises SourceAway, BadProduct, OSError."""

    def release(self, product: Product) -> None:
        """Remove what `fetch` made; never an original."""


def _parse(name: str, raw: bytes) -> Product | BadProduct:
    try:
        return parse(name, raw)
    except BadProduct as error:
        return error


class LocalProducts:
    """Products of an instance on the same station, read where they are."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the data folder of the encode instance."""
        self._done = folder / "done"
        self._seen: dict[str, tuple[tuple[int, int, int], Product | BadProduct]] = {}

    def scan(self) -> dict[str, Product | BadProduct]:
        found: dict[str, tuple[tuple[int, int, int], Product | BadProduct]] = {}
        for path in sorted(self._done.glob(f"*/{MANIFEST}")):
            name = path.parent.name
            try:
                stat = path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                known = self._seen.get(name)
                found[name] = known if known and known[0] == stamp else (stamp, _parse(name, path.read_bytes()))
            except OSError as error:
                log.warning("%s: %s", path, error.strerror)
        self._seen = found
        return {name: product for name, (_, product) in found.items()}

    def fetch(self, product: Product, tick: Callable[[], object]) -> Path:
        return self._done / product.id

    def release(self, product: Product) -> None:
        return


class HttpProducts:
    """Products of an instance on another station, fetched into a spool folder."""

    def __init__(self, url: str, spool: Path, reserve: int) -> None:
        """`url` is that of the encode instance; `reserve` are the bytes that the spool's disk keeps free."""
        self._url = join(url, "done")
        self._spool = spool
        self._reserve = reserve
        self._seen: dict[str, tuple[str, Product | BadProduct]] = {}

    def scan(self) -> dict[str, Product | BadProduct]:
        listed, _ = get(join(self._url, "index.json"), limit=MANIFEST_LIMIT)
        try:
            value = json.loads(listed or b"[]")
            rows = value if isinstance(value, list) else value["ids"]
            names = [str(row["id"] if isinstance(row, dict) else row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceAway(f"{self._url}/index.json cannot be read: {error!r}") from error
        self._seen = {name: row for name in names if _ID.fullmatch(name) and (row := self._manifest(name))}
        return {name: product for name, (_, product) in self._seen.items()}

    def _manifest(self, name: str) -> tuple[str, Product | BadProduct] | None:
        known = self._seen.get(name)
        try:
            raw, tag = get(join(self._url, name, MANIFEST), tag=known[0] if known else "", limit=MANIFEST_LIMIT)
        except SourceGone:
            return None
        return known if raw is None else (tag, _parse(name, raw))

    def fetch(self, product: Product, tick: Callable[[], object]) -> Path:
        folder = self._folder(product)
        folder.mkdir(parents=True, exist_ok=True)
        have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        need_space(folder, product.size - have, self._reserve)
        (folder / MANIFEST).write_bytes(product.raw)
        for item in product.items:
            if item.name != MANIFEST:
                fetch(join(self._url, product.id, item.name), folder / item.name, item, tick)
        return folder

    def release(self, product: Product) -> None:
        shutil.rmtree(self._folder(product), ignore_errors=True)

    def _folder(self, product: Product) -> Path:
        return self._spool / f"{product.id}-{product.version[:8]}"


def products(source: Source, spool: Path, reserve: int) -> Products:
    """Return the products of a resolved source: read in place on this station, else fetched into `spool`."""
    return LocalProducts(source.path) if source.path else HttpProducts(source.url, spool, reserve)
