"""What a caller asks of the lab, and what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .station import BOOT_SECONDS

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Wish:
    """What the caller asks for: the inventory's hosts and the lab's settings.

    `hosts` as for `plan.plan`, `inventory` the inventory's own path; `only`
    limits what is done to some of the hosts (None: all); `disk_size` as
    truncate(1) takes it; `seconds` the time that a station has to answer;
    `say` is told what takes long.
    """

    hosts: Sequence[Mapping[str, str | None]]
    inventory: Path
    subnet: str | None = None
    only: Sequence[str] | None = None
    disk_size: str = "4G"
    extra_packages: Sequence[str] = ()
    seconds: float = BOOT_SECONDS
    checkout: Path = CHECKOUT
    say: Callable[[str], None] = print

    def holder(self) -> tuple[str, str]:
        """Return whose lab this is: checkout and inventory."""
        return str(self.checkout), str(self.inventory.resolve())


@dataclass(slots=True)
class Outcome:
    """What was done, by station names; `changed` is true if anything was."""

    changed: bool = False
    built: bool = False
    booted: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
