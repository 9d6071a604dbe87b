"""The verb apply: compare, stage, hand over to converge, answer."""

from __future__ import annotations

import os
import time

from station.applier import files, generation
from station.applier.differ import texts
from station.applier.effective import NOTHING, effective
from station.applier.layout import Layout, Refusal
from station.applier.light import loads, read
from station.applier.lock import StationLock
from station.applier.plan import (
    Plan,
    live_running,
    names_of_interest,
    plan_units,
    running_hashes,
    started_with_edits,
)
from station.applier.records import (
    drop_ended_stops,
    load_manifest,
    load_pending,
    load_state,
    on_air,
    provisioned,
    refuse_blocked_roles,
    save_pending,
    save_state,
)
from station.applier.systemd import Status, Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONVERGE_UNIT = "stationmaster-apply-"
"""Begins the name of the unit that converges; each has its own, for the one before may just be ending."""
CONVERGE_SLACK = 60
"""Seconds on top of twice the readiness limit (forward and back): stops and reloads."""


class Comparison:
    """What an apply would do, from one look at the station."""

    def __init__(
        self, layout: Layout, systemd: Systemd, want: dict[str, Any], state: dict[str, Any], interrupt: bool
    ) -> None:
        self.notes: list[str] = []
        self.held: list[dict[str, str]] = []
        number = layout.current_number()
        self.have = load_manifest(layout, number) or NOTHING
        if number and self.have is NOTHING:
            self.notes.append(f"generation {number} has no readable manifest and is replaced")
        guard = on_air(layout, self.notes) is not None and not interrupt
        self.damage = files.drift(layout.current, self.have) if number else {}
        self.tainted = started_with_edits(layout, self.have, self.damage)
        names = names_of_interest(layout, self.have, want)
        seen = systemd.glance(names)
        self._compare(layout, want, state, guard, seen)
        # a glance cannot tell a unit's first start from its seventh
        starting = any(status.starting for status in seen.values())
        if starting or self.changed or self.held or self.units.held or not self.units.empty:
            self._compare(layout, want, state, guard, systemd.show(names))
        self.held = [*self.held, *(entry for entry in self.units.held if entry not in self.held)]
        self.drift = [{"file": path, "what": what} for path, what in sorted(self.damage.items())] + self.units.drift

    def _compare(
        self, layout: Layout, want: dict[str, Any], state: dict[str, Any], guard: bool, statuses: dict[str, Status]
    ) -> None:
        started = {**layout.started_hashes(), **dict.fromkeys(self.tainted, "")}
        self.target, self.held = effective(want, self.have, running_hashes(statuses, started), guard)
        self.changed = files.changes(self.have, self.target, self.damage)
        self.live = live_running(self.have, statuses)
        self.units: Plan = plan_units(self.target, self.have, statuses, started, state, guard, layout)

    @property
    def new_generation(self) -> bool:
        """Whether the files, or what the manifest says of units, are not as they should be.

        Another wanted hash alone (other packages, say) is only written down.
        """
        return bool(self.changed) or self.have["units"] != self.target["units"]

    def report(self) -> dict[str, Any]:
        """Return the lists of the result; before a converge they say what would be done.

        `interrupts` are the live units among those that are restarted or stopped while they run.
        """
        removed = sorted(self.have["units"].keys() - self.target["units"].keys())
        return {
            "changed": self.changed,
            "restarted": self.units.restart,
            "started": self.units.start,
            "stopped": self.units.stop,
            "removed": removed,
            "interrupts": sorted(self.live & {*self.units.restart, *self.units.stop}),
            "held": self.held,
            "drift": self.drift,
            "failed": None,
            "applied": self.target["applied"],
        }


def apply(
    layout: Layout, systemd: Systemd, request: dict[str, Any], blobs: generation.Blobs, keep_engine: Callable[[], None]
) -> dict[str, Any]:
    """Bring the station to the manifest of the request.

    `keep_engine` puts the running engine on the station's disk, for converge.

    Refusals: `BlockedRole`, `Locked`, `FailedBefore` (an automatic apply of what failed
    here before), `ForeignUnitFolder`, `IncompleteBundle`.
    """
    want = request["manifest"]
    refuse_blocked_roles(layout, want)
    asks = {"result": "needs_provision", "wanted": want["wanted"], "provision": want["provision"]}
    if request.get("only_provision"):
        return (
            asks
            if request.get("force") or not provisioned(layout, want)
            else {"result": "unchanged", "wanted": want["wanted"]}
        )
    if request["check"]:
        return check(layout, systemd, request, blobs)
    if not provisioned(layout, want):
        return asks
    with StationLock(layout, request) as lock:
        layout.prepare()
        keep_engine()
        take_up(layout, systemd, request, lock)
        return _apply(layout, systemd, request, blobs, lock)


def _settle_state(state: dict[str, Any], want: dict[str, Any]) -> bool:
    """Let a new wanted hash clear stops and pin; return whether it is new."""
    drop_ended_stops(state)
    if state["wanted"] == want["wanted"]:
        return False
    state["stopped"], state["pinned"] = {}, None
    return True


def _choose(layout: Layout, want: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return what to bring the station to: a pinned station keeps what it has."""
    pinned = state["pinned"]
    manifest = load_manifest(layout, layout.current_number()) if pinned else None
    if not manifest:
        return want, []
    reason = f"pinned to generation {pinned['generation']} by {pinned['who']} on {pinned['since']}: {pinned['reason']}"
    return manifest, [{"unit": "*", "reason": reason}]


def _apply(
    layout: Layout, systemd: Systemd, request: dict[str, Any], blobs: generation.Blobs, lock: StationLock
) -> dict[str, Any]:
    want, notes = request["manifest"], list[str]()
    state = load_state(layout, notes)
    before = {**state}
    fresh = _settle_state(state, want)
    failed = state["failed"]
    if request.get("automatic") and failed and failed.get("hash") == want["wanted"]:
        raise Refusal(
            "FailedBefore",
            f"This bundle failed here on {failed['at']} ({failed['unit']}: {failed['why']}). A person may apply it "
            "again, or the inventory may change.",
            failed=failed,
        )
    chosen, pin = _choose(layout, want, state)
    looked = Comparison(layout, systemd, chosen, state, request["interrupt"])
    result = {**looked.report(), "wanted": want["wanted"]}
    result["held"] = [*pin, *result["held"]]
    result["notes"] = [*notes, *looked.notes]
    if request["diff"]:
        result["diff"] = texts(layout, looked.have, looked.target, looked.changed, blobs.get)
    pending = load_pending(layout)
    if looked.units.empty and not looked.new_generation and not pending and not (fresh and before["stopped"]):
        state.update(wanted=want["wanted"], revision=want["revision"], held=result["held"])
        state["applied"] = state["applied"] if pin else looked.target["applied"]
        if state != before or notes:
            save_state(layout, state)
        return {**result, "result": "held" if result["held"] else "unchanged", "generation": layout.current_number()}
    number = layout.current_number()
    absent = generation.absent(layout, looked.target, blobs) if looked.new_generation else []
    if absent:
        return {**result, "result": "needs_contents", "contents": absent}
    if looked.new_generation:
        number = generation.stage(layout, {**looked.target, "held": looked.held}, blobs)
    record = pending_record(request, state, number)
    record.update(wanted=want["wanted"], revision=want["revision"], pin=state["pinned"], reload=bool(looked.changed))
    record["tainted"] = looked.tainted
    return hand_over(layout, systemd, request, lock, record, result)


def _run_converge(layout: Layout, systemd: Systemd, unit: str, ready_timeout: float) -> bool:
    command = ["/usr/bin/python3", "-ISB", f"{layout.engine}/current", "converge", layout.root]
    return systemd.run_apart(unit, command, timeout=2 * ready_timeout + CONVERGE_SLACK)


def _token() -> str:
    return f"{os.getpid()}-{time.monotonic_ns()}"


def take_up(layout: Layout, systemd: Systemd, request: dict[str, Any], lock: StationLock) -> None:
    """Let converge finish what a cut left, before anything new is looked at."""
    if load_pending(layout) and not request["check"]:
        lock.hand_over()
        _run_converge(layout, systemd, CONVERGE_UNIT + _token(), request["ready_timeout"])
        lock.take_back()


def pending_record(request: dict[str, Any], state: dict[str, Any], number: int) -> dict[str, Any]:
    """Return what converge needs to know to bring the station to a generation."""
    return {
        "generation": number,
        "previous": state["generation"],
        "wanted": state["wanted"],
        "revision": state["revision"],
        "stopped": state["stopped"],
        "pin": None,
        "tainted": [],
        "reload": True,
        "interrupt": request["interrupt"],
        "ready_timeout": request["ready_timeout"],
        "author": request["author"],
        "run": request["run"],
        "failed": None,
        "token": _token(),
    }


def hand_over(
    layout: Layout,
    systemd: Systemd,
    request: dict[str, Any],
    lock: StationLock,
    record: dict[str, Any],
    result: dict[str, Any],
) -> dict[str, Any]:
    """Start the converge part, wait for it, and complete the result with its outcome."""
    save_pending(layout, record)
    lock.hand_over()
    unit = f"{CONVERGE_UNIT}{record['token']}.service"
    ended = _run_converge(layout, systemd, unit, request["ready_timeout"])
    try:
        outcome = loads(read(layout.outcome).decode())
    except (FileNotFoundError, ValueError):
        outcome = {}
    if not ended or outcome.pop("token", None) != record["token"]:
        why = "the converge part did not end well; the next apply or boot takes it up"
        failed = {"unit": unit, "why": why, "journal": systemd.journal(unit)}
        return {**result, "result": "failed", "failed": failed, "generation": layout.current_number()}
    outcome["notes"] = list(dict.fromkeys([*result["notes"], *outcome["notes"]]))
    outcome["held"] = [*(entry for entry in result["held"] if entry not in outcome["held"]), *outcome["held"]]
    if outcome["failed"] and "went_back_to" in outcome["failed"]:
        result["removed"] = []
    return {**result, **outcome}


def check(layout: Layout, systemd: Systemd, request: dict[str, Any], blobs: generation.Blobs) -> dict[str, Any]:
    """Return what an apply would do, with texts of differences if asked; write nothing."""
    want, notes = request["manifest"], list[str]()
    state = load_state(layout, notes)
    _settle_state(state, want)
    chosen, pin = _choose(layout, want, state)
    looked = Comparison(layout, systemd, chosen, state, request["interrupt"])
    result = {**looked.report(), "wanted": want["wanted"], "generation": layout.current_number()}
    result["held"] = [*pin, *result["held"]]
    result["notes"] = [*notes, *looked.notes]
    if request["diff"]:
        result["diff"] = texts(layout, looked.have, looked.target, looked.changed, blobs.get)
    if not provisioned(layout, want):
        result.update(needs_provision=True, provision=want["provision"])
    if looked.changed or not looked.units.empty:
        result["result"] = "changed"
    else:
        result["result"] = "held" if result["held"] else "unchanged"
    return result
