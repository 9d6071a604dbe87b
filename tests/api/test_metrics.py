"""What Prometheus reads, and that alert rules and dashboard ask for nothing else."""

import json
import re
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.certificates import ensure
from api.clock import now
from api.problems import Problem
from api.settings import Settings
from api.tables import Run, Wanted
from tests.api.conftest import CHECKOUT, Api

MONITORING = CHECKOUT / "docs/monitoring"


@dataclass
class View:
    name: str | None
    room: str | None = None
    enrolment: str = "enrolled"
    state: str = "ready"
    presence: str = "present"
    seen_at: float | None = None
    said: dict[str, Any] = field(default_factory=dict)


def said(**more) -> dict[str, Any]:
    return {
        "applied": "aa", "units": {"a.service": {"healthy": True}, "b.service": {"healthy": False}},
        "state": {"held": [{"unit": "x"}], "on_air_until": now() + 60},
        "disk": {"free": 10, "size": 100, "hours_left": None}, "clock_offset": -0.002, "load": [0.5, 1, 2],
        "uptime": 7.0, "figures": {"ingest/main": {"last_segment_seconds": now() - 30, "note": "text", "speed": 1.0}},
        **more,
    }  # fmt: skip


@pytest.fixture
def api(tmp_path):
    ensure(tmp_path / "tls", ["localhost"])
    (tmp_path / "journals").mkdir()
    (tmp_path / "journals/remote-cam.journal").write_bytes(b"x" * 5000)
    settings = Settings(
        data=tmp_path / "data", certificate=tmp_path / "tls/server.pem", key=tmp_path / "tls/server.key",
        journals=tmp_path / "journals",
    )  # fmt: skip
    made = Api(settings)
    manager = made.manager
    views = [
        View("hall-a-cam", "hall_a", seen_at=now() - 3, said=said()),
        View('evil"} 1\n', "hall_a", seen_at=now(), said=said(figures={'in"gest/ma\nin': {"x": 1}})),
        View("new", state="new", presence="awaited"),
        View(None, enrolment="waiting", state="waiting"),
    ]
    manager.registry = SimpleNamespace(views=lambda: views)
    manager.inventory = SimpleNamespace(
        findings=["one"],
        wanted_of={"hall-a-cam": "bb", "new": "cc"}.get,
        current=lambda: SimpleNamespace(revision="abc", dirty=True),
    )
    yield made  # not started: who asks gets the parts above
    made.manager.database.close()


def read(api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = api.get("/metrics", headers=api.token("read"))
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for one in text_string_to_metric_families(answer.text)
        for sample in one.samples
    }


def value(found, metric, **labels):
    return found[metric, tuple(sorted(labels.items()))]


def run(identity, state="succeeded", action="apply", ended=True, **more) -> Run:
    at = more.pop("at", now())
    values = {
        "id": identity, "action": action, "target": {}, "parameters": {}, "stations": ["a"], "state": state,
        "author": "x", "body_hash": "", "created_at": at - 10, "started_at": at - 8 if ended else None,
        "ended_at": at if ended else None, "result": {},
    }  # fmt: skip
    return Run(**values, **more)


def test_it_needs_a_token(api):
    assert api.get("/metrics").status_code == 401
    assert api.get("/metrics", headers=api.token("enrol")).status_code == 403


def test_stations_are_told_as_they_are(api):
    with api.manager.database.writing() as session:
        session.add(Wanted(station="hall-a-cam", revision="abc", hash="bb", at=now() - 100))
        session.add(Wanted(station="hall-a-cam", revision="abd", hash="bb", at=now() - 50))
    found = read(api)
    cam = {"station": "hall-a-cam", "room": "hall_a"}
    assert value(found, "stationmaster_station_state", **cam, state="ready") == 1
    assert 3 <= value(found, "stationmaster_station_hello_age_seconds", **cam) < 30
    assert 100 <= value(found, "stationmaster_station_config_age_seconds", **cam) < 130
    main = {**cam, "role": "ingest", "instance": "main"}
    assert 30 <= value(found, "stationmaster_station_last_segment_age_seconds", **main) < 60
    assert value(found, "stationmaster_station_figure", **main, figure="speed") == 1
    assert ("stationmaster_station_figure", "note") not in {
        (name, dict(labels).get("figure")) for name, labels in found
    }
    assert value(found, "stationmaster_station_units", **cam, healthy="false") == 1
    assert value(found, "stationmaster_station_on_air", **cam) == 1
    assert value(found, "stationmaster_station_clock_offset_seconds", **cam) == -0.002
    assert value(found, "stationmaster_machines", enrolment="waiting") == 1
    assert value(found, "stationmaster_station_presence", station="new", room="", presence="awaited") == 1
    assert not [1 for name, labels in found if name.endswith("hello_age_seconds") and ("station", "new") in labels]


def test_the_inventory_and_files_are_told(api):
    found = read(api)
    assert value(found, "stationmaster_inventory_findings") == 1
    assert value(found, "stationmaster_inventory", revision="abc", dirty="true") == 1
    assert value(found, "stationmaster_certificate_end_seconds") > now() + 800 * 86400
    assert value(found, "stationmaster_journals_bytes") >= 5000

    def never():
        raise Problem(503, "InventoryUnusable", "", "")

    api.manager.inventory.current = never
    assert not [name for name, _ in read(api) if name == "stationmaster_inventory"]


def test_runs_are_counted_and_timed(api):
    with api.manager.database.writing() as session:
        session.add_all([run("1"), run("2"), run("3", "failed", "check"), run("4", "queued", ended=False)])
        session.add(run("5", "running", ended=False))
    found = read(api)
    assert value(found, "stationmaster_runs_total", action="apply", result="succeeded") == 2
    assert value(found, "stationmaster_runs_total", action="check", result="failed") == 1
    assert value(found, "stationmaster_run_wait_seconds_bucket", action="apply", le="1.0") == 0
    assert value(found, "stationmaster_run_wait_seconds_bucket", action="apply", le="5.0") == 2
    assert value(found, "stationmaster_run_seconds_bucket", action="apply", le="+Inf") == 2
    assert value(found, "stationmaster_run_seconds_sum", action="apply") == pytest.approx(16)
    assert value(found, "stationmaster_runs_now", state="running") == 1
    assert value(found, "stationmaster_run_waiting_seconds") >= 10


def test_requests_are_counted_by_route_never_by_what_was_asked(api):
    for number in range(3):
        api.get(f"/v1/nothing-{number}")
    api.get("/healthz")
    found = read(api)
    assert value(found, "stationmaster_requests_total", method="GET", path="other", code="404") == 3
    assert value(found, "stationmaster_requests_total", method="GET", path="/healthz", code="200") == 1
    assert value(found, "stationmaster_request_seconds_count", path="other") == 3


def test_counting_loses_nothing_among_threads(api):
    threads = [
        threading.Thread(target=lambda: [api.manager.requests.count("GET", "/x", 200, 0.1) for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(read(api), "stationmaster_requests_total", method="GET", path="/x", code="200") == 4000


def names_in(expression: str) -> set[str]:
    """The metrics of an expression: words with our prefix, and `up`, outside of texts and label lists."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(by|on)\s*\([^)]*\)', "", expression)
    return set(re.findall(r"\bstationmaster_\w+\b|\bup\b", bare))


def asked() -> dict[str, set[str]]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    texts = {rule["alert"]: [rule["expr"]] for rule in rules}
    texts |= {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}
    return {where: set().union(*map(names_in, expressions)) for where, expressions in texts.items()}


@pytest.mark.parametrize("where", asked())
def test_what_is_asked_for_is_there(api, where):
    with api.manager.database.writing() as session:
        session.add_all([run("1"), run("2", "queued", ended=False)])
    api.manager.requests.count("POST", "/v1/hello", 200, 0.001)
    text = api.get("/metrics", headers=api.token("read")).text
    families = {}
    for one in text_string_to_metric_families(text):
        families |= {sample.name: one.name for sample in one.samples} | {one.name: one.name}
    # `up` is Prometheus's own; a family without samples is there all the same
    assert names_in(" ".join(asked()[where])) - families.keys() - {"up"} == set()


def test_every_rule_says_what_to_do():
    for rule in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]:
        assert rule["annotations"]["summary"] and rule["annotations"]["action"], rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_a_metric_that_is_not_there_is_found():
    assert names_in('rate(stationmaster_x_total{a="stationmaster_y"}[5m]) and on (up) up{b="c"} > 0') == {
        "stationmaster_x_total", "up",
    }  # fmt: skip
