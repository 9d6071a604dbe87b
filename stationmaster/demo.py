"""`make demo`: a conference on this machine, from camera to archive.

Boots the inventory's stations in the lab, applies it, lets a talk of a few
seconds pass before the camera, has it cut, encoded and uploaded, and prints
the receipt. The stations stay up; `make clean` removes them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stationmaster import catalogue, inventory, resolve
from stationmaster.model import Event, Instance, Station

TOP = Path(__file__).resolve().parent.parent
TALK = 12
"""Length of the demo's talk, in seconds."""
KNOWN = ("-i", ".state/ssh/id_ed25519", "-o", "UserKnownHostsFile=.state/ssh/known_hosts")
"""Arguments of ssh to reach the lab's stations."""
PATIENCE = 240
"""How long a step may take, in seconds, before the demo says that it failed."""


class DemoFailed(Exception):
    """A step did not come to its end; the text says which and where to look."""


def main() -> int:
    """Run the demo; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("-i", "--inventory", default=str(TOP / "inventory"), help="whose rooms to show")
    chosen = parser.parse_args().inventory
    began = time.monotonic()
    roles = catalogue.load()
    event = inventory.load(chosen, roles=roles)
    if event.findings:
        print(*(finding.text() for finding in event.findings), sep="\n", file=sys.stderr)
        return 1
    resolve.add_implied(event, roles)
    try:
        first_screen(event, roles)
        step("Boot the stations", began)
        playbook(chosen, "playbooks/lab.yml", "-e", "lab_state=present")
        step("Apply the inventory: ansible-playbook site.yml", began)
        playbook(chosen, "site.yml")
        step("Watch a talk pass", began)
        watch_talk(chosen, event, roles, began)
        show_manager(chosen, event, began)
    except DemoFailed as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    return 0


def first_screen(event: Event, roles: catalogue.Catalogue) -> None:
    """Print what will run where and what to look at."""
    print(f"\n{event.title}: {len(event.stations)} stations in {len(event.rooms)} rooms\n")
    for station in event.stations.values():
        room = station.room.title if station.room else "(no room)"
        print(f"  {station.name:<14} {station.address or '':<14} {room}")
        for instance in station.instances():
            if not instance.implied:
                sources = ", ".join(resolve.references(roles, instance))
                print(f"      {instance.role + ' ' + instance.id:<22} {'from ' + sources if sources else ''}")
    print("\nWhile it runs, and after:")
    for _, station, instance in resolve.providers(event, roles, ("media",)):
        if instance.role == "ingest":
            print(f"  ffplay {resolve.base_url(event, station, instance)}live.m3u8")
    for _, station, instance in resolve.providers(event, roles, ("visuals",)):
        for room in event.rooms:
            print(f"  http://{station.address}:{instance.options['http_port']}/screen/{room}   the screen at its door")
    for station in event.stations.values():
        for instance in station.roles.get("catalogue", {}).values():
            print(f"  http://{station.address}:{instance.options['http_port']}/   the rooms as pictures")
    name = next(iter(event.stations), "STATION")
    print("  ansible-playbook playbooks/status.yml        how all stations are")
    print(f"  ssh {' '.join(KNOWN)} root@{name_or_address(event, name)}")


def name_or_address(event: Event, name: str) -> str:
    """Return what reaches a station from this machine."""
    station = event.stations.get(name)
    return (station.address if station else None) or name


def step(text: str, began: float) -> None:
    """Print the headline of a step with the seconds since the start."""
    print(f"\n== {text}   [{time.monotonic() - began:.0f} s]", flush=True)


def playbook(chosen: str, name: str, *arguments: str) -> None:
    """Run a playbook on an inventory, its output going to the terminal.

    Raises:
        DemoFailed: it did not end well.
    """
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", chosen, name, *arguments]
    done = subprocess.run(command, cwd=TOP, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"{name} ended with {done.returncode}; what went wrong is said above")


def watch_talk(chosen: str, event: Event, roles: catalogue.Catalogue, began: float) -> None:
    """Let a talk pass before a camera and follow it to its receipt.

    Raises:
        DemoFailed: something on the way took longer than `PATIENCE`.
    """
    encoder = next(((s, i) for _, s, i in resolve.providers(event, roles, ("products",)) if i.role == "encode"), None)
    if encoder is None:
        print("No station encodes: there is no talk to follow.")
        return
    station, instance = encoder
    reference = resolve.references(roles, instance)[0]
    source = resolve.lookup(event, roles, reference, ("media",))
    uploads = [u for u in uploaders(event, roles) if f"{station.name}/{instance.id}" in resolve.references(roles, u[1])]
    if source is None:
        raise DemoFailed(f"{station.name}: {instance.id} names {reference}, which is nowhere")
    camera = resolve.base_url(event, *source)
    first = wait_for(f"the first segment of {reference}", lambda: segments(camera) or None)
    start = utc(first[-1]["utc"]) + datetime.timedelta(milliseconds=500)
    end = start + datetime.timedelta(seconds=TALK)
    identity = f"demo-{start:%Y%m%dT%H%M%S}"
    job = {
        "id": identity,
        "title": "A conference in a box",
        "presenters": ["The crew"],
        "source": reference,
        "start": stamp(start),
        "end": stamp(end),
    }
    wait_for(f"{TALK} s of {reference}", lambda: utc(segments(camera)[-1]["utc"]) >= end or None)
    step(f"Encode it on {station.name}", began)
    words = json.dumps({"instance": instance.id, "job": job})
    playbook(chosen, "playbooks/encode.yml", "-l", station.name, "-e", words)
    products = resolve.base_url(event, station, instance)
    manifest = wait_for("the product", lambda: fetch(f"{products}done/{identity}/manifest.json"))
    for file in manifest["files"]:
        print(f"  {products}done/{identity}/{file['name']}  ({file['size'] / 1e6:.1f} MB)")
    if not uploads:
        return
    step(f"Upload it from {uploads[0][0].name}", began)
    receipts = resolve.base_url(event, *uploads[0]) + "receipts/"
    receipt = wait_for("the receipt", lambda: fetch(f"{receipts}{identity}.json"))
    print("The receipt: each file was read back and compared at the target.\n")
    print(json.dumps({key: receipt[key] for key in receipt if key != "ranges"}, indent=2, ensure_ascii=False))


def show_manager(chosen: str, event: Event, began: float) -> None:
    """Deploy the manager, if the inventory names its station, and print how to reach it.

    Raises:
        DemoFailed: it could not be deployed.
    """
    name = event.settings.get("manager")
    if name:
        step(f"Deploy the manager on {name}", began)
        password = Path(chosen) / "demo-vault-password"
        extra = ["-e", f"manager_vault_password_file={password.resolve()}"] if password.exists() else []
        playbook(chosen, "playbooks/manager.yml", *extra)
        command = ["ssh", *KNOWN, f"root@{name_or_address(event, name)}"]
        command += ["stationmaster-manager token create --scope admin --note demo"]
        made = subprocess.run(command, cwd=TOP, check=False, stdout=subprocess.PIPE, text=True)
        if made.returncode != 0:
            raise DemoFailed("the manager made no token; what went wrong is said above")
        authority = Path(".state/manager") / event.name / "ca.pem"
        address = f"https://{name_or_address(event, name)}:8443"
        token = made.stdout.strip()
        print(f"\nThe manager: open {address} in a browser and sign in with this token, which may do everything:\n")
        print(f"  {token}\n")
        print(f"The browser does not know the authority of its certificate, which is {authority}.")
        print(f"\nThe same from a terminal:\n\n  export STATIONMASTER_MANAGER={address}")
        print(f"  export STATIONMASTER_CA={authority} STATIONMASTER_TOKEN={token}")
        room, station = next(((s.room.name, s.name) for s in event.stations.values() if s.room), ("ROOM", "STATION"))
        told = {
            "status": "all stations, and the machines that wait to be let in",
            f"accept {station}": "let one in",
            f"apply {room} --watch": "bring a room to what the inventory wants",
        }
        for words, meaning in told.items():
            print(f"  .venv/bin/stationmaster {words:<24} # {meaning}")
    print(f"\nDone in {time.monotonic() - began:.0f} s. The stations stay up; `make clean` removes them.")


def uploaders(event: Event, roles: catalogue.Catalogue) -> list[tuple[Station, Instance]]:
    """Return every instance that uploads products."""
    return [(s, i) for _, s, i in resolve.providers(event, roles, ("receipts",)) if i.role == "upload"]


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """Look again and again until something is there.

    Raises:
        DemoFailed: it was not there within `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.5)
    raise DemoFailed(f"{what} did not come within {PATIENCE} s; see playbooks/status.yml")


def segments(url: str) -> list[dict[str, Any]]:
    """Return the index of a media instance, empty while there is none."""
    text = read(f"{url}index.jsonl")
    return [json.loads(line) for line in (text or "").splitlines() if line.endswith("}")]


def fetch(url: str) -> Any:
    """Return a JSON document, None while there is none."""
    text = read(url)
    return None if text is None else json.loads(text)


def read(url: str) -> str | None:
    """Return a document's text, None when it is not there or nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - an address of our own inventory
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def utc(text: str) -> datetime.datetime:
    """Read an ISO 8601 time in UTC."""
    return datetime.datetime.fromisoformat(text)


def stamp(when: datetime.datetime) -> str:
    """Write a time as UTC to the millisecond."""
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


if __name__ == "__main__":
    sys.exit(main())
