"""`stationmaster runs`: the manager's runs, one of them, its end."""

from __future__ import annotations

import argparse
from typing import Any

from stationmaster.client import OK, Client, WrongUse, checked_name, declare, print_json, tells
from stationmaster.commands.apply import tell
from stationmaster.plain import plain, table

HELP = "list the manager's runs, or tell of one, follow it, cancel it, repeat it where it failed"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("id", nargs="?", metavar="ID", help="a run, as listed; its exit code is the run's")
    parser.add_argument("--station", help="list only runs that have this station")
    parser.add_argument("--state", help="list only runs in this state; or `open`, or `ended`")
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="how many to list (default: 20)")
    parser.add_argument("--watch", action="store_true", help="follow the run until it ends")
    verbs = parser.add_mutually_exclusive_group()
    verbs.add_argument("--cancel", action="store_true", help="have it ended, with proof from every station")
    verbs.add_argument("--retry", action="store_true", help="do it again for the stations that failed")
    declare(parser)


@tells
def run(arguments: argparse.Namespace, client: Client) -> int:
    """List runs, or deal with one."""
    if arguments.id is None:
        if arguments.watch or arguments.cancel or arguments.retry:
            raise WrongUse("Name the run by its ID.")
        return _list(client, arguments)
    path = f"/v1/runs/{checked_name(arguments.id)}"
    for verb in ("cancel", "retry"):
        if getattr(arguments, verb):
            return tell(client, client.post(f"{path}/{verb}"), arguments)
    found = client.get(path)
    if arguments.watch:
        return tell(client, found, arguments)
    return _tell(found, arguments.json)


def _list(client: Client, arguments: argparse.Namespace) -> int:
    query = {"station": arguments.station, "state": arguments.state, "limit": arguments.lines}
    found = client.get("/v1/runs", **query)
    if arguments.json:
        print_json(found)
        return OK
    rows = [(one["id"], one["created_at"], one["action"], _target(one), one["state"], one["author"])
            for one in found["runs"]]  # fmt: skip
    print("\n".join(table(("RUN", "ASKED", "ACTION", "TARGET", "STATE", "BY"), rows)))
    return OK


def _target(one: dict[str, Any]) -> str:
    target = one["target"]
    return "everything" if target.get("everything") else str(target.get("room") or target.get("station"))


def _tell(found: dict[str, Any], as_json: bool) -> int:
    from stationmaster.follow import Progress, exit_of, tell_end

    if as_json:
        print_json(found)
    else:
        revision = f"{found['revision']}{' with changes' if found['dirty'] else ''}" if found["revision"] else "-"
        for word, value in (
            ("run", f"{found['id']}  {found['action']} {_target(found)}"),
            ("state", found["state"]),
            ("by", found["author"]),
            ("times", "  ".join(f"{word} {found[f'{word}_at'] or '-'}" for word in ("created", "started", "ended"))),
            ("revision", revision),
        ):
            print(f"{word:10}{plain(value)}")
        rows = []
        for name in found["stations"]:
            progress = Progress()
            if name in found["results"]:
                progress.end(found["results"][name])
            rows.append((name, progress.state, *progress.counts.values(), progress.task))
        print("\n".join(table(("STATION", "STATE", *Progress().counts, "WHY"), rows)))
        tell_end(found)
    return exit_of(found) if found["ended"] else OK
