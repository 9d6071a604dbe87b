"""The part that outlives the connection: bring the running state to a generation.

`pending.json` says what to do. It is written before anything begins and removed when
all is done, so that the next boot or the next apply takes up what a cut left.
"""

from __future__ import annotations

import time

from station.applier import durable, generation
from station.applier.effective import NOTHING
from station.applier.layout import Layout
from station.applier.light import dumps
from station.applier.lock import Lock
from station.applier.plan import Plan, live_running, names_of_interest, plan_units
from station.applier.ready import PAUSE, wait_until_ready
from station.applier.records import load_manifest, load_pending, load_state, now, on_air, save_pending, save_state
from station.applier.systemd import Status, Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TARGET = "stationmaster.target"
LOCK_WAIT = 600
"""Seconds that a converge waits for another to end: both are bounded far below that."""
HASH_WAIT = 5.0
"""Seconds to wait until a unit that systemd is starting says of which generation it is, its first step: that takes
0.1 s when all units of a station start together."""


def converge(layout: Layout, systemd: Systemd) -> dict[str, Any] | None:
    """Do what is pending; return the outcome, or None if nothing was."""
    lock = Lock(layout.converging, {"author": "the station itself", "verb": "converge"})
    lock.take(time.monotonic() + LOCK_WAIT)
    try:
        pending = load_pending(layout)
        return _Converge(layout, systemd, pending).run() if pending else None
    finally:
        lock.release()


class _Converge:
    def __init__(self, layout: Layout, systemd: Systemd, pending: dict[str, Any]) -> None:
        self.layout = layout
        self.systemd = systemd
        self.pending = pending
        self.notes: list[str] = []
        self.state = load_state(layout, self.notes)
        self.live: set[str] | None = None
        """Live units that ran before the first of them was touched."""
        self.guard = on_air(layout, self.notes) is not None and not pending["interrupt"]

    def run(self) -> dict[str, Any]:
        number, before = self.pending["generation"], self.pending["previous"]
        target = load_manifest(self.layout, number)
        if target is None:
            return self._finish(
                NOTHING, Plan(), {"unit": None, "why": f"generation {number} cannot be read", "journal": []}
            )
        if self.state["stopped"] != self.pending["stopped"]:
            self.state["stopped"] = self.pending["stopped"]
            save_state(self.layout, self.state)  # systemd looks at the marks when it starts a unit
        if self.pending["failed"] is None:
            plan, failed = self._bring(number, target)
            if failed is None:
                self.state.update(generation=number, applied=target["applied"], failed=None)
                self.state["good"] = [*[good for good in self.state["good"] if good != number], number]
                self.state["pinned"] = self.pending["pin"]
                return self._finish(target, plan, None)
            failed["hash"] = target["wanted"]
            self.pending["done"] = {"restarted": plan.restart, "started": plan.start, "stopped": plan.stop}
            self.pending["failed"] = failed
            save_pending(self.layout, self.pending)
        failed = self.pending["failed"]
        back = load_manifest(self.layout, before) if before and before != number else None
        if back is None:
            # nothing to go back to: what did become ready goes on working
            self.state["applied"] = target["applied"]
            return self._finish(target, Plan(), failed)
        plan, again = self._bring(before, back)
        if again:
            failed["also"] = again
        self.state.update(generation=before, applied=back["applied"])
        failed["went_back_to"] = before
        return self._finish(back, plan, failed)

    def _bring(self, number: int, target: dict[str, Any]) -> tuple[Plan, dict[str, Any] | None]:
        """Make a generation current and its units run; return what was done and what failed."""
        layout, systemd = self.layout, self.systemd
        have = load_manifest(layout, layout.current_number()) or NOTHING
        statuses = self._statuses(have, target)
        if self.live is None:
            self.live = live_running(have, statuses)
        started = {**layout.started_hashes(), **dict.fromkeys(self.pending["tainted"], "")}
        plan = plan_units(target, have, statuses, started, self.state, self.guard, layout)
        if plan.stop:
            systemd.tell("stop", plan.stop)
            systemd.tell("disable", [name for name in plan.stop if statuses[name].get("UnitFileState") == "enabled"])
            systemd.tell("reset-failed", plan.stop)
            for name in plan.stop:
                durable.remove(f"{layout.started}/{name}")
        swapped = layout.current_number() != number
        generation.swap(layout, number)
        if swapped or plan.reload or self.pending["reload"]:
            systemd.tell("daemon-reload")
        wake = [*plan.start, *plan.restart]
        failed = wait_until_ready(systemd, wake, self.pending["ready_timeout"], plan.starting)
        systemd.tell("start", [TARGET], wait=False)
        return plan, failed

    def _statuses(self, have: dict[str, Any], target: dict[str, Any]) -> dict[str, Status]:
        """Look at the units; at boot they start beside us, and each needs a moment to say what it was started with."""
        deadline = time.monotonic() + HASH_WAIT
        while True:
            known = self.layout.started_hashes()
            statuses = self.systemd.show(names_of_interest(self.layout, have, target))
            unclear = [name for name, status in statuses.items() if status.starting and name not in known]
            if not unclear or time.monotonic() >= deadline:
                return statuses
            time.sleep(PAUSE)

    def _finish(self, manifest: dict[str, Any], plan: Plan, failed: dict[str, Any] | None) -> dict[str, Any]:
        """Write down the outcome, then forget what was pending."""
        done = self.pending.get("done", {"restarted": [], "started": [], "stopped": []})
        held = [*manifest["held"], *(entry for entry in plan.held if entry not in manifest["held"])]
        restarted, stopped = {*done["restarted"], *plan.restart}, {*done["stopped"], *plan.stop}
        outcome = {
            "token": self.pending["token"],
            "result": "failed" if failed else "changed",
            "generation": self.layout.current_number(),
            "restarted": sorted(restarted),
            "started": sorted({*done["started"], *plan.start}),
            "stopped": sorted(stopped),
            "interrupts": sorted((self.live or set()) & (restarted | stopped)),
            "held": held,
            "failed": failed,
            "notes": self.notes,
        }
        self.state.update(wanted=self.pending["wanted"], revision=self.pending["revision"], held=held)
        if failed:
            told = {key: value for key, value in failed.items() if key != "journal"}  # everybody may read the state
            self.state["failed"] = {**told, "at": now(), "author": self.pending["author"]}
        self.state["last"] = {
            "result": outcome["result"],
            "at": now(),
            "author": self.pending["author"],
            "run": self.pending["run"],
        }
        pinned = self.state["pinned"]
        generation.prune(self.layout, {self.state["generation"], pinned["generation"] if pinned else 0})
        self.state["good"] = [number for number in self.state["good"] if number in self.layout.numbers()]
        save_state(self.layout, self.state)
        durable.replace(self.layout.outcome, dumps(outcome).encode(), 0o600)
        durable.remove(self.layout.pending)
        return outcome
