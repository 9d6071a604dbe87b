"""Hand-made bundles, a station in a folder, and a service manager that only writes down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from station.applier.layout import Layout
from station.applier.main import answer
from station.applier.records import load_pending
from station.applier.systemd import ABSENT, Status


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Bundle:
    """A bundle of units `stationmaster-<role>@<instance>.service`, each with a config file."""

    def __init__(self, station: str = "hall-a-cam") -> None:
        self.station = station
        self.files: dict[str, dict] = {}
        self.links: dict[str, str] = {}
        self.units: dict[str, dict] = {}
        self.roles: dict[str, list[str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.provision = "p1"
        self.add("units/stationmaster.target", b"[Unit]\nDescription=all\n")

    def add(self, path: str, data: bytes, mode: str = "0644") -> str:
        self.files[path] = {"sha256": sha(data), "mode": mode}
        self.blobs[sha(data)] = data
        return path

    def unit(self, role, instance="main", text="x", config="c", live=False, secret=None, shared=(), start=True):
        name = f"stationmaster-{role}@{instance}.service"
        reads = [self.add(f"etc/{role}/{instance}/config.json", config.encode()), *shared]
        if secret:
            reads.append(self.add(f"secrets/{role}/{instance}/secrets.json", secret.encode(), "0600"))
        body = text + "".join(self.files[path]["sha256"] for path in sorted(reads))
        self.add(f"units/{name}", f"# {name}\n[Service]\n{text}\n# hash {sha(body.encode())}\n".encode())
        self.links[f"units/stationmaster.target.wants/{name}"] = f"../{name}"
        self.units[name] = {
            "hash": sha(body.encode()),
            "live": live,
            "role": role,
            "instance": instance,
            "reads": reads,
            "start": start,
        }
        self.roles.setdefault(role, []).append(instance)
        return name

    def manifest(self) -> dict:
        content = {
            "schema": 1,
            "station": self.station,
            "files": self.files,
            "links": self.links,
            "units": self.units,
            "roles": self.roles,
            "provision": {"hash": self.provision},
        }
        wanted = sha(json.dumps(content, sort_keys=True).encode())
        return {**content, "wanted": wanted, "revision": "r1"}


class FakeSystemd:
    """Keeps units in memory; READY at once unless told otherwise; `calls` is what it was told."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.units: dict[str, dict] = {}
        self.calls: list[tuple] = []
        self.broken: set[str] = set()
        self.on_run = None

    def show(self, units):
        return {name: Status({**ABSENT, **self._status(name)}) for name in units}

    def glance(self, units):
        keys = ("LoadState", "ActiveState", "SubState")
        return {
            name: Status({**ABSENT, **{key: status[key] for key in keys}}) for name, status in self.show(units).items()
        }

    def _status(self, name):
        status = dict(self.units.get(name, {}))
        if Path(self.layout.units, name).exists() and status.get("LoadState") != "masked":
            status.setdefault("LoadState", "loaded")
        return status

    def told(self, verb):
        return [unit for one, units in self.calls if one == verb for unit in units]

    def tell(self, verb, units=(), timeout=None, wait=True):
        self.calls.append((verb, sorted(units)))
        for name in units:
            if name == "stationmaster.target":
                continue
            if verb in ("start", "restart"):
                self._start(name)
            if verb == "stop":
                self.units.pop(name, None)
        return True

    def _start(self, name):
        text = Path(self.layout.units, name).read_text()
        digest = text.rpartition("# hash ")[2].strip()
        started = Path(self.layout.started)
        started.mkdir(parents=True, exist_ok=True)
        (started / name).write_text(digest + "\n")
        if name in self.broken or "broken" in text:
            self.units[name] = {
                "ActiveState": "failed",
                "SubState": "failed",
                "Result": "exit-code",
                "ExecMainStatus": "3",
            }
        else:
            self.units[name] = {
                "ActiveState": "active",
                "SubState": "running",
                "Type": "notify",
                "ConditionResult": "yes",
            }

    def journal(self, unit):
        return [f"{unit}: it hurts"]

    def run_apart(self, unit, command, timeout):
        self.calls.append(("run", [unit]))
        if self.on_run:
            self.on_run()
        from station.applier.converge import converge

        return converge(self.layout, self) is not None


class Station:
    """A station below a temporary folder, spoken to as the connection would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(str(root))
        self.systemd = FakeSystemd(self.layout)
        Path(self.layout.home).mkdir(parents=True)
        self.stamp("p1")

    def stamp(self, digest: str) -> None:
        Path(self.layout.provision).write_text(json.dumps({"hash": digest}))

    def request(self, verb, **more):
        base = {
            "verb": verb,
            "author": "ada",
            "run": "r-1",
            "check": False,
            "diff": False,
            "interrupt": False,
            "lock_wait": 0.2,
            "ready_timeout": 1,
        }
        return {**base, **more}

    def apply(self, bundle: Bundle, **more) -> dict:
        request = self.request("apply", manifest=bundle.manifest(), **more)
        packed, index = b"", {}
        import zlib

        for digest, data in bundle.blobs.items():
            piece = zlib.compress(data)
            index[digest] = [len(packed), len(piece)]
            packed += piece
        return self.do({**request, "blobs": index}, packed)

    def verb(self, verb, **more) -> dict:
        return self.do(self.request(verb, **more), b"")

    def do(self, request, packed):
        import station.applier.main as main

        real = main.Systemd
        main.Systemd = lambda layout: self.systemd
        self.systemd.calls = []
        try:
            return answer(self.layout, request, packed, "e1", {"__main__.py": "x = 1\n"})
        finally:
            main.Systemd = real

    def reboot(self) -> None:
        import shutil

        shutil.rmtree(self.layout.started, ignore_errors=True)
        self.systemd.units = {}

    @property
    def current(self) -> Path:
        return Path(self.layout.current)

    @property
    def state(self) -> dict:
        return json.loads(Path(self.layout.state).read_text())

    @property
    def pending(self):
        return load_pending(self.layout)

    def tree(self) -> dict[str, bytes]:
        """All files below the current generation except its manifest."""
        return {
            str(path.relative_to(self.current)): path.read_bytes()
            for path in sorted(self.current.rglob("*"))
            if path.is_file() and not path.is_symlink() and path.name != "bundle.json"
        }
