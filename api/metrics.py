"""`GET /metrics`: what Prometheus reads, made at the time of the reading."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from api import run_figures, station_figures
from api.access import Reader
from api.problems import RESPONSES, Problem

router = APIRouter(tags=["health"], responses=RESPONSES)

HELLO_PATH = "/v1/hello"


class Requests:
    """Counts the requests of this process; each of several processes tells its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[str, tuple[int, float]] = {}

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one; `path` is the route's, so that there are few."""
        with self._lock:
            self._counts[method, path, status] += 1
            number, total = self._seconds.get(path, (0, 0.0))
            self._seconds[path] = (number + 1, total + seconds)

    def families(self) -> Iterator[Metric]:
        """Yield the metrics about requests."""
        with self._lock:
            counts, seconds = dict(self._counts), dict(self._seconds)
        total = CounterMetricFamily("stationmaster_requests", "Requests.", labels=["method", "path", "code"])
        hellos = CounterMetricFamily("stationmaster_hellos", "Hellos, by the status of the answer.", labels=["code"])
        for (method, path, status), count in sorted(counts.items()):
            total.add_metric([method, path, str(status)], count)
            if path == HELLO_PATH:
                hellos.add_metric([str(status)], count)
        took = SummaryMetricFamily("stationmaster_request_seconds", "Time for a request.", labels=["path"])
        for path, (number, spent) in sorted(seconds.items()):
            took.add_metric([path], count_value=number, sum_value=spent)
        yield from (total, hellos, took)


class _Everything:
    """prometheus_client's collector over one manager."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        manager = self._manager
        yield GaugeMetricFamily("stationmaster_start_time_seconds", "When the manager began.", manager.started_at)
        yield from manager.requests.families()
        yield from run_figures.families(manager.database)
        yield from station_figures.families(manager.registry, manager.inventory, manager.database)
        yield from _inventory(manager.inventory)
        yield from _files(manager.settings.certificate, manager.settings.journals)


def _inventory(inventory: Any) -> Iterator[Metric]:
    findings = GaugeMetricFamily("stationmaster_inventory_findings", "What is wrong with the newest inventory.")
    findings.add_metric([], len(inventory.findings))
    yield findings
    current = GaugeMetricFamily(
        "stationmaster_inventory", "1 with the revision of the inventory in force.", labels=["revision", "dirty"]
    )
    try:
        snapshot = inventory.current()
    except Problem:
        pass  # there never was one that passed the check; the findings say so
    else:
        current.add_metric([snapshot.revision, str(bool(snapshot.dirty)).lower()], 1)
    yield current


def _files(certificate: Path | None, journals: Path | None) -> Iterator[Metric]:
    ends = GaugeMetricFamily("stationmaster_certificate_end_seconds", "When the certificate ends, since 1970.")
    if certificate is not None:
        ends.add_metric([], _end_of(certificate))
    yield ends
    stored = GaugeMetricFamily("stationmaster_journals_bytes", "What the stations' journals take on the disk.")
    if journals is not None and journals.is_dir():
        stored.add_metric([], sum(path.stat().st_blocks * 512 for path in journals.glob("*.journal*")))
    yield stored


def _end_of(certificate: Path) -> float:
    from cryptography import x509

    end: datetime.datetime = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return end.timestamp()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}},
)
def metrics(request: Request, _principal: Reader) -> Response:
    """Tell runs, stations, inventory and requests as metrics for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything(request.app.state.manager))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
