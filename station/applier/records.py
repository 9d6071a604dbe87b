"""What the station remembers: state, on air, block lists, stamp, pending work."""

from __future__ import annotations

import os
import time

from station.applier import durable
from station.applier.layout import Layout, Refusal
from station.applier.light import dumps, read, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EMPTY_STATE: dict[str, Any] = {
    "schema": 1,
    "generation": 0,
    "good": [],
    "wanted": None,
    "applied": None,
    "revision": None,
    "held": [],
    "stopped": {},
    "pinned": None,
    "failed": None,
    "last": None,
}
"""`generation` is the last that became ready and `good` all that ever did; `wanted` and
`applied` are bundle hashes; the rest is as DESIGN section 6 says."""


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def load_manifest(layout: Layout, number: int) -> dict[str, Any] | None:
    """Return the manifest of a generation, or None if there is none that can be read."""
    try:
        manifest = read_json(f"{layout.generation(number)}/bundle.json")
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def load_state(layout: Layout, notes: list[str]) -> dict[str, Any]:
    """Return the state; one that is missing or damaged is rebuilt from the generations.

    What is lost with a damaged file (stops, a pin) is said in `notes`; the file itself is
    moved aside by the next `save_state`.
    """
    try:
        state = read_json(layout.state)
        if state is not None and not (isinstance(state, dict) and EMPTY_STATE.keys() <= state.keys()):
            raise ValueError("keys are missing")
    except ValueError as fault:
        notes.append(f"{layout.state} was damaged ({fault}) and is rebuilt; stops and a pin are lost")
        state = None
    if state is not None:
        return {**state}
    state = {**EMPTY_STATE, "good": [], "held": [], "stopped": {}}
    number = layout.current_number()
    manifest = load_manifest(layout, number) if number else None
    if manifest:
        state.update(
            generation=number,
            good=[number],
            wanted=manifest["wanted"],
            applied=manifest["applied"],
            held=manifest["held"],
        )
    return state


def save_state(layout: Layout, state: dict[str, Any]) -> None:
    """Write the state durably, and the marks that keep stopped units stopped after a boot."""
    try:
        read_json(layout.state)
    except ValueError:
        os.rename(layout.state, f"{layout.state}.damaged-{int(time.time())}")
    marks = set(os.listdir(layout.stopped)) if os.path.isdir(layout.stopped) else set()
    for name in marks - state["stopped"].keys():
        durable.remove(f"{layout.stopped}/{name}")
    for name in state["stopped"].keys() - marks:
        durable.replace(f"{layout.stopped}/{name}", b"")
    durable.replace(layout.state, (dumps(state) + "\n").encode())


def drop_ended_stops(state: dict[str, Any]) -> None:
    """Forget the stops whose time is up; one without an end stays."""
    state["stopped"] = {
        unit: stop for unit, stop in state["stopped"].items() if stop["until"] is None or stop["until"] > time.time()
    }


def _boot_id(layout: Layout) -> str:
    try:
        return read(layout.boot_id).decode().strip()
    except OSError:
        return ""


def on_air(layout: Layout, notes: list[str]) -> dict[str, Any] | None:
    """Return the on-air record while it holds, else None.

    Within the boot that wrote it the clock that never jumps decides, after a boot the wall
    clock. A record that cannot be read counts as on air, because an interruption cannot be
    taken back; `notes` then says so.
    """
    try:
        record = read_json(layout.on_air)
        if record is None:
            return None
        if record.get("boot_id") == _boot_id(layout) and "until_uptime" in record:
            return record if time.clock_gettime(time.CLOCK_BOOTTIME) < float(record["until_uptime"]) else None
        return record if time.time() < float(record["until"]) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        notes.append(f"{layout.on_air} cannot be read and counts as on air; set it anew with the on-air playbook")
        return {"until": None, "by": None}


def write_on_air(layout: Layout, minutes: float, author: str) -> None:
    """Put the station on air for `minutes`; 0 takes it off."""
    if minutes <= 0:
        durable.remove(layout.on_air)
        return
    record = {
        "until": time.time() + minutes * 60,
        "until_uptime": time.clock_gettime(time.CLOCK_BOOTTIME) + minutes * 60,
        "boot_id": _boot_id(layout),
        "by": author,
        "since": now(),
    }
    durable.replace(layout.on_air, (dumps(record) + "\n").encode())


def refuse_blocked_roles(layout: Layout, manifest: dict[str, Any]) -> None:
    """Refuse with `BlockedRole` if the station's own block lists name a role of the bundle."""
    for path in layout.blocked_roles:
        try:
            lines = read(path).decode(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        for number, line in enumerate(lines, 1):
            role = line.partition("#")[0].strip()
            if role and role in manifest["roles"]:
                raise Refusal(
                    "BlockedRole",
                    f"{path}:{number} on the station blocks the role {role}, which the inventory gives it. Take the "
                    "role from the station's station_roles, or ask the station's owner to take it off that list.",
                    station=manifest["station"],
                    role=role,
                    instance=", ".join(manifest["roles"][role]),
                    file=path,
                    line=number,
                    value=role,
                )


def provisioned(layout: Layout, manifest: dict[str, Any]) -> bool:
    """Return whether the station was provisioned for what this bundle needs."""
    try:
        stamp = read_json(layout.provision)
    except ValueError:
        return False
    return isinstance(stamp, dict) and stamp.get("hash") == manifest["provision"]["hash"]


def load_pending(layout: Layout) -> dict[str, Any] | None:
    """Return the work that a converge has begun or should begin, or None."""
    try:
        pending = read_json(layout.pending)
    except ValueError:
        return None  # never written in part; a hand made it, and the next apply sees what is left to do
    return pending if isinstance(pending, dict) else None


def save_pending(layout: Layout, pending: dict[str, Any]) -> None:
    """Write down what is to be done, before it is begun."""
    durable.replace(layout.pending, dumps(pending).encode(), 0o600)
