"""Runs as the API tells them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from api.clock import told
from api.run_states import ENDED
from api.tables import Run


class StationResult(BaseModel):
    """What became of one station in a run."""

    state: str = Field(description="ok, changed, failed, unreachable, skipped, untouched or unknown")
    reason: str | None = None
    counts: dict[str, int] | None = Field(default=None, description="Ansible's counts of tasks")
    apply: dict[str, Any] | None = Field(
        default=None, description="what the station's applier said: held, restarted, interrupts, …"
    )
    error: dict[str, Any] | None = None


class RunSummary(BaseModel):
    """A run, as lists have it."""

    id: str
    action: str
    target: dict[str, Any]
    parameters: dict[str, Any]
    stations: list[str]
    state: str
    reason: str
    author: str
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    ended: bool
    cancel_by: str | None
    retry_of: str | None
    folded_into: str | None = Field(description="the run that does this one's work; its events are this one's")
    revision: str | None = Field(description="of the inventory, as it was when the run began")
    dirty: bool | None = Field(description="whether the inventory had changes that were not committed")
    events: int = Field(description="number of the last event; once the run has ended, of all")


class RunDetail(RunSummary):
    """A run with what became of each station."""

    rc: int | None
    error: dict[str, Any] | None = Field(description="the first error, with station, task and place")
    results: dict[str, StationResult]
    unproven: dict[str, str] = Field(description="stations not proven to be free of the run, with the reason")


class RunList(BaseModel):
    """A page of runs, the newest first."""

    runs: list[RunSummary]
    next: str | None = Field(description="give it as `before` for the next page; null at the end")


class RunEventEntry(BaseModel):
    """One event of a run."""

    number: int
    at: str | None
    kind: str
    station: str | None
    data: dict[str, Any]


class RunEvents(BaseModel):
    """Events of a run from a number on."""

    run: str
    state: str
    events: list[RunEventEntry]
    last: int = Field(description="number of the last event here, or the one asked for; give it as `after` next time")
    total: int | None = Field(description="how many there are in all; null until the run has ended")


def summary(run: Run) -> dict[str, Any]:
    """Return the members of a `RunSummary`."""
    return {
        "id": run.id, "action": run.action, "target": run.target, "parameters": run.parameters,
        "stations": run.stations, "state": run.state, "reason": run.reason, "author": run.author,
        "created_at": told(run.created_at), "started_at": told(run.started_at), "ended_at": told(run.ended_at),
        "ended": run.state in ENDED, "cancel_by": run.cancel_by, "retry_of": run.retry_of,
        "folded_into": run.folded_into, "revision": run.revision, "dirty": run.dirty, "events": run.events,
    }  # fmt: skip


def detail(run: Run) -> RunDetail:
    """Return a run with its results."""
    result = run.result
    return RunDetail(
        **summary(run), rc=result.get("rc"), error=result.get("error"), results=result.get("stations", {}),
        unproven=result.get("unproven", {}),
    )  # fmt: skip
