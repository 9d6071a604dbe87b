"""The applier killed at each of its state-changing system calls in turn.

strace injects the signal as the call is entered: a kill before one call is a kill after
the one before it. What is killed is the real program, started as the connection or the
converge unit starts it; systemd's tools are scripts that keep units as files.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from station.applier import files
from station.applier.converge import converge
from station.applier.layout import Layout
from station.applier.records import load_manifest, load_pending
from station.applier.systemd import Systemd
from stationmaster.payload import BOOTSTRAP, Packer, engine
from tests.engine.kit import Bundle, Station

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CALLS = (
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,"
    "write,pwrite64,ftruncate,fchmod,chmod,fchmodat"
)
SYSTEMCTL = """#!/bin/sh
run={root}/run/fake
mkdir -p $run
verb=$1; shift
while [ "${{1#--}}" != "$1" ]; do shift; done
for unit in "$@"; do
    text={root}/usr/local/lib/systemd/system/$unit
    case $verb in
    show)
        echo "Id=$unit"
        if [ -e $text ]; then echo LoadState=loaded; fi
        if [ -e $run/$unit ]; then echo ActiveState=active; echo SubState=running; echo Type=notify; fi
        echo ;;
    list-units)
        if [ -e $run/$unit ]; then echo "$unit loaded active running Text"; fi ;;
    restart)
        mkdir -p {root}/run/stationmaster/started
        sed -n 's/^# hash //p' $text > {root}/run/stationmaster/started/$unit
        touch $run/$unit ;;
    stop) rm -f $run/$unit ;;
    esac
done
"""
SYSTEMD_RUN = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def bundles() -> tuple[Bundle, Bundle]:
    old, new = Bundle(), Bundle()
    old.unit("encode", "talks", secret="one")
    old.unit("upload", "gone")
    new.unit("encode", "talks", secret="two")
    new.unit("record", "fresh")
    return old, new


class Bench:
    """A station with the old bundle applied, copied for each kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old, self.new = bundles()

    def bare(self, name: str) -> Station:
        """A station that was provisioned and never applied."""
        root = self.folder / name
        station = Station(root)
        script(root / "usr/bin/systemctl", SYSTEMCTL.format(root=root))
        script(root / "usr/bin/systemd-run", SYSTEMD_RUN)
        script(root / "usr/bin/journalctl", "#!/bin/sh\n")
        station.systemd = Systemd(station.layout)
        station.systemd.run_apart = lambda unit, command, timeout: converge(station.layout, station.systemd) is not None
        return station

    def station(self, name: str) -> Station:
        """A station with the old bundle; made anew each time, for its links are absolute."""
        station = self.bare(name)
        root = station.root
        # the engine is on the station already, as after any apply but the first
        kept = self.folder / "engine"
        if kept.exists():
            shutil.copytree(kept, station.layout.engine, symlinks=True)
        else:
            subprocess.run(self.command(root), input=self.payload(station, self.old), check=True, capture_output=True)
            shutil.copytree(station.layout.engine, kept, symlinks=True)
            return station
        self.apply(station, self.old)
        return station

    def apply(self, station: Station, bundle: Bundle) -> dict:
        import zlib

        index, packed = {}, b""
        for digest, data in bundle.blobs.items():
            piece = zlib.compress(data)
            index[digest] = [len(packed), len(piece)]
            packed += piece
        request = {**station.request("apply", manifest=bundle.manifest()), "blobs": index}
        import station.applier.apply as module

        return module.apply(
            station.layout, station.systemd, request, module.generation.Blobs(index, packed), lambda: None
        )

    def payload(self, station: Station, bundle: Bundle) -> bytes:
        return Packer().pack(station.request("apply", manifest=bundle.manifest()), bundle.blobs)

    def starts(self, station: Station) -> tuple[list[str], bytes]:
        """The command that the connection runs for the new bundle, and its input."""
        return self.command(station.root), self.payload(station, self.new)

    def command(self, root: Path) -> list[str]:
        return ["/usr/bin/python3", "-IS", "-c", BOOTSTRAP, str(root)]


def traced(expression: str, command: list[str], data: bytes, log: Path | None = None) -> int:
    """Run a command under strace, not its children; return its status."""
    strace = ["strace", "-qq", "-o", str(log or "/dev/null"), "-e", expression, *command]
    done = subprocess.run(strace, input=data, capture_output=True)
    assert done.returncode in (0, -9, 137), done.stderr
    return done.returncode


def whole(layout: Layout, bench: Bench) -> str:
    """Say whose files are current; fail if they are a mixture."""
    if not Path(layout.current).exists():
        assert not Path(layout.current).is_symlink()
        return "none"
    manifest = load_manifest(layout, layout.current_number())
    assert manifest is not None
    assert files.drift(layout.current, manifest) == {}
    wanted = {bench.old.manifest()["wanted"]: bench.old, bench.new.manifest()["wanted"]: bench.new}
    bundle = wanted[manifest["wanted"]]
    assert (manifest["files"], manifest["links"]) == (bundle.files, bundle.links)
    return "old" if bundle is bench.old else "new"


def finished(station: Station, bench: Bench) -> None:
    """Check that the station has become the new bundle, its units too, and that nothing is left over."""
    assert whole(station.layout, bench) == "new"
    assert load_pending(station.layout) is None
    running = {path.name for path in (station.root / "run/fake").iterdir()}
    assert running == set(bench.new.units)
    assert {name: entry["hash"] for name, entry in bench.new.units.items()} == station.layout.started_hashes()
    left = [path.name for path in Path(station.layout.generations).iterdir() if not path.name.isdecimal()]
    assert left == []
    assert station.state["applied"] == bench.new.manifest()["wanted"]


def by_apply(station: Station, bench: Bench) -> None:
    result = bench.apply(station, bench.new)
    assert result["result"] in ("changed", "unchanged"), result
    finished(station, bench)


def by_boot(station: Station, bench: Bench) -> None:
    shutil.rmtree(station.layout.started, ignore_errors=True)
    shutil.rmtree(station.root / "run/fake", ignore_errors=True)
    (station.root / "run/fake").mkdir(parents=True)
    was_pending = load_pending(station.layout) is not None
    outcome = converge(station.layout, station.systemd)
    whole(station.layout, bench)
    if was_pending:
        assert outcome["result"] == "changed"
        finished(station, bench)
    by_apply(station, bench)


EACH = pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)])


def series(bench: Bench, make, prepare, every: int) -> int:
    """Kill at each (of its kind every third) state-changing call in turn; return how many calls there were.

    `make(name)` returns a station, `prepare(station)` the command and its input. strace counts each system call by
    its own name, so each (call, n) that an undisturbed run makes is a kill of its own.
    """
    bench.station("first")
    station = make("whole")
    log = bench.folder / "calls"
    assert traced(f"trace={CALLS}", *prepare(station), log=log) == 0
    finished(station, bench)
    counts = Counter(line.partition("(")[0] for line in log.read_text().splitlines() if "(" in line)
    kills = [(call, number) for call, total in sorted(counts.items()) for number in range(1, total + 1, every)]

    def one(kill: tuple[str, int]) -> str:
        call, number = kill
        station = make(f"{call}-{number}")
        command, data = prepare(station)
        assert traced(f"inject={call}:signal=KILL:when={number}", command, data) != 0, kill
        which = whole(station.layout, bench)
        (by_boot if number % 2 else by_apply)(station, bench)
        shutil.rmtree(station.root)
        return which

    with ThreadPoolExecutor(2) as pool:
        seen = set(pool.map(one, kills))
    assert "new" in seen
    assert len(seen) == 2
    return counts.total()


@EACH
def test_killed_while_it_stages(tmp_path, every):
    bench = Bench(tmp_path)
    assert series(bench, bench.station, bench.starts, every) > 50


@EACH
def test_killed_in_the_very_first_apply(tmp_path, every):
    bench = Bench(tmp_path)
    assert series(bench, bench.bare, bench.starts, every) > 50


@EACH
def test_killed_while_it_converges(tmp_path, every):
    bench = Bench(tmp_path)

    def prepare(station):
        real = station.systemd.run_apart
        station.systemd.run_apart = lambda unit, command, timeout: False
        bench.apply(station, bench.new)
        station.systemd.run_apart = real
        return ["/usr/bin/python3", "-ISB", f"{station.layout.engine}/current", "converge", str(station.root)], b""

    assert series(bench, bench.station, prepare, every) > 20


def test_the_command_is_one_word_for_the_shell():
    from stationmaster.payload import command

    assert shlex.split(command("/r"))[-2:] == [BOOTSTRAP, "/r"]
    assert len(engine().packed) < 40_000
    assert sys.executable
