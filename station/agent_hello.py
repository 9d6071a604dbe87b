"""The body of a hello. What cannot be found out is left out: a hello without its disk is better than none."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from station import agent_figures, agent_machine, agent_units
from station.agent_generations import Generations
from station.agent_integrity import ROOT, Integrity
from station.agent_units import cut
from station.applier import records
from station.applier.layout import Layout
from station.applier.light import read_json

log = logging.getLogger(__name__)

SLOWLY = 60.0
"""Seconds between two looks at what seldom changes: addresses, clock."""
LISTED = 100


class Observer:
    """Looks at the station.

    Args:
        layout: where things lie.
        name: the station's, in the inventory.
        metrics: folder of the metrics files.
        alive: called between steps, for the watchdog.
    """

    def __init__(self, layout: Layout, name: str, metrics: Path, alive: Callable[[], object]) -> None:
        self._layout = layout
        self._name = name
        self._metrics = metrics
        self._alive = alive
        # below a root of its own, as in tests, whoever runs it is the owner
        self._integrity = Integrity(layout, (os.geteuid(), os.getegid()) if layout.root else ROOT)
        self._generations = Generations(layout)
        self._spool = agent_units.Spool(Path(layout.home, "spool"))
        self._slow: dict[str, tuple[float, Any]] = {}
        self._complained: set[str] = set()
        self.version = Path(__file__).resolve().parents[1].name[:64]
        """The folder of the code is named by its hash."""

    def _part(self, name: str, look: Callable[[], Any], default: Any) -> Any:
        self._alive()
        try:
            value = look()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, subprocess.SubprocessError) as error:
            if name not in self._complained:
                log.warning("the hello lacks %s: %s", name, error)
            self._complained.add(name)
            return default
        self._complained.discard(name)
        return value

    def _slowly(self, name: str, look: Callable[[], Any], default: Any) -> Any:
        due, value = self._slow.get(name, (0.0, default))
        if time.monotonic() >= due:
            value = self._part(name, look, default)
            self._slow[name] = (time.monotonic() + SLOWLY, value)
        return value

    def boot_id(self) -> str:
        """Return the id of this boot; in a container the unit's view of /proc has that of the host."""
        given = "" if self._layout.root else os.environ.get("STATIONMASTER_BOOT_ID", "")
        return given or Path(self._layout.boot_id).read_text().strip()

    def macs(self) -> list[str]:
        """Return the machine's MAC addresses."""
        found: list[str] = self._part("its MAC addresses", agent_machine.macs, [])
        return found

    def body(self, boot: str, interval: float, shutdown: bool = False) -> dict[str, Any]:
        """Return what there is to say; see `api/hello.py` for what each member means."""
        layout = self._layout
        number = layout.current_number()
        manifest = records.load_manifest(layout, number) if number else None
        state = self._part("state.json", self._state, {})
        disk = self._part("its disk", lambda: agent_machine.disk(layout.data), None)
        if disk is not None:
            disk["hours_left"] = self._part(
                "the disk's hours", lambda: agent_figures.hours_left(Path(layout.data)), None
            )
        body: dict[str, Any] = {
            "station": cut(self._name, 255),
            "hostname": cut(os.uname().nodename, 255),
            "addresses": self._slowly("its addresses", agent_machine.addresses, []),
            "macs": self.macs(),
            "boot_id": boot,
            "uptime": round(time.clock_gettime(time.CLOCK_BOOTTIME), 1),
            "time": round(time.time(), 3),
            **{key: state.get(key) for key in ("applied", "wanted", "revision")},
            "generation": number,
            "generations": self._part("its generations", lambda: self._generations.look(state.get("good") or []), []),
            "integrity": None,
            "state": self._part("what is held", lambda: self._holds(state), {}),
            "blocked_roles": self._part("its block lists", self._blocked, []),
            "failures": self._part("noted failures", self._spool.newest, []),
            "disk": disk,
            "load": list(os.getloadavg()),
            "clock_offset": self._slowly("its clock", agent_machine.clock_offset, None),
            "figures": self._part("figures", lambda: agent_figures.figures(self._metrics), {}),
            "agent_version": self.version,
            "shutdown": shutdown,
            "interval": interval,
        }
        if manifest is not None:
            found = manifest
            body["integrity"] = self._part("its files", lambda: self._integrity.look(number, found), None)
            body["units"] = self._part("its units", lambda: agent_units.units(layout, found), None)
            body["roles"] = self._part("its roles", lambda: self._roles(found), {})
        return body

    def _state(self) -> dict[str, Any]:
        state = read_json(self._layout.state) or {}
        if not isinstance(state, dict):
            raise ValueError("is no object")
        return state

    def _holds(self, state: dict[str, Any]) -> dict[str, Any]:
        on_air = records.on_air(self._layout, [])
        stopped = {
            cut(unit, 255): {"who": cut(stop["who"], 255), "since": cut(stop["since"], 64), "until": stop["until"]}
            for unit, stop in list(state.get("stopped", {}).items())[:200]
            if stop["until"] is None or stop["until"] > time.time()
        }
        held = [
            {"unit": cut(entry["unit"], 255), "reason": cut(entry["reason"], 1000)}
            for entry in state.get("held", [])[:200]
        ]
        pinned, failed = state.get("pinned"), state.get("failed")
        if pinned:
            pinned = {
                "generation": pinned["generation"],
                "reason": cut(pinned.get("reason", ""), 1000),
                "who": cut(pinned.get("who", ""), 255),
                "since": cut(pinned.get("since", ""), 64),
            }
        if failed:
            failed = {
                "hash": failed.get("hash"),
                "at": cut(failed.get("at", ""), 64),
                "unit": cut(failed.get("unit", ""), 255),
                "why": cut(failed.get("why", ""), 1000),
            }
        # a record that nobody can read counts as on air; it has no end that could be told
        until = None if on_air is None else (on_air.get("until") or time.time() + 3600)
        return {"held": held, "stopped": stopped, "pinned": pinned, "failed": failed, "on_air_until": until}

    def _blocked(self) -> list[str]:
        found: dict[str, None] = {}
        for path in self._layout.blocked_roles:
            if Path(path).is_file():
                for line in Path(path).read_text(errors="replace").splitlines():
                    if role := line.partition("#")[0].strip():
                        found[cut(role, 64)] = None
        return list(found)[:LISTED]

    def _roles(self, manifest: dict[str, Any]) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for role, instances in list(manifest["roles"].items())[:LISTED]:
            found[cut(role, 64)] = {
                cut(instance, 64): self._timestamp(role, instance) for instance in instances[:LISTED]
            }
        return found

    def _timestamp(self, role: str, instance: str) -> float | None:
        config = read_json(f"{self._layout.current}/etc/{role}/{instance}/config.json") or {}
        value = config.get("options", {}).get("timestamp")
        return value if isinstance(value, int | float) else None
