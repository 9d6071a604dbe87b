"""Runs on a station: prints what is wrong with its units (the arguments), or with `--gone` what is left of ours."""

import hashlib
import json
import pathlib
import subprocess
import sys


def said(*command: str) -> list[str]:
    """Return the lines that a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def left() -> list[str]:
    """Return what is there of ours: units, processes, folders."""
    units = said("systemctl", "list-units", "--all", "--plain", "--no-legend", "stationmaster*")
    processes = [line for line in said("ps", "-eo", "user=,args=") if line.startswith("sm-")]
    folders = [
        path for path in ("/var/lib/stationmaster", "/usr/local/lib/systemd/system") if pathlib.Path(path).exists()
    ]
    return [*units, *processes, *folders]


def wrong(wanted: list[str]) -> list[str]:
    """Return which units do not run as rendered, and which listed segments are not whole."""
    found = []
    for unit in wanted:
        text = "\n".join(said("systemctl", "show", f"stationmaster-{unit}", "--property=ActiveState,NeedDaemonReload"))
        if sorted(text.split()) != ["ActiveState=active", "NeedDaemonReload=no"]:
            found.append(f"{unit}: {text}")
        if "# by hand" in said("systemctl", "cat", f"stationmaster-{unit}"):
            found.append(f"{unit}: was edited")
    for index in pathlib.Path("/srv/stationmaster").glob("*/*/index.jsonl"):
        for line in index.read_text().splitlines():
            one = json.loads(line)
            if hashlib.sha256((index.parent / one["name"]).read_bytes()).hexdigest() != one["sha256"]:
                found.append(f"{index.parent / one['name']}: is not what the index lists")
    return found


print("\n".join(left() if sys.argv[1:] == ["--gone"] else wrong(sys.argv[1:])), end="")
