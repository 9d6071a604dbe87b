"""The rival made of pyinfra operations: the same files, units and checks of running state as the engine's."""

import json
import os
from pathlib import Path

from pyinfra import host
from pyinfra.operations import files, systemd
from pyinfra.operations.util import any_changed

station = json.loads(Path(os.environ["BENCH_PLAN"]).read_text("utf-8"))["stations"][host.name]

for folder in station["bench_folders"]:
    files.directory(name=f"Make {folder}", path=folder, user="root", group="root", mode="755")

changed = {unit: [] for unit in station["bench_units"]}
for file in station["bench_configuration"]:
    done = files.put(
        name=f"Install {file['dest']}",
        src=file["src"],
        dest=file["dest"],
        user="root",
        group="root",
        mode=file["mode"].lstrip("0"),
        create_remote_dir=False,
    )
    if file["unit"]:
        changed[file["unit"]].append(done)

unit_files = []
for file in station["bench_unit_files"]:
    done = files.put(
        name=f"Install {file['dest']}",
        src=file["src"],
        dest=file["dest"],
        user="root",
        group="root",
        mode=file["mode"].lstrip("0"),
        create_remote_dir=False,
    )
    unit_files.append(done)
    changed[file["unit"]].append(done)

systemd.daemon_reload(name="Have systemd read new units", _if=any_changed(*unit_files))
for unit in station["bench_units"]:
    systemd.service(name=f"Start {unit}", service=unit, running=True, enabled=True)
    systemd.service(name=f"Restart {unit}", service=unit, restarted=True, _if=any_changed(*changed[unit]))
