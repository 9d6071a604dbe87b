"""The verbs besides apply: start, stop, restart, rollback, remove, status, on-air."""

from __future__ import annotations

import os
import time

from station.applier import durable, files, generation
from station.applier.apply import Comparison, hand_over, pending_record, take_up
from station.applier.differ import texts
from station.applier.effective import NOTHING
from station.applier.layout import Layout, Refusal
from station.applier.lock import StationLock, holder
from station.applier.plan import live_running, names_of_interest
from station.applier.ready import wait_until_ready
from station.applier.records import load_manifest, load_pending, load_state, now, on_air, save_state, write_on_air
from station.applier.systemd import Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Request = dict[str, Any]
    Result = dict[str, Any]


def _nothing(layout: Layout) -> Result:
    return {
        "result": "unchanged",
        "changed": [],
        "restarted": [],
        "started": [],
        "stopped": [],
        "removed": [],
        "interrupts": [],
        "held": [],
        "drift": [],
        "failed": None,
        "notes": [],
        "generation": layout.current_number(),
    }


def _manifest(layout: Layout) -> dict[str, Any]:
    return load_manifest(layout, layout.current_number()) or NOTHING


def _targets(manifest: dict[str, Any], request: Request) -> list[str]:
    """Return the units that `unit=` or `role=` names, or all; Refusal `NoSuchUnit` if none."""
    units = manifest["units"]
    unit, role, instance = request.get("unit"), request.get("role"), request.get("instance")
    found = [
        name
        for name, entry in sorted(units.items())
        if (not unit or name.removesuffix(".service") == unit.removesuffix(".service"))
        and (not role or entry["role"] == role)
        and (not instance or entry["instance"] == instance)
    ]
    if not found and (unit or role or instance):
        known = ", ".join(sorted(units)) or "none"
        raise Refusal("NoSuchUnit", f"No unit of this station fits {unit or role or instance}. It has: {known}.")
    return found


def _refuse_on_air(layout: Layout, running_live: list[str], request: Request, notes: list[str]) -> None:
    if running_live and on_air(layout, notes) and not request["interrupt"]:
        raise Refusal(
            "OnAir",
            f"The station is on air and this would interrupt {', '.join(running_live)}. Wait, take it off air "
            "(playbooks/on-air.yml -e minutes=0), or say so with -e interrupt=true.",
            units=running_live,
        )


def stop(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Stop units and keep them stopped, also over a boot, until `start` or a new wanted hash."""
    result = _nothing(layout)
    with StationLock(layout, request) as lock:
        take_up(layout, systemd, request, lock)
        manifest, state = _manifest(layout), load_state(layout, result["notes"])
        names = _targets(manifest, request)
        statuses = systemd.show(names)
        running = [name for name in names if statuses[name].running or statuses[name].looping]
        _refuse_on_air(layout, [name for name in running if manifest["units"][name]["live"]], request, result["notes"])
        fresh = [name for name in names if name not in state["stopped"]]
        if not fresh and not running:
            return result
        result.update(result="changed", stopped=running, interrupts=sorted(live_running(manifest, statuses)))
        if request["check"]:
            return result
        minutes = float(request.get("minutes") or 0)
        until = time.time() + minutes * 60 if minutes else None
        entry = {"who": request["author"], "since": now(), "until": until}
        state["stopped"] = {**state["stopped"], **dict.fromkeys(fresh, entry)}
        save_state(layout, state)
        systemd.tell("stop", running)
        return result


def start(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Start units and let go of their stops; without a target also of a pin."""
    result = _nothing(layout)
    with StationLock(layout, request) as lock:
        take_up(layout, systemd, request, lock)
        manifest, state = _manifest(layout), load_state(layout, result["notes"])
        names = _targets(manifest, request)
        whole = len(names) == len(manifest["units"])
        statuses = systemd.show(names)
        asleep = [name for name in names if not statuses[name].running and not statuses[name].masked]
        result["held"] = [{"unit": name, "reason": "masked on the station"} for name in names if statuses[name].masked]
        freed = [name for name in names if name in state["stopped"]]
        unpin = whole and state["pinned"] is not None
        if not (asleep or freed or unpin):
            return result
        result.update(result="changed", started=asleep)
        if unpin:
            result["notes"].append("no longer pinned: the next apply brings what the inventory wants")
        if request["check"]:
            return result
        state["stopped"] = {name: entry for name, entry in state["stopped"].items() if name not in names}
        state["pinned"] = None if unpin else state["pinned"]
        save_state(layout, state)
        return _wake(systemd, asleep, request, result)


def _wake(systemd: Systemd, names: list[str], request: Request, result: Result) -> Result:
    failed = wait_until_ready(systemd, names, request["ready_timeout"]) if names else None
    if failed:
        result.update(result="failed", failed=failed)
    return result


def restart(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Restart running units; stopped and masked ones stay as they are."""
    result = _nothing(layout)
    with StationLock(layout, request) as lock:
        take_up(layout, systemd, request, lock)
        manifest, state = _manifest(layout), load_state(layout, result["notes"])
        names = _targets(manifest, request)
        statuses = systemd.show(names)
        awake = [name for name in names if not statuses[name].masked and name not in state["stopped"]]
        live = sorted(live_running(manifest, statuses) & {*awake})
        _refuse_on_air(layout, live, request, result["notes"])
        result["held"] = [{"unit": name, "reason": "stopped or masked"} for name in names if name not in awake]
        if not awake:
            return result
        result.update(result="changed", restarted=awake, interrupts=live)
        return result if request["check"] else _wake(systemd, awake, request, result)


def rollback(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Go back to an earlier generation and stay there (pinned).

    Without `generation` it is the newest before the current one that ever became ready.
    """
    with StationLock(layout, request) as lock:
        take_up(layout, systemd, request, lock)
        notes: list[str] = []
        state = load_state(layout, notes)
        current = layout.current_number()
        number = int(request.get("generation") or max((good for good in state["good"] if good < current), default=0))
        want = load_manifest(layout, number) if number in layout.numbers() else None
        if want is None:
            there = ", ".join(str(one) for one in layout.numbers() if one != current) or "none"
            raise Refusal(
                "NoSuchGeneration", f"There is no earlier generation {number or ''} to go back to. There are: {there}."
            )
        damage = {path: what for path, what in files.drift(layout.generation(number), want).items() if what != "extra"}
        if damage:
            raise Refusal(
                "DamagedGeneration", f"Generation {number} was changed on the disk: {', '.join(sorted(damage))}."
            )
        looked = Comparison(layout, systemd, want, state, request["interrupt"])
        result = {**_nothing(layout), **looked.report(), "result": "changed", "wanted": state["wanted"]}
        result["notes"] = [*notes, *looked.notes]
        if request["diff"]:
            contents = generation.Donors(layout).get
            result["diff"] = texts(layout, looked.have, looked.target, looked.changed, contents)
        if request["check"]:
            return result
        goal = number
        if looked.target["applied"] != want["applied"]:
            goal = generation.stage(layout, looked.target, generation.Blobs({}, b""))
        record = pending_record(request, state, goal)
        record["pin"] = {
            "generation": goal,
            "reason": request.get("reason") or f"rolled back from generation {current}",
            "who": request["author"],
            "since": now(),
        }
        return hand_over(layout, systemd, request, lock, record, result)


def set_on_air(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Put the station on air for `minutes` from now, or off with 0."""
    del systemd
    result = _nothing(layout)
    with StationLock(layout, request):
        minutes = float(request["minutes"])
        if minutes > 0 or os.path.lexists(layout.on_air):
            result["result"] = "changed"
            if not request["check"]:
                write_on_air(layout, minutes, request["author"])
        record = on_air(layout, result["notes"])
        result["on_air"] = record
        result["notes"].append(f"on air until {_clock(record['until'])}" if record else "off air")
    return result


def _clock(epoch: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(epoch)) if epoch else "someone looks after it"


def remove(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Take everything of ours off the station; media in /srv stays unless `purge`."""
    result = _nothing(layout)
    if request.get("purge") and os.path.isdir(layout.data):
        result["result"] = "changed"
        if not request["check"] and not os.path.isdir(layout.home):
            durable.remove_tree(layout.data)
    if not os.path.isdir(layout.home):
        return result
    with StationLock(layout, request):
        manifest = _manifest(layout)
        statuses = systemd.show(names_of_interest(layout, manifest))
        running = [name for name, status in sorted(statuses.items()) if status.running or status.looping]
        live = [name for name in running if manifest["units"].get(name, {}).get("live")]
        _refuse_on_air(layout, live, request, result["notes"])
        result.update(result="changed", stopped=running, removed=sorted(manifest["units"]))
        result["interrupts"] = sorted(live_running(manifest, statuses))
        if request["check"]:
            return result
        systemd.tell("stop", ["stationmaster.target", *running])
        systemd.tell("disable", [name for name in statuses if statuses[name].get("UnitFileState") == "enabled"])
        systemd.tell("reset-failed", sorted(statuses))
        if os.path.islink(layout.units):
            durable.remove(layout.units)
        durable.remove(layout.current)
        systemd.tell("daemon-reload")
        doomed = [layout.started, layout.data] if request.get("purge") else [layout.started]
        for path in (*doomed, *(f"{layout.home}/{name}" for name in os.listdir(layout.home) if name != "lock")):
            durable.remove_tree(path)
        durable.remove(layout.lock)
        return result


def status(layout: Layout, systemd: Systemd, request: Request) -> Result:
    """Return what the station has and does; it takes no lock and changes nothing."""
    del request
    result = _nothing(layout)
    manifest, state = _manifest(layout), load_state(layout, result["notes"])
    started = layout.started_hashes()
    statuses = systemd.show(names_of_interest(layout, manifest))
    units = {}
    for name, found in sorted(statuses.items()):
        wanted = manifest["units"].get(name)
        units[name] = {
            "state": found["ActiveState"],
            "sub": found["SubState"],
            "text": found.get("StatusText", ""),
            "restarts": int(found.get("NRestarts") or 0),
            "live": bool(wanted and wanted["live"]),
            "masked": found.masked,
            "as_wanted": bool(wanted and started.get(name) == wanted["hash"] and (found.running or found.done)),
        }
    damage = files.drift(layout.current, manifest) if layout.current_number() else {}
    result.update(
        state=state,
        units=units,
        files_intact=not damage,
        drift=[{"file": path, "what": what} for path, what in sorted(damage.items())],
        on_air=on_air(layout, result["notes"]),
        pending=load_pending(layout) is not None,
        lock=holder(layout.lock) or holder(layout.converging),
    )
    return result
