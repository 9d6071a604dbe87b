"""A whole lab: bring it up, keep it as the inventory wants it, take it down without a trace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from ipaddress import IPv4Network
from pathlib import Path

from . import cgroups, faults, files, image, keys, network, store
from .errors import LabError
from .plan import LabPlan, StationPlan, lab_id, plan
from .station import Machine, tidy
from .store import LABS, LabRecord, StationRecord
from .system import locked
from .wish import CHECKOUT, Outcome, Wish

LOCK_SECONDS = 120
AT_ONCE = 8
"""More boots at once only make each of them slower: booting is bound by processors."""
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 8192
"""The kernel's 128 per user are used up by about 20 stations; this lasts for several hundred."""


def present(wish: Wish) -> Outcome:
    """Bring the lab to what the inventory wants: all its hosts running and reachable, no others.

    What runs already is left alone, a station that crashed boots on its old
    disk, cut links are plugged in and full disks freed; a station whose
    address, MAC address or image changed is made anew. A lab that the same
    inventory had on another network goes.

    Raises LabError.
    """
    made = plan(wish.hosts, wish.subnet)
    _check_root()
    packages = [*image.role_packages(wish.checkout / "roles"), *wish.extra_packages]
    name, built = image.ensure(packages, wish.say)
    authorized = keys.controller_key(wish.checkout)
    moved = [lab for lab in _labs_of(wish) if lab != made.id]
    outcome = Outcome(built=built, removed=[host for lab in moved for host in remove(lab).removed])
    with _locked(made.id):
        record = _claim(made, wish)
        store.use_image(made.id, name)
        if image.ensure(packages, wish.say)[1]:
            wish.say("somebody had removed the image meanwhile")
        _raise_inotify()
        bridged = network.make_bridge(made)
        wanted = {host: made.stations[host] for host in made.stations if wish.only is None or host in wish.only}
        for host in _unwanted(made, record, name, wish.only):
            _machine(record.plan(), host).remove()
            del record.stations[host]
            outcome.removed.append(host)
        store.save(made.id, record)
        for host, station in wanted.items():
            if host not in record.stations:
                key = Machine.of(made, station, LABS).make(
                    wish.disk_size, files.hosts(made), files.authorized_keys(authorized)
                )
                record.stations[host] = StationRecord(str(station.address), station.mac, name, key)
                store.save(made.id, record)
        _know(record)
        outcome.booted = [host for host in wanted if not _machine(made, host).running()]
        _all(outcome.booted, lambda host: _machine(made, host).boot(image.root_of(name), wish.seconds))
        kept = [host for host in wanted if host not in outcome.booted]
        outcome.repaired = [host for host in kept if _repair(_machine(made, host))]
        _all(list(record.stations), lambda host: files.bring(_machine(made, host), made, authorized))
    outcome.changed = bool(built or bridged or outcome.booted or outcome.removed or outcome.repaired)
    return outcome


def absent(wish: Wish) -> Outcome:
    """Take the lab of this inventory, or the stations in `only`, away without a trace; the image stays.

    A lab of another inventory on the same network is left alone.
    """
    _check_root()
    outcome = Outcome()
    for lab in _labs_of(wish) or _nameless(wish):
        done = remove(lab, wish.only)
        if wish.only is None:
            keys.know(wish.checkout, lab, {})
        outcome.removed += done.removed
        outcome.changed |= done.changed
    return outcome


def remove(lab: str, only: Iterable[str] | None = None) -> Outcome:
    """Take a lab away, whatever is left of it and whoever made it; nothing to do is fine.

    `lab` is its id as `python -m stationmaster.lab list` prints it; with
    `only` just these stations go, and the lab with its last one.
    """
    bare = LabPlan(_parsed(lab), {})
    folder = LABS / lab
    if not (folder.exists() or network.exists(bare.bridge) or cgroups.stations_of(lab)):
        return Outcome()
    with _locked(lab):
        record = store.load(lab)
        found = {path.name for path in (folder / "stations").glob("*")} | cgroups.stations_of(lab)
        found |= set(record.stations if record else ())
        removed = sorted(found if only is None else found & set(only))
        made = record.plan() if record else bare
        _all(removed, lambda host: _remnant(made, host).remove())
        if record:
            record.stations = {host: kept for host, kept in record.stations.items() if host not in removed}
            _know(record)
        whole = not found - set(removed)
        if whole:
            network.remove_bridge(made)
            shutil.rmtree(folder)
        elif record:
            store.save(lab, record)
    tidy(bare.network, LABS)
    return Outcome(changed=bool(removed) or whole, removed=removed)


def remove_all(checkout: Path) -> list[str]:
    """Take away the labs that a checkout made; return their ids. Their keys are its own, nobody else can use them."""
    made = [name for name, record in store.records() if record.checkout == str(checkout)]
    for name in made:
        remove(name)
    return made


def purged(say: Callable[[str], None] = print) -> list[str]:
    """Remove the cached images that no lab uses; return their names."""
    _check_root()
    used = store.images()
    if used:
        say(f"kept, in use: {', '.join(sorted(used))}")
    return image.purge(used)


def find(inventory: Path, checkout: Path = CHECKOUT) -> LabRecord:
    """Return the lab that was made from this inventory.

    Raises LabError when there is none.
    """
    for _, record in store.records():
        if record.holder() == (str(checkout), str(inventory.resolve())):
            return record
    raise LabError(f"{inventory} has no lab: ansible-playbook playbooks/lab.yml -i {inventory} -e lab_state=present")


def machine(record: LabRecord, station: str) -> Machine:
    """Return a station of a lab by name.

    Raises LabError when the lab has none of that name.
    """
    if station not in record.stations:
        raise LabError(f"the lab on {record.network} has no station {station!r}: {', '.join(record.stations)}")
    return _machine(record.plan(), station)


def _machine(made: LabPlan, host: str) -> Machine:
    return Machine.of(made, made.stations[host], LABS)


def _remnant(made: LabPlan, host: str) -> Machine:
    """Return a station of which perhaps only the name is known; its link goes with the bridge."""
    return Machine.of(made, made.stations.get(host) or StationPlan(host, made.network.network_address, ""), LABS)


def _check_root() -> None:
    if os.geteuid():
        raise LabError("the lab boots machines and therefore runs as root: sudo, or a root shell")


def _locked(lab: str) -> AbstractContextManager[int]:
    return locked(LABS / lab, LOCK_SECONDS, f"another run works on the lab {lab} for more than {LOCK_SECONDS} s")


def _labs_of(wish: Wish) -> list[str]:
    return [lab for lab, record in store.records() if record.holder() == wish.holder()]


def _nameless(wish: Wish) -> list[str]:
    """Return the lab on the inventory's network if its record is lost or somebody else's, telling the latter."""
    try:
        lab = plan(wish.hosts, wish.subnet).id
    except LabError:
        return []
    if record := store.load(lab):
        wish.say(f"{lab} is the lab of {record.inventory} in {record.checkout}: left alone")
        return []
    return [lab]


def _claim(made: LabPlan, wish: Wish) -> LabRecord:
    """Return the record of this inventory's lab; make it unless the network is somebody else's."""
    with locked(LABS, LOCK_SECONDS, f"{LABS} is locked by another run"):
        for lab, record in list(store.records()):
            if not IPv4Network(record.network).overlaps(made.network):
                continue
            if lab == made.id and record.holder() == wish.holder():
                return record
            gone = " (which is gone)" if record.orphaned() else ""
            raise LabError(
                f"{record.network} is in use by the lab of the inventory {record.inventory}{gone} of the checkout "
                f"{record.checkout}: choose another event_network, or end that lab with "
                f"`python -m stationmaster.lab absent {lab}`"
            )
        record = LabRecord(str(made.network), *wish.holder())
        store.save(made.id, record)
        return record


def _unwanted(made: LabPlan, record: LabRecord, name: str, only: Sequence[str] | None) -> list[str]:
    """Return the stations of the record that the inventory does not want, or not as they were made."""
    found = []
    for host, station in record.stations.items():
        wanted = made.stations.get(host)
        if only is not None and host not in only:
            continue
        if wanted is None or (station.address, station.mac, station.image) != (str(wanted.address), wanted.mac, name):
            found.append(host)
    return found


def _repair(station: Machine) -> bool:
    plugged = network.set_link(station.plan, up=True)
    return faults.free(station) or plugged


def _know(record: LabRecord) -> None:
    made = record.plan()
    known = {name: (made.stations[name], station.host_key) for name, station in record.stations.items()}
    if Path(record.checkout).is_dir():
        keys.know(Path(record.checkout), made.id, known)


def _all(names: Sequence[str], do: Callable[[str], object]) -> None:
    """Do something to several stations at once; the first error counts, after all have ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(do, name) for name in names]:
            done.result()


def _raise_inotify() -> None:
    if int(INOTIFY.read_text()) < INOTIFY_INSTANCES:
        INOTIFY.write_text(f"{INOTIFY_INSTANCES}\n")


def _parsed(lab: str) -> IPv4Network:
    try:
        made = IPv4Network(lab.replace("-", "/"))
    except ValueError as error:
        raise LabError(f"{lab!r} is not a lab; a lab is called as 10.83.0.0-24") from error
    if lab_id(made) != lab:
        raise LabError(f"{lab!r} is not a lab; a lab is called as 10.83.0.0-24")
    return made
