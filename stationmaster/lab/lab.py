"""A whole lab: bring it up, keep it as the inventory wants it, take it down without a trace."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from . import faults, image, keys, network, store
from .errors import LabError
from .plan import LabPlan, lab_id, plan
from .station import BOOT_SECONDS, LOCKS, Machine
from .store import LABS, LabRecord, StationRecord
from .system import locked

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK_SECONDS = 120
BOOTS_AT_ONCE = 8
"""More at once only makes each of them slower: booting is bound by processors."""
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 8192
"""The kernel's 128 per user are used up by about 20 stations; this lasts for several hundred."""


@dataclass(slots=True)
class Wish:
    """What the caller asks for: the inventory's hosts and the lab's settings.

    `hosts` as for `plan.plan`, `inventory` the inventory's own path; `only`
    limits what is done to some of the hosts (None: all); `disk_size` as
    truncate(1) takes it; `seconds` the time that a station has to answer.
    """

    hosts: Sequence[Mapping[str, str | None]]
    inventory: Path
    subnet: str | None = None
    only: Sequence[str] | None = None
    disk_size: str = "4G"
    extra_packages: Sequence[str] = ()
    seconds: float = BOOT_SECONDS
    checkout: Path = CHECKOUT
    say: Callable[[str], None] = print


@dataclass(slots=True)
class Outcome:
    """What was done, by station names; `changed` is true if anything was."""

    lab: str
    built: bool = False
    booted: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    changed: bool = False


def present(wish: Wish) -> Outcome:
    """Bring the lab to what the inventory wants: all its hosts running and reachable, no others.

    What runs already is left alone, a station that crashed boots on its old
    disk, cut links are plugged in and full disks freed; a station whose
    address, MAC address or image changed is made anew.

    Raises LabError.
    """
    made = plan(wish.hosts, wish.subnet)
    _check_root()
    name, built = image.ensure([*image.role_packages(wish.checkout / "roles"), *wish.extra_packages], wish.say)
    authorized = keys.controller_key(wish.checkout)
    with _locked(made.id):
        record = _claim(made, wish)
        outcome = Outcome(made.id, built)
        _raise_inotify()
        outcome.changed |= network.make_bridge(made)
        wanted = {host: made.stations[host] for host in made.stations if wish.only is None or host in wish.only}
        for host in _unwanted(made, record, name, wish.only):
            _machine(record.plan(), host).remove()
            del record.stations[host]
            outcome.removed.append(host)
        store.save(made.id, record)
        hosts = hosts_file(made)
        for host, station in wanted.items():
            if host not in record.stations:
                key = Machine.of(made, station, LABS).make(wish.disk_size, hosts, authorized)
                record.stations[host] = StationRecord(str(station.address), station.mac, name, key)
                store.save(made.id, record)
        # the record may hold stations that `only` left out
        _know(wish.checkout, record)
        missing = [host for host in wanted if not _machine(made, host).running()]
        _all(missing, lambda host: _machine(made, host).boot(image.root_of(name), wish.seconds))
        outcome.booted = missing
        kept = [host for host in wanted if host not in missing]
        outcome.repaired = [host for host in kept if _repair(_machine(made, host))]
        _all(list(wanted), lambda host: _set_files(_machine(made, host), hosts, authorized))
    outcome.changed |= bool(built or outcome.booted or outcome.removed or outcome.repaired)
    return outcome


def absent(wish: Wish) -> Outcome:
    """Take the lab of this inventory, or the stations in `only`, away without a trace; the image stays.

    A lab of another inventory on the same network is left alone.
    """
    made = plan(wish.hosts, wish.subnet)
    _check_root()
    record = store.load(made.id)
    if record and _holder(record) != _holder_of(wish):
        wish.say(f"{made.network} holds the lab of {_holder(record)}, which is left alone")
        return Outcome(made.id)
    if wish.only is not None and record and set(record.stations) - set(wish.only):
        return _remove_some(made.id, record, wish.only)
    return remove(made.id)


def remove(lab: str) -> Outcome:
    """Take a whole lab away, whatever is left of it and whoever made it; nothing to do is fine.

    `lab` is its id as `python -m stationmaster.lab list` prints it.
    """
    network_of_lab = _parsed(lab)
    bare = LabPlan(network_of_lab, {})
    folder = LABS / lab
    if not folder.exists() and not network.exists(bare.bridge):
        return Outcome(lab)
    with _locked(lab):
        record = store.load(lab)
        removed = sorted(record.stations) if record else []
        made = record.plan() if record else bare
        _all(removed, lambda host: _machine(made, host).remove())
        if record:
            _know(Path(record.checkout), LabRecord(record.network, record.checkout, record.inventory))
        network.remove_bridge(made)
        shutil.rmtree(folder)
    _tidy()
    return Outcome(lab, removed=removed, changed=True)


def purged(say: Callable[[str], None] = print) -> list[str]:
    """Remove the cached images that no lab uses; return their names."""
    _check_root()
    used = {station.image for _, record in store.records() for station in record.stations.values()}
    if used:
        say(f"kept, in use: {', '.join(sorted(used))}")
    return image.purge(used)


def hosts_file(made: LabPlan) -> str:
    """Return the /etc/hosts of every station of the lab."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"{made.gateway} controller"]
    lines += [f"{station.address} {name}" for name, station in made.stations.items()]
    return "".join(f"{line}\n" for line in lines)


def find(inventory: Path, checkout: Path = CHECKOUT) -> LabRecord:
    """Return the lab that was made from this inventory.

    Raises LabError when there is none.
    """
    for _, record in store.records():
        if _holder(record) == (str(checkout), str(inventory.resolve())):
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


def _check_root() -> None:
    if os.geteuid():
        raise LabError("the lab boots machines and therefore runs as root: sudo, or a root shell")


def _locked(lab: str) -> AbstractContextManager[int]:
    return locked(LABS / lab, LOCK_SECONDS, f"another run works on the lab {lab} for more than {LOCK_SECONDS} s")


def _holder(record: LabRecord) -> tuple[str, str]:
    return record.checkout, record.inventory


def _holder_of(wish: Wish) -> tuple[str, str]:
    return str(wish.checkout), str(wish.inventory.resolve())


def _claim(made: LabPlan, wish: Wish) -> LabRecord:
    """Return the record of this inventory's lab; make it unless the network is somebody else's."""
    with locked(LABS, LOCK_SECONDS, f"{LABS} is locked by another run"):
        for lab, record in list(store.records()):
            if not IPv4Network(record.network).overlaps(made.network):
                continue
            if lab == made.id and _holder(record) == _holder_of(wish):
                return record
            raise LabError(
                f"{record.network} is in use by the lab of the inventory {record.inventory} in the checkout "
                f"{record.checkout}: choose another event_network, or end that lab with "
                f"`python -m stationmaster.lab absent {lab}`"
            )
        record = LabRecord(str(made.network), *_holder_of(wish))
        store.save(made.id, record)
        return record


def _unwanted(made: LabPlan, record: LabRecord, name: str, only: Sequence[str] | None) -> list[str]:
    """Return the stations of the record that the inventory does not want, or not as they were made."""
    found = []
    for host, station in record.stations.items():
        wanted = made.stations.get(host)
        if wanted is None:
            if only is None:
                found.append(host)
        elif (only is None or host in only) and (
            (station.address, station.mac, station.image) != (str(wanted.address), wanted.mac, name)
        ):
            found.append(host)
    return found


def _repair(station: Machine) -> bool:
    plugged = network.set_link(station.plan, up=True)
    return faults.free(station) or plugged


def _set_files(station: Machine, hosts: str, authorized: str) -> None:
    """Bring what the lab writes into a running station up to date: other stations may have come."""
    script = 'test "$(cat "$1")" = "$2" || printf "%s\\n" "$2" > "$1"'
    for path, text in (("/etc/hosts", hosts), ("/root/.ssh/authorized_keys", authorized)):
        done = station.enter("sh", "-c", script, "sh", path, text.strip())
        if done.returncode:
            raise LabError(f"{station.plan.name}: {path} cannot be written: {done.stderr.decode().strip()}")


def _know(checkout: Path, record: LabRecord) -> None:
    made = record.plan()
    known = {name: (made.stations[name], station.host_key) for name, station in record.stations.items()}
    if checkout.is_dir():
        keys.know(checkout, made.id, known)


def _remove_some(lab: str, record: LabRecord, names: Iterable[str]) -> Outcome:
    with _locked(lab):
        removed = [name for name in names if name in record.stations]
        _all(removed, lambda name: _machine(record.plan(), name).remove())
        for name in removed:
            del record.stations[name]
        store.save(lab, record)
        _know(Path(record.checkout), record)
    return Outcome(lab, removed=removed, changed=bool(removed))


def _all(names: Sequence[str], do: Callable[[str], object]) -> None:
    """Do something to several stations at once; the first error counts, after all have ended."""
    with ThreadPoolExecutor(BOOTS_AT_ONCE) as pool:
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
        raise LabError(f"{lab!r} is not a lab")
    return made


def _tidy() -> None:
    """Remove what is empty of the folders that labs and systemd-nspawn share."""
    for lock in LOCKS.glob("locks/*"):
        _unlink_unlocked(lock)
    for folder in (LOCKS / "locks", LOCKS / "propagate", LOCKS, LABS):
        try:
            folder.rmdir()
        except OSError:
            continue


def _unlink_unlocked(path: Path) -> None:
    """Remove a lock that a killed systemd-nspawn left; one that is held (a record lock) stays."""
    try:
        with path.open("r+") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, PermissionError, FileNotFoundError):
        return
