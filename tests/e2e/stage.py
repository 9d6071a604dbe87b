"""The demo's conference on stations of its own, and looks at what happens there.

Tests ask for another inventory with `want`, which always starts from the demo's, so that no test builds on another.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from station import index, utc
from station.index import Segment
from tests.labkit import CHECKOUT, Lab, Play, until

NETWORK = f"10.96.{zlib.crc32(str(CHECKOUT).encode()) % 256}"
"""Of this checkout, so that two of them can be tested on one machine."""
HOME = "/var/lib/stationmaster"
CAM, ENC, STORAGE, SPARE = "hall-a-cam", "hall-a-enc", "storage", "spare"
CAM_B, ENC_B = "hall-b-cam", "hall-b-enc"
AGENT = "agent@station"
"""Every station of an event with a manager has it. It restarts when its neighbours change, for its order names them."""
FASTER: dict[str, Any] = {
    "ingest": {"video": {"size": "320x180", "rate": 25, "preset": "ultrafast", "bitrate": 400}},
    "encode": {
        "mp4": {"preset": "ultrafast"},
        "webm": {"speed": 8},
        "title": {"seconds": 1},
        "credits": {"seconds": 1},
        # tests run beside other work
        "admission": {"load_1": 0, "load_5": 0},
    },
}
"""Defaults of the event that spare the processors; all else is the demo's."""
WHOLE = """
import hashlib, json, os, sys
os.chdir(sys.argv[1])
for line in open("index.jsonl", "rb").read().splitlines():
    one = json.loads(line)
    try:
        data = open(one["name"], "rb").read()
    except OSError as error:
        print(one["name"], error)
        continue
    if (len(data), hashlib.sha256(data).hexdigest()) != (one["size"], one["sha256"]):
        print(one["name"], "is", len(data), "bytes and listed with", one["size"])
"""
"""Runs on a station: prints each segment that the index lists and that is not there, whole, with its checksum."""


class Stage(Lab):
    """The lab of the demo's inventory, changed only in its network and its expense."""

    def __init__(self) -> None:
        folder = CHECKOUT / ".state/labs/e2e"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CHECKOUT / "inventory", folder)
        super().__init__(folder)
        event = self.load("group_vars/all/event.yml")
        event["event_network"] = f"{NETWORK}.0/24"
        for role, options in FASTER.items():
            event["event_role_defaults"][role] = merged(event["event_role_defaults"].get(role, {}), options)
        self._event = event
        self._files = {path: self.load(path) for path in ("rooms/hall-a.yml", "rooms/hall-b.yml", "services.yml")}
        self.touched: set[str] = set()
        self.first: Play | None = None
        self.want()

    def load(self, path: str) -> Any:
        """Return a file of the inventory that has no vault values."""
        return yaml.safe_load((self.inventory / path).read_text())

    def want(
        self,
        roles: Mapping[str, Mapping[str, Any]] | None = None,
        event: Mapping[str, Any] | None = None,
        rooms: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write the demo's inventory with changes.

        `roles` maps a station to what is merged over its `station_roles` (None takes away), `rooms` a room to
        variables, `event` is merged over the event's.
        """
        write(self.inventory / "group_vars/all/event.yml", merged(self._event, event or {}))
        for path, content in self._files.items():
            changed = copy.deepcopy(content)
            groups = changed["rooms"]["children"].values() if "rooms" in changed else changed.values()
            for group in groups:
                for name, host in group["hosts"].items():
                    host["station_roles"] = merged(host["station_roles"], (roles or {}).get(name, {}))
            for name, variables in (rooms or {}).items():
                if name in (changed.get("rooms") or {}).get("children", {}):
                    room = changed["rooms"]["children"][name]
                    room["vars"] = merged(room["vars"], variables)
            write(self.inventory / path, changed)
        self.touched |= set(roles or {})
        # another port of a web server is news to all that read from it
        if rooms or event or any("web" in options for options in (roles or {}).values()):
            self.touched |= set(self.stations)

    def site(self, *arguments: str, check: bool = True, only: str | None = None, **extra: Any) -> Play:
        """Run site.yml, on all stations or those of the pattern `only`."""
        return self.playbook("site.yml", *arguments, *(["-l", only] if only else []), check=check, **extra)

    def heal(self) -> None:
        """Bring back the demo after a test that wanted something else."""
        if self.touched:
            self.want()
            self.site(only=",".join(sorted(self.touched)))
            self.touched.clear()

    def python(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python on the checkout."""
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def tool(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command `stationmaster`."""
        return self.python("-m", "stationmaster", *arguments, check=check)

    def mend(self) -> None:
        """Undo the faults that a test left: boot, plug in, free."""
        if any(not self.machine(name).running() for name in self.stations):
            self.up()
        for name in self.stations:
            self.restore(name)
            self.free(name)

    def secrets(self) -> list[str]:
        """Return the secrets of the inventory in plain text, line by line."""
        from ansible.parsing.vault import VaultLib, VaultSecret

        password = (CHECKOUT / "inventory/demo-vault-password").read_bytes().strip()
        vault = VaultLib([("demo", VaultSecret(password))])
        text = (self.inventory / "group_vars/all/secrets.yml").read_text()
        found: list[str] = []
        for block in re.findall(r"\$ANSIBLE_VAULT;\S+\s+(?:[0-9a-f]+\s+)+", text):
            plain = vault.decrypt("\n".join(block.split()).encode()).decode()
            # the first line of a key says only what kind it is, the same for all
            found += [line for line in plain.splitlines() if not line.startswith(("-----", "b3BlbnNzaC1"))]
        assert len(found) > 3
        return found

    # --- what runs

    def invocations(self, station: str) -> dict[str, str]:
        """Each running unit, as `ingest@main`, with its invocation: another one means that it was restarted."""
        text = self.out(station, "systemctl show --property=Id,InvocationID,ActiveState 'stationmaster-*@*'")
        found = {}
        for block in text.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if values.get("ActiveState") == "active":
                found[values["Id"].removeprefix("stationmaster-").removesuffix(".service")] = values["InvocationID"]
        return found

    def ffmpeg(self, station: str, unit: str) -> list[int]:
        """Return the ffmpeg processes of a unit, by the station's own numbers."""
        script = (
            f'ps -eo pid=,unit=,comm= | awk \'$2 == "stationmaster-{unit}.service" && $3 == "ffmpeg" {{print $1}}\''
        )
        return [int(line) for line in self.out(station, script).split()]

    def journals(self) -> str:
        """Return the end of the units' journal of every station that runs."""
        parts = []
        for station in self.stations:
            if self.machine(station).running():
                done = self.run(station, "journalctl -n 40 --no-pager -o short-iso -u 'stationmaster-*'", check=False)
                parts.append(f"--- {station}\n{done.stdout}{done.stderr}")
        return "\n".join(parts)

    # --- media

    def url(self, station: str, place: str) -> str:
        """Return the address of an instance's folder, `place` as `ingest/main/…`."""
        return f"http://{self.address(station)}:8080/{place}"

    def get(self, station: str, place: str) -> bytes | None:
        """Return what a station serves, None while it serves no such thing or nobody answers."""
        try:
            with urllib.request.urlopen(self.url(station, place), timeout=5) as answer:  # noqa: S310 - the lab's own address
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None

    def json(self, station: str, place: str) -> Any:
        """Return a JSON document that a station serves, None while there is none."""
        text = self.get(station, place)
        return None if text is None else json.loads(text)

    def segments(self, station: str, place: str) -> list[Segment]:
        """Return the index of a media instance, `place` as `ingest/main`."""
        return list(index.parse_lines(self.get(station, f"{place}/index.jsonl") or b""))

    def grown(self, station: str, place: str, count: int = 2, seconds: float = 60) -> list[Segment]:
        """Wait until the index has `count` more segments; return the new ones."""
        last = max((segment.seq for segment in self.segments(station, place)), default=-1)
        new: list[Segment] = []

        def enough() -> bool:
            new[:] = [segment for segment in self.segments(station, place) if segment.seq > last]
            return len(new) >= count

        assert until(enough, seconds), f"{station}: {place} did not grow by {count} segments: {new}"
        return new

    def broken(self, station: str, place: str) -> str:
        """Return what is listed and not whole, one segment a line."""
        return self.out(station, ["python3", "-c", WHOLE, f"/srv/stationmaster/{place}"])

    def same(self, source: tuple[str, str], copied: tuple[str, str], seconds: float = 60) -> list[Segment]:
        """Wait until a copy has all that its source has by now, line by line and on the disk; return the segments."""
        wanted = {segment.name: segment for segment in self.segments(*source)}
        assert wanted

        def complete() -> bool:
            have = {segment.name: segment for segment in self.segments(*copied)}
            return all(have.get(name) == segment for name, segment in wanted.items())

        assert until(complete, seconds), f"{copied} lacks {wanted.keys() - {s.name for s in self.segments(*copied)}}"
        assert not self.broken(*copied)
        return list(wanted.values())

    def state(self, station: str, place: str, state: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until an ingest's status says `state`; return the status."""
        seen: list[Any] = [None]

        def there() -> bool:
            seen[0] = self.json(station, f"{place}/status.json")
            return bool(seen[0]) and seen[0]["state"] == state

        assert until(there, seconds), f"{station}: {place} is not {state}: {seen[0]}"
        return dict(seen[0])

    # --- talks

    def talk(self, station: str, place: str, seconds: float) -> tuple[float, float]:
        """Wait for so many seconds of steady recording; return start and end in UTC, within segments."""
        found: list[float] = []

        def recorded() -> bool:
            run: list[Segment] = []
            for segment in self.segments(station, place):
                run = [*run, segment] if run and steady(run[-1], segment) else [segment]
            inside = run[-1].end - run[0].start - 1 if run else 0
            if inside >= seconds:
                end = run[-1].end - 0.5
                found[:] = [round(end - seconds, 3), round(end, 3)]
            return bool(found)

        assert until(recorded, 90), f"{station}: {place} has no {seconds} s without a break"
        return found[0], found[1]

    def job(self, station: str, talk: tuple[float, float], name: str, **more: Any) -> None:
        """Give an encoder a job, as a person does."""
        job = {"id": name, "title": f"Talk {name}", "presenters": ["Ada", "Grace"], **more}
        job |= {"start": utc.to_text(talk[0]), "end": utc.to_text(talk[1])}
        self.playbook("playbooks/encode.yml", "-l", station, instance="talks", job=job)

    def product(self, station: str, name: str, seconds: float = 100) -> dict[str, Any]:
        """Wait for a finished product; return its manifest."""
        found: list[Any] = []

        def done() -> bool:
            found[:] = [self.json(station, f"encode/talks/done/{name}/manifest.json")]
            return found[0] is not None

        if not until(done, seconds):
            left = self.out(
                station, "cd /srv/stationmaster/encode/talks; ls -R todo wip fail; cat fail/*.reason.json || :"
            )
            raise AssertionError(f"{station}: no product {name}:\n{left}")
        return dict(found[0])


class Watch:
    """A viewer: reads the live playlist all the time, from its start to its end as a context."""

    def __init__(self, stage: Stage, station: str, place: str) -> None:
        self._look = lambda: stage.get(station, f"{place}/live.m3u8")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.missed = 0
        self.playlists: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.5):
            text = self._look()
            if text is None:
                self.missed += 1
            else:
                self.playlists.append(text.decode())

    def breaks(self) -> list[str]:
        """Return the names of the segments that came after the first look and that a discontinuity precedes."""
        old = set(self.playlists[0].splitlines())
        found = []
        for text in self.playlists:
            lines = text.splitlines()
            for number, line in enumerate(lines):
                if line == "#EXT-X-DISCONTINUITY":
                    name = next(entry for entry in lines[number:] if not entry.startswith("#"))
                    if name not in old and name not in found:
                        found.append(name)
        return found


def merged(base: Any, over: Any) -> Any:
    """Return `over` merged over `base`, deeply; None takes a key away."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return copy.deepcopy(over)
    result = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def write(path: Path, content: Any) -> None:
    """Write a file of the inventory."""
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def wait_for(what: Callable[[], Any], seconds: float = 60, why: str = "") -> Any:
    """Return the first truthy result of `what`; fails after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {why or what}"
        time.sleep(0.2)


def probe(path: Path) -> dict[str, Any]:
    """Return what ffprobe finds in a file, with all frames counted."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-count_frames", "-show_streams", "-show_format", str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def strips(path: Path, width: int, height: int) -> list[bytes]:
    """Return a line of pixels through the strip at the bottom of each frame: the burnt-in clock."""
    line = f"crop={width}:2:0:{height - 6},format=gray"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-vf", line, "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True).stdout
    return [raw[at : at + width] for at in range(0, len(raw), 2 * width)]


def steady(before: Segment, after: Segment) -> bool:
    """Tell whether a segment follows another, on the clock too: a starved camera is late and catches up."""
    return not after.discontinuity and after.seq == before.seq + 1 and abs(after.start - before.end) < 0.02


def unbroken(segments: Iterable[Segment]) -> bool:
    """Tell whether each segment follows the one before by number, without a break."""
    run = list(segments)
    return all(b.seq == a.seq + 1 and not b.discontinuity for a, b in itertools.pairwise(run))
