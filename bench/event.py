"""The conference that is measured: one room of idle stations, and the same files for the rivals."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from stationmaster import bundle, catalogue, inventory, resolve
from stationmaster.model import Event

NETWORK = "10.89.0.0/24"
"""The bench's own; two labs on this machine cannot have the same."""
ROOM_SIZE = 100
ROLES = Path(__file__).resolve().parent / "roles"
UNIT_FOLDER = "/etc/systemd/system"
INSTALL = "\n[Install]\nWantedBy=multi-user.target\n"


def write(folder: Path, stations: int, units: int, note: str, network: str = NETWORK) -> None:
    """Write the inventory.

    Args:
        folder: where; what is there is replaced.
        stations: how many, all in one room.
        units: instances per station.
        note: option of the first instance of every station; another note changes one unit everywhere.
        network: the stations' /24 network.
    """
    shutil.rmtree(folder, ignore_errors=True)
    hosts = {
        f"bench-{number:02d}": {
            "station_mac": f"02:00:00:61:00:{number:02x}",
            "station_roles": {
                "idle": {f"u{unit}": {"note": note} if unit == 1 else {} for unit in range(1, units + 1)}
            },
        }
        for number in range(1, stations + 1)
    }
    room = {"vars": {"room_title": "Bench", "room_number": 1}, "hosts": hosts}
    _write(folder / "rooms" / "bench.yml", {"stations": {"children": {"rooms": {"children": {"bench_room": room}}}}})
    event = {"event_name": "bench", "event_title": "Bench", "event_network": network, "event_room_size": ROOM_SIZE}
    _write(folder / "group_vars" / "all" / "event.yml", event)


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")


def write_rivals(source: Path, folder: Path, connection: dict[str, str]) -> None:
    """Write what the rivals install: the files of the engine's own bundles, under names of their own.

    Every `stationmaster` in paths and texts becomes `bench`, so that the rivals' units run beside the engine's
    and neither sees the other's as drift. The files are handed over finished: the rivals have nothing to render.

    Args:
        source: the inventory.
        folder: gets `files/<station>/…`, an inventory `hosts.yml` with `host_vars`, and `plan.json` for pyinfra.
        connection: pyinfra's connection data, the same key and known hosts as Ansible's.
    """
    shutil.rmtree(folder, ignore_errors=True)
    roles = catalogue.load((catalogue.ROLES_FOLDER, ROLES))
    event = inventory.load(source, roles=roles)
    resolve.add_implied(event, roles)
    rows = {name: _station(event, name, roles, folder / "files" / name) for name in event.stations}
    plan = {"connection": connection, "stations": rows}
    (folder / "plan.json").write_text(json.dumps(plan, indent=1), "utf-8")
    hosts = {name: {"ansible_host": row["address"]} for name, row in rows.items()}
    _write(folder / "hosts.yml", {"all": {"hosts": hosts}})
    for name, row in rows.items():
        variables = {key: value for key, value in row.items() if key.startswith("bench_")}
        _write(folder / "host_vars" / f"{name}.yml", variables)


def _station(event: Event, name: str, roles: catalogue.Catalogue, folder: Path) -> dict[str, Any]:
    made = bundle.render(event, name, roles, "bench")
    configuration, unit_files, folders = [], [], {"/var/lib/bench/current/libexec"}
    for path, entry in made.manifest["files"].items():
        unit = Path(path).name
        if path.startswith("units/") and unit not in made.manifest["units"]:
            continue  # the engine's own units; no rival needs them
        text = made.blobs[entry["sha256"]].decode().replace("stationmaster", "bench")
        source = folder / path.replace("stationmaster", "bench")
        source.parent.mkdir(parents=True, exist_ok=True)
        row = {"src": str(source), "mode": entry["mode"]}
        if path.startswith("units/"):
            text += INSTALL
            own = unit.replace("stationmaster", "bench")
            unit_files.append({**row, "dest": f"{UNIT_FOLDER}/{own}", "unit": own})
        else:
            dest = f"/var/lib/bench/current/{path}"
            folders.add(os.path.dirname(dest))  # noqa: PTH120 - a path on the station, not here
            reader = [key for key, value in made.manifest["units"].items() if path in value["reads"]]
            own = reader[0].replace("stationmaster", "bench") if len(reader) == 1 else ""
            configuration.append({**row, "dest": dest, "unit": own})
        source.write_text(text, "utf-8")
    return {
        "address": event.stations[name].address,
        "bench_folders": sorted(folders),
        "bench_configuration": configuration,
        "bench_unit_files": unit_files,
        "bench_units": [row["unit"] for row in unit_files],
    }
