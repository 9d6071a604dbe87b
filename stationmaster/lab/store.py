"""What is written down about a lab: whose it is and what its stations were made as.

One folder per lab below LABS, with `lab.json` and a folder per station. What
*runs* is never written down; it is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from .errors import LabError
from .plan import LabPlan, StationPlan

LABS = Path("/var/lib/stationmaster-lab")
SCHEMA = 1
UNKNOWN = "(unknown)"


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
        if data["schema"] != SCHEMA:
            raise LabError(f"{path} was written by another version: remove that lab with the version that made it")
        stations = {name: StationRecord(**_known(StationRecord, row)) for name, row in data.pop("stations").items()}
        return LabRecord(**_known(LabRecord, data), stations=stations)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is not a lab's record: {error}") from error


def _known(kind: type, row: dict[str, Any]) -> dict[str, Any]:
    """Return what this version knows of a row: another checkout's may know more."""
    names = {each.name for each in fields(kind)}
    return {key: value for key, value in row.items() if key in names}


def save(lab: str, record: LabRecord, labs: Path = LABS) -> None:
    """Write down a lab, in one step."""
    folder = labs / lab
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "lab.json.new"
    temporary.write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1))
    temporary.replace(folder / "lab.json")


def records(labs: Path = LABS) -> Iterator[tuple[str, LabRecord]]:
    """Yield all labs of this machine by id; of one that another version wrote, only that it is there."""
    for path in sorted(labs.glob("*/lab.json")):
        lab = path.parent.name
        try:
            record = load(lab, labs)
        except LabError:
            record = LabRecord(lab.replace("-", "/"), UNKNOWN, UNKNOWN)
        if record:
            yield lab, record


def use_image(lab: str, name: str, labs: Path = LABS) -> None:
    """Write down, before its stations are made, that a lab uses an image."""
    (labs / lab / "image").write_text(name)


def images(labs: Path = LABS) -> set[str]:
    """Return the names of all images that labs use."""
    stations = {station.image for _, record in records(labs) for station in record.stations.values()}
    return stations | {path.read_text() for path in labs.glob("*/image")}
