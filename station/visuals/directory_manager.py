"""Broadcasters and channels that our manager lists.

Its last answer is kept on the disk, so that a start without the manager is one with what was known; without that,
the configuration's own listing is used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from station import files
from station.config import ConfigError
from station.manager_link import ManagerLink
from station.visuals.directory import Listing, Local, Verdict
from station.visuals.passwords import Checker, fault, is_hash

log = logging.getLogger(__name__)
FILE = "directory.json"


class Managed:
    """The manager's directory; what it says replaces the configuration's listing, of which it is a newer copy."""

    def __init__(self, link: ManagerLink, folder: Path, listing: Listing, *, hashed: bool = False) -> None:
        """Begin with what is known.

        Args:
            link: the manager.
            folder: data folder of the instance; the last answer is in its `directory.json`, for the owner only.
            listing: the configuration's own.
            hashed: whether passwords in clear are refused, as with TLS.
        """
        self._link = link
        self._path = folder / FILE
        self._hashed = hashed
        self._checker = Checker()
        self._revision = ""
        self._local = Local(listing, self._checker)
        kept = self._kept()
        if kept is not None:
            self._local = Local(kept, self._checker)

    def listing(self) -> Listing:
        """Return what the manager said last, before its first answer what is on the disk or in the configuration."""
        return self._local.listing()

    async def check(self, login: str, passcode: str, address: str) -> Verdict:
        """Judge a login."""
        return await self._local.check(login, passcode, address)

    async def channels(self, station: str) -> list[str]:
        """Return the topics of a broadcaster."""
        return await self._local.channels(station)

    async def known(self) -> Collection[str]:
        """Return the topics of channels that have a default picture."""
        return await self._local.known()

    async def gcc(self, country: str, pi: str) -> str | None:
        """Return the global country code of a two-letter code and a PI code."""
        return await self._local.gcc(country, pi)

    async def run(self) -> None:
        """Follow the manager until cancelled."""
        try:
            async for answer in self._link.directory():
                self._take(answer)
        finally:
            await self._link.close()

    def _take(self, answer: Mapping[str, Any]) -> None:
        try:
            listing = self._read(answer.get("broadcasters"))
        except ConfigError as error:
            log.error("the manager's directory is not used: %s", error)
            return
        if listing == self._local.listing():
            return
        self._local = Local(listing, self._checker)
        try:
            files.write_json(self._path, {"broadcasters": listing.to_json()}, durable=True, mode=0o600)
        except OSError as error:
            log.error("the manager's directory cannot be kept in %s: %s", self._path, error)

    def _read(self, tree: Any) -> Listing:
        listing = Listing.from_json(tree, "broadcasters")
        for broadcaster in listing.broadcasters.values():
            for name, password in broadcaster.users.items():
                wrong = fault(password) if is_hash(password) else "is in clear" if self._hashed else None
                if wrong:
                    raise ConfigError(f"broadcasters.{broadcaster.id}.users.{name}", wrong)
        return listing

    def _kept(self) -> Listing | None:
        try:
            return self._read(json.loads(self._path.read_text())["broadcasters"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            log.warning("%s is not used: %s", self._path, error)
            return None
