"""Starting units and waiting until they are ready, within a bound."""

from __future__ import annotations

import time

from station.applier.systemd import Status, Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SETTLE = 1.0
"""Seconds that a unit which cannot say READY has to stay up."""
FORGIVEN = 1
"""Failed starts that are forgiven: a port may still be held by the process before."""
PAUSE = 0.25
"""Seconds between two looks at units that are not ready yet."""


def _verdict(status: Status) -> str | None:
    """Return "" for ready, a reason for failed, None for not yet."""
    restarts = int(status.get("NRestarts") or 0)
    if status["ActiveState"] in ("active", "reloading") or status.done:
        if status.get("ConditionResult") == "no":
            return "a condition of the unit does not hold, systemd skipped it"
        if restarts >= FORGIVEN + 1:
            return f"fails again and again: {restarts} times since it was started"
        return ""
    if status["ActiveState"] == "failed":
        return f"failed: {status['Result']}, status {status.get('ExecMainStatus', '?')}"
    if status.looping and restarts >= FORGIVEN:
        return f"fails again and again: {status['Result']}, status {status.get('ExecMainStatus', '?')}"
    if status["LoadState"] not in ("loaded", "masked"):
        return f"systemd cannot load it: {status['LoadState']}"
    if status["ActiveState"] == "inactive":
        if status.get("ConditionResult") == "no":
            return "a condition of the unit does not hold, systemd skipped it"
        return f"ended at once: {status['Result']}, status {status.get('ExecMainStatus', '?')}"
    return None


def wait_until_ready(
    systemd: Systemd, units: Iterable[str], timeout: float, starting: Iterable[str] = ()
) -> dict[str, Any] | None:
    """(Re)start `units`, wait for them and for those that are `starting`.

    Return the first that failed with reason and journal, or None. `timeout` is in seconds
    and for all together.
    """
    wake = sorted(units)
    waiting = sorted({*wake, *starting})
    if not waiting:
        return None
    deadline = time.monotonic() + timeout
    if wake:
        systemd.tell("reset-failed", wake)  # or systemd goes on counting the failures before
        systemd.tell("restart", wake, timeout=timeout)
    settled = None
    while True:
        statuses = systemd.show(waiting)
        verdicts = {name: _verdict(status) for name, status in statuses.items()}
        for name in waiting:
            if verdicts[name]:
                return {"unit": name, "why": verdicts[name], "journal": systemd.journal(name)}
        late = [name for name in waiting if verdicts[name] is None]
        if not late:
            unsure = any(statuses[name].get("Type") in ("simple", "exec") for name in waiting)
            if settled is not None or not unsure:
                return None
            settled = time.monotonic()
            time.sleep(SETTLE)
            continue
        settled = None
        if time.monotonic() >= deadline:
            status = statuses[late[0]]
            why = f"not ready after {timeout:.0f} s ({status['ActiveState']}/{status['SubState']})"
            return {"unit": late[0], "why": why, "journal": systemd.journal(late[0])}
        time.sleep(PAUSE)
