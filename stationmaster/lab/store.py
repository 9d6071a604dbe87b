"""What is written down about a lab: whose it is and what its stations were made as.

One folder per lab below LABS, with `lab.json` and a folder per station. What
*runs* is never written down; it is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from .errors import LabError
from .plan import LabPlan, StationPlan

LABS = Path("/var/lib/stationmaster-lab")
SCHEMA = 1


@dataclass(slots=True)
class StationRecord:
    """A station as made; `image` is the name of the image that its disk lies over."""

    address: str
    mac: str
    image: str
    host_key: str


@dataclass(slots=True)
class LabRecord:
    """A lab as claimed by an inventory of a checkout."""

    network: str
    checkout: str
    inventory: str
    stations: dict[str, StationRecord] = field(default_factory=dict)

    def plan(self) -> LabPlan:
        """Return the plan of the lab as it was made."""
        stations = {
            name: StationPlan(name, IPv4Address(record.address), record.mac) for name, record in self.stations.items()
        }
        return LabPlan(IPv4Network(self.network), stations)

    def holder(self) -> tuple[str, str]:
        """Return whose lab this is: checkout and inventory."""
        return self.checkout, self.inventory

    def orphaned(self) -> bool:
        """Tell whether the inventory that the lab was made from is gone."""
        return not (Path(self.checkout).exists() and Path(self.inventory).exists())


def load(lab: str, labs: Path = LABS) -> LabRecord | None:
    """Return what is written about a lab, None if nothing is.

    Raises LabError when it cannot be read.
    """
    path = labs / lab / "lab.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        if data.pop("schema") != SCHEMA:
            raise LabError(f"{path} was written by another version: remove that lab with the version that made it")
        stations = {name: StationRecord(**values) for name, values in data.pop("stations").items()}
        return LabRecord(**data, stations=stations)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is not a lab's record: {error}") from error


def save(lab: str, record: LabRecord, labs: Path = LABS) -> None:
    """Write down a lab, in one step."""
    folder = labs / lab
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "lab.json.new"
    temporary.write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1))
    temporary.replace(folder / "lab.json")


def records(labs: Path = LABS) -> Iterator[tuple[str, LabRecord]]:
    """Yield all labs of this machine by id."""
    for folder in sorted(labs.glob("*/lab.json")):
        record = load(folder.parent.name, labs)
        if record:
            yield folder.parent.name, record
