"""The lab's verbs as `lab_state` names them: what the playbook and the command line call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from . import faults, image, lab
from .errors import LabError
from .station import Machine
from .store import LabRecord
from .wish import Wish

FAULTS: dict[str, Callable[[Machine, LabRecord, Wish], bool]] = {
    "cut": lambda machine, record, wish: faults.cut(machine),
    "restored": lambda machine, record, wish: faults.restore(machine),
    "power_cut": lambda machine, record, wish: faults.power_cut(machine),
    "booted": lambda machine, record, wish: _boot(machine, record, wish),
    "rebooted": lambda machine, record, wish: _reboot(machine, record, wish),
    "full": lambda machine, record, wish: faults.fill(machine),
    "freed": lambda machine, record, wish: faults.free(machine),
}
STATES = ("present", "absent", "purged", *FAULTS)


def perform(state: str, wish: Wish) -> dict[str, Any]:
    """Bring the lab to `state`; return what was done, with `changed`.

    Faults need their stations named in `wish.only`. Raises LabError.
    """
    if state in FAULTS:
        return _fault(state, wish)
    if state == "present":
        return asdict(lab.present(wish))
    if state in ("absent", "purged"):
        done: dict[str, Any] = asdict(lab.absent(wish))
        if state == "purged":
            done["images"] = lab.purged(wish.say)
            done["changed"] = bool(done["changed"] or done["images"])
        return done
    raise LabError(f"lab_state {state!r} is none of {', '.join(STATES)}")


def _fault(state: str, wish: Wish) -> dict[str, Any]:
    if not wish.only:
        raise LabError(f"lab_state {state} is done to single stations: name them with -e lab_station=NAME or -l NAME")
    record = lab.find(wish.inventory, wish.checkout)
    machines = [lab.machine(record, name) for name in wish.only]
    changed = [machine.plan.name for machine in machines if FAULTS[state](machine, record, wish)]
    return {"changed": bool(changed), state: changed}


def _boot(machine: Machine, record: LabRecord, wish: Wish) -> bool:
    if machine.running():
        return False
    machine.boot(image.root_of(record.stations[machine.plan.name].image), wish.seconds)
    return True


def _reboot(machine: Machine, record: LabRecord, wish: Wish) -> bool:
    machine.shut_down()
    return _boot(machine, record, wish)
