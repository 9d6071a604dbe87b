"""A run as it goes on: per station what it does, from the run's events, until the end that the manager tells."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

from stationmaster.client import (
    NO_STATION,
    OK,
    RUN_FAILED,
    UNPROVEN,
    Client,
    checked_name,
    print_json,
)
from stationmaster.plain import plain, shorten, table

WAIT = 10
"""Seconds that one question for events waits in the manager; less than any proxy's limit."""
QUEUED_WAIT = 2
"""The same while the run waits for its turn: a change of its state is no event."""
STATES = {"succeeded": OK, "cancel_unverified": UNPROVEN, "lost": UNPROVEN, "unreachable": NO_STATION}
"""Exit codes of states in which a run ends; all others have failed."""
OUTCOMES = {"runner_on_ok": "ok", "runner_on_skipped": "skipped", "runner_on_failed": "failed"}


def exit_of(run: dict[str, Any]) -> int:
    """Return the exit code for a run that has ended."""
    return STATES.get(str(run["state"]), RUN_FAILED)


def address(client: Client, run: dict[str, Any]) -> str:
    """Return where a run can be looked at."""
    return f"{client.url}/v1/runs/{run['id']}"


@dataclass
class Progress:
    """How far one station is."""

    state: str = "waiting"
    task: str = ""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("ok", "changed", "failed", "skipped"), 0))

    def see(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event of the station into account."""
        if kind == "runner_on_start":
            self.state, self.task = "working", str(data.get("task") or data.get("name") or "")
        elif kind == "runner_on_unreachable":
            self.state = "unreachable"
        elif kind in OUTCOMES:
            self.state = "working"
            self.counts[OUTCOMES[kind]] += 1
            if (data.get("result") or {}).get("changed") is True:
                self.counts["changed"] += 1
            if kind == "runner_on_failed" and not data.get("ignore_errors"):
                self.state = "failed"

    def end(self, result: dict[str, Any]) -> None:
        """Take over what the manager says of the station at the end."""
        self.state, self.task = str(result.get("state")), _why(result)
        for name, count in (result.get("counts") or {}).items():
            if name in self.counts:
                self.counts[name] = count


def _why(result: dict[str, Any]) -> str:
    error, told = result.get("error") or {}, result.get("apply") or {}
    held = [one.get("unit", "?") if isinstance(one, dict) else one for one in told.get("held") or ()]
    words = {"restarted": told.get("restarted"), "held": held}
    parts = [f"{word} {', '.join(map(str, names))}" for word, names in words.items() if names]
    return str(error.get("message") or result.get("reason") or "; ".join(parts))


class Screen:
    """Shows the stations of a run: on a terminal one table that changes, else a line for each change.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._drawn = 0
        self._told: dict[str, str] = {}

    def show(self, title: str, stations: dict[str, Progress]) -> None:
        """Show how it is now."""
        if not self._live:
            self._lines(title, stations)
            return
        width, height = shutil.get_terminal_size()
        rows = [(name, one.state, *one.counts.values(), one.task) for name, one in stations.items()]
        lines = [shorten(plain(title), width), *table(("STATION", "STATE", *Progress().counts, "NOW"), rows, width)]
        if len(lines) > height - 1:
            lines = [*lines[: height - 2], f"… {len(lines) - height + 2} more"]
        back = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        self._out.write(back + "".join(f"{line}\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)

    def _lines(self, title: str, stations: dict[str, Progress]) -> None:
        now = {"": plain(title), **{name: f"{one.state}  {plain(one.task)}".rstrip() for name, one in stations.items()}}
        for name, line in now.items():
            if self._told.get(name) != line:
                self._out.write(f"{plain(name)}: {line}\n" if name else f"{line}\n")
        self._out.flush()
        self._told = now


def follow(client: Client, run: dict[str, Any], *, as_json: bool) -> int:
    """Show a run until it ends; return the exit code for its end.

    It works on when nobody looks, so that a look at it can be given up at any time.

    Args:
        client: of the manager.
        run: as the manager answered.
        as_json: show nothing on the way, and at the end the run as JSON.
    """
    path = f"/v1/runs/{checked_name(run['id'])}"
    stations = {name: Progress() for name in run["stations"]}
    screen = None if as_json else Screen(sys.stdout)
    after, total, state = 0, None, str(run["state"])
    while total is None or after < total:
        if screen:
            screen.show(f"{run['action']} {run['id']}: {state}", stations)
        wait = QUEUED_WAIT if state in ("queued", "waiting", "starting") else WAIT
        page = client.get_patiently(f"{path}/events", after=after, wait=wait)
        for event in page["events"]:
            if event["station"] in stations:
                stations[event["station"]].see(event["kind"], event["data"])
        if total is not None and not page["events"]:
            break  # it knows no more of them: retention took some
        after, total, state = page["last"], page["total"], str(page["state"])
    run = client.get_patiently(path)
    if screen:
        for name, result in run["results"].items():
            stations.setdefault(name, Progress()).end(result)
        screen.show(f"{run['action']} {run['id']}: {run['state']}", stations)
        tell_end(run)
    else:
        print_json(run)
    return exit_of(run)


def tell_end(run: dict[str, Any]) -> None:
    """Say on stderr why a run did not succeed, if it did not."""
    if run["reason"]:
        print(plain(run["reason"]), file=sys.stderr)
    error = run.get("error") or {}
    if error.get("place"):
        print(plain(f"at {error['place']}, task {error.get('task')!r}"), file=sys.stderr)
    for finding in error.get("findings") or ():
        print(f"  {plain(finding.get('message', finding) if isinstance(finding, dict) else finding)}", file=sys.stderr)
    for name, why in (run.get("unproven") or {}).items():
        print(f"  {plain(name)} is not proven to be free of the run: {plain(why)}", file=sys.stderr)
