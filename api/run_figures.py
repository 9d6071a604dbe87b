"""Runs in numbers: how many ended how, how long they waited and took.

What retention removes is added up in the table `totals`, in the same transaction, so that the numbers only ever grow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.clock import now
from api.database import Database
from api.tables import Run, Total

WAIT = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Bounds in seconds for the time in the queue; nobody should wait behind one run of a room."""
TAKE = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Bounds in seconds for a run, from one with nothing to do to the provisioning of a whole event."""
SUM = "sum"
Tally = dict[tuple[str, str, str], float]
"""Metric, action and detail (a result, an upper bound, or `sum`) to a number; bounds are not cumulative."""


def tally(runs: Iterable[Any]) -> Tally:
    """Count ended runs, each given as action, state, created, started and ended (seconds since 1970)."""
    found: Tally = defaultdict(float)
    for action, state, created, started, ended in runs:
        found["runs", action, state] += 1
        if started is not None:
            _observe(found, "wait", action, WAIT, started - created)
            _observe(found, "take", action, TAKE, ended - started)
    return found


def _observe(found: Tally, metric: str, action: str, bounds: tuple[float, ...], seconds: float) -> None:
    value = max(0.0, seconds)
    bound = next((str(one) for one in bounds if value <= one), "+Inf")
    found[metric, action, bound] += 1
    found[metric, action, SUM] += value


def rows_of(session: Session, *conditions: Any) -> Iterable[Any]:
    """Return what `tally` counts, of the ended runs that conditions choose."""
    columns = select(Run.action, Run.state, Run.created_at, Run.started_at, Run.ended_at)
    return session.execute(columns.where(Run.ended_at.is_not(None), *conditions))


def keep(session: Session, removed: Tally) -> None:
    """Add the numbers of runs that are being removed to the totals; `session` is the one of the removal."""
    for (metric, action, detail), value in removed.items():
        row = session.get(Total, (metric, action, detail))
        if row is None:
            session.add(Total(metric=metric, action=action, detail=detail, value=value))
        else:
            row.value += value


def _totals(database: Database) -> Tally:
    with database.reading() as session:
        return {(row.metric, row.action, row.detail): row.value for row in session.scalars(select(Total))}


def everything(database: Database) -> Tally:
    """Return the numbers of all runs there ever were."""
    before = None
    kept = _totals(database)
    found: Tally = {}
    while kept != before:  # retention may move runs into the totals between two looks
        with database.reading() as session:
            found = tally(rows_of(session))
        before, kept = kept, _totals(database)
    return {key: found.get(key, 0) + kept.get(key, 0) for key in (*found, *kept)}


def families(database: Database) -> Iterator[Metric]:
    """Yield the metrics about runs."""
    found = everything(database)
    ended = CounterMetricFamily("stationmaster_runs", "Runs that ended.", labels=["action", "result"])
    for (metric, action, detail), value in sorted(found.items()):
        if metric == "runs":
            ended.add_metric([action, detail], value)
    yield ended
    yield _histogram(found, "wait", WAIT, "stationmaster_run_wait_seconds", "From the request to the start of a run.")
    yield _histogram(found, "take", TAKE, "stationmaster_run_seconds", "From the start of a run to its end.")
    with database.reading() as session:
        open_runs = session.execute(
            select(Run.state, func.count(), func.min(Run.created_at)).where(Run.ended_at.is_(None)).group_by(Run.state)
        ).all()
    current = GaugeMetricFamily("stationmaster_runs_now", "Runs that have not ended, by state.", labels=["state"])
    for state, count, _ in open_runs:
        current.add_metric([state], count)
    yield current
    waiting = [created for state, _, created in open_runs if state in ("queued", "waiting")]
    oldest = max(0.0, now() - min(waiting)) if waiting else 0.0
    yield GaugeMetricFamily("stationmaster_run_waiting_seconds", "How long the oldest run in the queue waits.", oldest)


def _histogram(found: Tally, metric: str, bounds: tuple[float, ...], name: str, text: str) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["action"])
    for action in sorted({action for kind, action, _ in found if kind == metric}):
        buckets: list[tuple[str, float]] = []
        count = 0.0
        for bound in (*map(str, bounds), "+Inf"):
            count += found.get((metric, action, bound), 0)
            buckets.append((bound, count))
        family.add_metric([action], buckets, found[metric, action, SUM])
    return family
