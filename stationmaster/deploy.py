"""Between Ansible and the applier: requests from variables, results for the recap.

The action plugins are shims over this. `render_all` runs once a play, in the
controller; every station's worker then only sends a file that lies ready.
"""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stationmaster.payload import LARGE, Packer

if TYPE_CHECKING:
    from stationmaster.bundle import Bundle

TAGS = {"apply", "provision"}
NEEDS_PROVISION = "stationmaster_needs_provision"
"""The group of stations that have to be provisioned before they can be applied."""
ONLY_VERBS = ("role", "instance", "unit")
"""Variables that choose a part of a station: for start, stop and restart, never for an apply."""
VERBS = ("start", "stop", "restart", "rollback", "remove", "status", "on-air")
LOCK_WAIT = 90
"""Seconds that an apply waits for another one on the same station."""
READY_TIMEOUT = 60
"""Seconds for all restarted units of a station together to become ready; systemd's TimeoutStartSec of our units is the
same. A supervisor says READY as soon as it has accepted its configuration, whether or not its source is there: in a
second on an idle station, but in 31 s where 24 others wanted the same processor [measured]; RabbitMQ takes 7 s idle."""
YES = ("1", "true", "yes", "on", "y", "t")


class Refused(Exception):
    """What was asked for cannot be done at all; the text says why and what to do."""


def refuse_partial_apply(arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Refuse tags other than ours and role targets: an apply is always a whole station.

    Args:
        arguments: the command line as Ansible parsed it.
        variables: the variables of the play.

    Raises:
        Refused: something would have been left out silently.
    """
    chosen = set(arguments.get("tags") or ()) - {"all"}
    skipped = set(arguments.get("skip_tags") or ())
    for option, tags in (("--tags", chosen), ("--skip-tags", skipped)):
        if tags - TAGS:
            names = ", ".join(sorted(tags - TAGS))
            raise Refused(
                f"{option} {names}: an apply is always a whole station. The tags are {' and '.join(sorted(TAGS))}."
            )
    given = [name for name in ONLY_VERBS if variables.get(name)]
    if given:
        raise Refused(
            f"-e {given[0]}={variables[given[0]]}: an apply is always a whole station. Use playbooks/start.yml, "
            "stop.yml or restart.yml for a part of one, or -l for some stations."
        )


def only_provision(arguments: Mapping[str, Any]) -> bool:
    """Return whether the command line leaves the applying out."""
    chosen = set(arguments.get("tags") or ()) - {"all"}
    return (bool(chosen) and "apply" not in chosen) or "apply" in set(arguments.get("skip_tags") or ())


def author(variables: Mapping[str, Any]) -> str:
    """Return who makes the change: `-e author=`, or the person at the keyboard and the machine."""
    given = variables.get("author")
    if given:
        return str(given)
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name}@{platform.node()}"


def truth(value: object) -> bool:
    """Return whether a variable given as text or as a boolean says yes."""
    return str(value).lower() in YES


def base_request(verb: str, variables: Mapping[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    """Return the part of a request that all verbs share.

    Variables that count, all optional: author, run, interrupt, lock_wait and
    ready_timeout (seconds).
    """
    return {
        "verb": verb,
        "author": author(variables),
        "run": str(variables.get("run") or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"),
        "check": check,
        "diff": diff,
        "interrupt": truth(variables.get("interrupt", False)),
        "automatic": truth(variables.get("automatic", False)),
        "lock_wait": float(variables.get("lock_wait", LOCK_WAIT)),
        "ready_timeout": float(variables.get("ready_timeout", READY_TIMEOUT)),
    }


def verb_request(verb: str, variables: Mapping[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    """Return the request of a verb, with the variables that it takes.

    Raises:
        Refused: there is no such verb, or `on-air` without `minutes`.
    """
    if verb not in VERBS:
        raise Refused(f"There is no verb {verb!r}: {', '.join(VERBS)}.")
    request = base_request(verb, variables, check, diff)
    for name in ("unit", "role", "instance", "generation", "reason", "minutes"):
        if variables.get(name) not in (None, ""):
            request[name] = variables[name] if name == "minutes" else str(variables[name])
    request["purge"] = truth(variables.get("purge", False))
    if verb == "on-air" and "minutes" not in request:
        raise Refused("Say for how long: -e minutes=60, or -e minutes=0 to go off air.")
    return request


class Revision:
    """The git revision of a folder, asked for in the background."""

    def __init__(self, folder: str | Path) -> None:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+dirty", "--abbrev=12", "--exclude=*"]
        try:
            self._git: subprocess.Popen[str] | None = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            self._git = None

    def __str__(self) -> str:
        """Return the revision, with `+dirty` for changes not committed, or "none"."""
        if self._git is None:
            return "none"
        return self._git.communicate()[0].strip() or "none"


def payload_path(folder: str | Path, station: str) -> Path:
    """Return where a station's payload lies in the run's private folder."""
    return Path(folder) / "stationmaster" / f"{station}.payload"


def contents_folder(folder: str | Path) -> Path:
    """Return where large contents lie in the run's private folder, each named by its SHA-256."""
    return Path(folder) / "stationmaster" / "contents"


def bundles(event: Any, stations: Iterable[str], revision: str) -> Iterator[tuple[str, Bundle]]:
    """Render the bundles of stations, as every apply does.

    Args:
        event: the conference, without findings; implied instances are added to it.
        stations: their names.
        revision: of the inventory.
    """
    from stationmaster import bundle, catalogue, resolve

    roles = catalogue.load()
    resolve.add_implied(event, roles)
    downstream = resolve.downstream_of(event, roles)
    for name in stations:
        yield name, bundle.render(event, name, roles, revision, downstream)


def render_all(event: Any, stations: Iterable[str], request: Mapping[str, Any], folder: Path, revision: str) -> None:
    """Render the bundles of stations and write their payloads, for root's and the operator's eyes only.

    Args:
        event: the conference, without findings.
        stations: those that the play has.
        request: what `base_request` returns.
        folder: the run's private folder, which Ansible removes at its end.
        revision: of the inventory.
    """
    for private in (contents_folder(folder).parent, contents_folder(folder)):
        private.mkdir(mode=0o700, exist_ok=True)
    packer = Packer()
    for name, rendered in bundles(event, stations, revision):
        small = {digest: data for digest, data in rendered.blobs.items() if len(data) <= LARGE}
        for digest in rendered.blobs.keys() - small.keys():
            _write_private(contents_folder(folder) / digest, rendered.blobs[digest])
        _write_private(payload_path(folder, name), packer.pack({**request, "manifest": rendered.manifest}, small))


def _write_private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def failure_text(result: Mapping[str, Any]) -> str | None:
    """Return why a result is a failure, or None if it is none; the journal is in the result itself."""
    error, failed = result.get("error"), result.get("failed")
    if error:
        return f"{error['error']}: {error['message']}"
    if not failed:
        return None
    back = f" Went back to generation {failed['went_back_to']}." if "went_back_to" in failed else ""
    return f"{failed['unit']}: {failed['why']}.{back}"


def answer(result: Mapping[str, Any], after_provision: bool = False) -> dict[str, Any]:
    """Return an Ansible task result for what the applier said.

    Args:
        result: the applier's line.
        after_provision: whether the station was provisioned just now, so that
            it must not ask for it again.
    """
    kind = result["result"]
    told: dict[str, Any] = {"changed": False, "stationmaster": dict(result)}
    why = failure_text(result)
    if kind == "needs_provision":
        if after_provision:
            return {
                **told,
                "failed": True,
                "msg": "The station still is not provisioned for its roles: run without --tags apply.",
            }
        return {**told, **_asks(result)}
    told["changed"] = (
        any(result.get(key) for key in ("changed", "restarted", "started", "stopped", "removed")) or kind == "changed"
    )
    if result.get("diff"):
        told["diff"] = told["stationmaster"].pop("diff")
    if why:
        told.update(failed=True, msg=why)
    if result.get("needs_provision") and not after_provision:
        told.update(_asks(result))
    return told


def _asks(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what puts a station among those to provision, with what it needs as a fact."""
    return {"add_group": NEEDS_PROVISION, "ansible_facts": {"stationmaster_provision": result["provision"]}}


def findings_text(findings: Sequence[Any]) -> str:
    """Return all findings as one text, for the message of the failed check."""
    count = f"{len(findings)} finding{'s' if len(findings) != 1 else ''}, no station was touched:"
    return "\n".join([count, *(finding.text() for finding in findings)])
