"""Under which address each station registered with the manager.

The inventory says where a station should be, its registration where it is: behind another router, or with an address
that was given out anew. The last answer is kept on the disk; without the manager, or without any answer ever, the
inventory's addresses are used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from station import files
from station.manager_link import LinkError, ManagerLink, pause

log = logging.getLogger(__name__)
EVERY = 10.0
"""Seconds between two questions: a station whose address changes is at worst away for so long."""
STATIONS = "/v1/stations"


class Registrations:
    """The addresses by station, kept fresh by `run`."""

    def __init__(
        self, link: ManagerLink | None, cache: Path, changed: Callable[[], None], every: float = EVERY
    ) -> None:
        """Begin with the last answer.

        Args:
            link: the manager; None asks nobody.
            cache: file that keeps the last answer.
            changed: called when `addresses` are others.
            every: seconds between two questions.
        """
        self._link, self._cache, self._changed, self._every = link, cache, changed, every
        self.addresses: Mapping[str, str] = self._kept() if link is not None else {}

    async def run(self) -> None:
        """Ask again and again until cancelled; failures are logged when they begin."""
        link, failures, told = self._link, 0, ""
        while link is not None:
            wait = self._every
            try:
                found = addresses_of(await link.items(STATIONS))
                failures, told = 0, ""
                if found != self.addresses:
                    self._take(found)
            except LinkError as error:
                if str(error) != told:
                    log.warning("the manager's stations: %s; known addresses are used", error)
                    told = str(error)
                wait = pause(failures, error)
                failures += 1
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """End the connections to the manager."""
        if self._link is not None:
            await self._link.close()

    def _take(self, found: dict[str, str]) -> None:
        self.addresses = found
        self._changed()
        try:
            files.write_json(self._cache, {"addresses": found})
        except OSError as error:
            log.warning("the stations' addresses cannot be kept in %s: %s", self._cache, error)

    def _kept(self) -> dict[str, str]:
        try:
            kept = json.loads(self._cache.read_text())["addresses"]
            return {str(name): text for name, text in kept.items() if _is_address(text)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is not used: %s", self._cache, error)
            return {}


def addresses_of(stations: Iterable[Any]) -> dict[str, str]:
    """Return the addresses of the stations that are enrolled, from the manager's list of them."""
    found = {}
    for one in stations:
        if isinstance(one, dict) and one.get("enrolment") == "enrolled" and _is_address(one.get("address")):
            found[str(one.get("name"))] = str(one["address"])
    return found


def _is_address(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return False
    # a station that runs on the manager's own machine registers from loopback, where nobody else reaches it
    return not (found.is_loopback or found.is_unspecified)
