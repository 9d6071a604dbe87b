"""The effective bundle: what is wanted, less what must wait because of on air."""

from __future__ import annotations

from station.applier.light import digest, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOTHING: dict[str, Any] = {
    "files": {},
    "links": {},
    "units": {},
    "roles": {},
    "wanted": None,
    "applied": None,
    "held": [],
}
"""The manifest of a station that has nothing yet."""


def _own_files(name: str, unit: dict[str, Any]) -> list[str]:
    return ["units/" + name, *unit["reads"]]


def _links_of(name: str, manifest: dict[str, Any]) -> dict[str, str]:
    return {path: target for path, target in manifest["links"].items() if path.rpartition("/")[2] == name}


def _held(want: dict[str, Any], have: dict[str, Any], running: dict[str, str]) -> dict[str, str]:
    """Return the units that must stay as they are, with the reason.

    A live unit that runs and would be restarted or stopped waits. Another unit that reads
    a file which thereby stays old waits with it, or it would see half of a change; one
    that is new is left out until then.
    """
    held: dict[str, str] = {}
    for name, old in have["units"].items():
        new = want["units"].get(name)
        live = old["live"] or (new is not None and new["live"])
        if live and name in running and (new is None or new["hash"] != running[name]):
            held[name] = "on air" if new else "on air, to be removed"
    frozen = {path: name for name in held for path in _own_files(name, have["units"][name])}
    grown = bool(held)
    while grown:
        grown = False
        for name, unit in want["units"].items():
            if name in held:
                continue
            for path in _own_files(name, unit):
                if path in frozen and want["files"].get(path) != have["files"].get(path):
                    held[name] = f"shares {path} with {frozen[path]}, on air"
                    if name in have["units"]:
                        frozen.update({own: name for own in _own_files(name, have["units"][name]) if own not in frozen})
                    grown = True
                    break
    return held


def effective(
    want: dict[str, Any], have: dict[str, Any], running: dict[str, str], on_air: bool
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the manifest to bring the station to, and what is held with its reason.

    `running` maps each running unit to the hash that it was started with ("" if unknown).
    A held unit keeps its unit text, its links and every file that it reads. The result's
    `applied` is its own hash, or the wanted one if nothing is held.
    """
    held = _held(want, have, running) if on_air else {}
    if not held:
        return {**want, "applied": want["wanted"], "held": []}, []
    files, links, units = dict(want["files"]), dict(want["links"]), dict(want["units"])
    for name in held:
        for path in _links_of(name, want):
            del links[path]
        if name not in have["units"]:
            del units[name]
            files.pop("units/" + name, None)
            continue
        units[name] = have["units"][name]
        links.update(_links_of(name, have))
        for path in _own_files(name, have["units"][name]):
            if path in have["files"]:
                files[path] = have["files"][path]
    listed = [{"unit": name, "reason": held[name]} for name in sorted(held)]
    target = {**want, "files": files, "links": links, "units": units, "held": listed}
    target["applied"] = digest(dumps([files, links, units]).encode())
    return target, listed
