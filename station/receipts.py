"""What other stations say about our segments: receipts of uploads, and copies.

Fetched in a thread of its own, so that a station that does not answer never
touches a recording. Receipts once seen are kept beside the media: the rule of
`station.retention` must hold when the upload station is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import threading
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

from station import files
from station.config import Config
from station.index import IndexUnavailable, reader

log = logging.getLogger(__name__)

PERIOD = 60.0
"""Seconds between two looks."""
FRESH = 3 * PERIOD
"""A copy that was not seen for this long counts as gone: its disk may have died."""
LONGEST = 16 << 20
"""Bytes of a receipt: a day's raw segments are some 5 MB."""
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def hashes(receipt: Any) -> Iterable[str]:
    """The sha256 of each segment that a receipt covers; nothing for one without a verified upload."""
    if isinstance(receipt, dict) and receipt.get("verified_at"):
        for part in receipt.get("ranges") or []:
            for segment in part.get("segments") or []:
                if isinstance(segment.get("sha256"), str):
                    yield segment["sha256"]


class Witnesses:
    """Receipts and copies of one media instance, as far as they are known."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.paths.data / "receipts"
        self._known: set[str] = set()
        self._copies: dict[str, tuple[Any, set[tuple[str, str]], float]] = {}
        self.receipts: set[str] = set()
        self._stop = threading.Event()
        for file in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                self.receipts.update(hashes(json.loads(file.read_bytes())))
                self._known.add(file.name)

    def start(self) -> None:
        """Begin to look, every PERIOD seconds."""
        threading.Thread(target=self._run, name="witnesses", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next step."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(PERIOD)

    def refresh(self) -> None:
        """Look once at every receipt folder and copy that the context names."""
        context = self._config.context()
        for url in context.get("receipts") or []:
            try:
                self._fetch(str(url))
            except (OSError, ValueError, AttributeError) as error:
                log.info("no receipts from %s now: %s", url, error)
        for url in context.get("copies") or []:
            follower, names, _ = self._copies.get(url, (None, set(), 0.0))
            follower = follower or reader(str(url), self._config.budget.input_timeout)
            restarts = follower.restarts
            try:
                segments = follower.poll()
            except IndexUnavailable as error:
                log.info("no copy at %s now: %s", url, error)
                continue
            if follower.restarts != restarts:
                names = set()
            fresh = names | {(segment.name, segment.sha256) for segment in segments}
            self._copies[url] = (follower, fresh, time.monotonic())

    def copies(self) -> set[tuple[str, str]]:
        """Name and sha256 of the segments that a record instance verified and still lists."""
        now = time.monotonic()
        return set().union(*(names for _, names, seen in list(self._copies.values()) if now - seen < FRESH))

    def _fetch(self, url: str) -> None:
        base = url.rstrip("/") + "/"
        prefix = hashlib.sha256(base.encode()).hexdigest()[:8]
        listing = json.loads(self._get(base + "index.json"))
        for name in listing.get("ids", []) if isinstance(listing, dict) else listing:
            local = f"{prefix}-{name}.json"
            if local in self._known or not isinstance(name, str) or not _ID.fullmatch(name):
                continue
            content = self._get(f"{base}{name}.json")
            found = set(hashes(json.loads(content)))
            if not found:
                continue  # not verified yet: ask again
            files.make_folder(self._folder)
            files.write(self._folder / local, content, durable=True)
            self._known.add(local)
            self.receipts = self.receipts | found

    def _get(self, url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=self._config.budget.input_timeout) as answer:  # noqa: S310 (from our own inventory)
            data: bytes = answer.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise ValueError(f"{url} is longer than {LONGEST} bytes")
        return data
