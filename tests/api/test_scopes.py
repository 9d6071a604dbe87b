"""Every operation against every kind of token: what may be done is said once, here, and nowhere else in the tests."""

import functools
import itertools

import pytest
from fastapi.routing import iter_route_contexts

from api.access import RANK, SCOPES
from api.tables import Audit
from tests.api.small_event import Scene
from tests.api.stations_kit import host_key
from tests.api.test_door import problem

OPEN, SIGNED, VISUALS = "open", "signed", "visuals"
LEAST = {
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /metrics": "read",
    "GET /v1/whoami": "read",
    "GET /v1/tokens": "admin",
    "DELETE /v1/tokens/{token_id}": "admin",
    "POST /v1/enrolments": OPEN,
    "POST /v1/hello": SIGNED,
    "GET /v1/stations": "read",
    "GET /v1/stations/{name}": "read",
    "GET /v1/stations/{name}/figures": "read",
    "GET /v1/stations/{id}/lines": "read",
    "GET /v1/stations/{name}/journal": "read",
    "POST /v1/stations/{name}/accept": "admin",
    "POST /v1/stations/{name}/refuse": "admin",
    "POST /v1/stations/{name}/rotate": "admin",
    "POST /v1/runs": "operate",
    "GET /v1/runs": "read",
    "GET /v1/runs/{run_id}": "read",
    "GET /v1/runs/{run_id}/events": "read",
    "GET /v1/runs/{run_id}/stream": "read",
    "POST /v1/runs/{run_id}/cancel": "operate",
    "POST /v1/runs/{run_id}/retry": "operate",
    "GET /v1/rooms": "read",
    "GET /v1/rooms/{room}": "read",
    "POST /v1/rooms/{room}/override": "operate",
    "GET /v1/rooms/{room}/override": "read",
    "DELETE /v1/rooms/{room}/override": "operate",
    "GET /v1/schedule": "read",
    "GET /v1/visuals/directory": VISUALS,
    "POST /v1/visuals/log": VISUALS,
    "POST /v1/visuals/overrides/{id}/shown": VISUALS,
    "GET /v1/visuals/messages": "read",
    "GET /v1/visuals/channels": "read",
    "GET /v1/inventory": "read",
    "POST /v1/inventory/check": "read",
    "GET /v1/roles": "read",
    "GET /v1/roles/{role}": "read",
}
"""Operation to the least scope that opens it; what needs `visuals` opens to `admin`, too, and to nothing between. A new
operation is added here, or the first test fails."""
OPENING = {
    **{least: [scope for scope in RANK if RANK[scope] >= RANK[least]] for least in RANK},
    VISUALS: [VISUALS, "admin"],
}
"""To each of them the scopes that are enough."""
OF_THE_EVENT = {"DELETE /v1/tokens/{token_id}", "POST /v1/visuals/log"}
"""Changes of no room: a token of one room may not make them."""
UNDER_V1 = [operation for operation in LEAST if " /v1/" in operation]
CLOSED = [operation for operation, least in LEAST.items() if least in OPENING]
CHANGES = [
    operation for operation in CLOSED if not operation.startswith("GET ") and operation != "POST /v1/inventory/check"
]


class Asked(Scene):
    """A scene, and requests that are right in all but perhaps the token."""

    @functools.cached_property
    def unknown(self) -> str:
        """Id of the one machine that no line of the inventory knows."""
        return self.stranger()

    def override(self, room: str) -> str:
        """Id of an override of a room, as somebody set it."""
        body = {"text": "Soon", "minutes": 5}
        return self.api.post(f"/v1/rooms/{room}/override", json=body, headers=self.token("operate")).json()["id"]

    def ask(self, operation: str, headers: dict, room: str = "hall_b"):
        """Send an operation that concerns a room and that is right in all but perhaps the token."""
        method, path = operation.split(" ")
        station = "a1" if room == "hall_a" else "b1"
        body = None
        if operation == "POST /v1/runs":
            body = {"action": "apply", "target": {"room": room}}
        elif path.endswith("/cancel"):
            path = path.replace("{run_id}", self.run(station, "queued"))
        elif path.endswith(("/accept", "/refuse")):
            body = {"id": self.waiting(station)}
        elif path.endswith("/rotate"):
            self.enrolled(station)
        elif operation == "POST /v1/enrolments":
            body = {"hostname": "x", "macs": ["02:00:00:00:09:01"], "host_keys": [host_key()], "claim": "c" * 40}
        elif path.endswith("/lines"):
            path = path.replace("{id}", self.unknown)
        elif path.endswith("/override"):
            body = {"text": "Soon", "minutes": 5} if method == "POST" else None
            if method == "DELETE":
                self.override(room)
        elif path.endswith("/shown"):
            path, body = path.replace("{id}", self.override(room)), {"source": "vis/main"}
        elif path.endswith("/log"):
            sent = {"topic": "/topic/id/x/y/text", "body": "TEXT", "headers": {}, "when": 1, "source": "vis/main"}
            body = {"messages": [sent]}
        elif "{token_id}" in path:
            self.api.token("read", note="to be revoked")
            listed = self.api.get("/v1/tokens", headers=self.token("admin")).json()
            path = path.replace(
                "{token_id}",
                next(one["id"] for one in listed if one["note"] == "to be revoked" and not one["revoked_at"]),
            )
        path = path.replace("{run_id}", self.run(station, "failed")).replace("{name}", station)
        path = path.replace("{role}", "ingest").replace("{room}", room)
        return self.api.request(method, path, json=body, headers=headers)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Asked(tmp_path_factory.mktemp("scopes"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(scene):
    return scene.api.get("/openapi.json").json()


def test_the_table_and_the_document_have_every_operation(scene, document):
    documented = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert set(documented) == set(LEAST)
    # the pages are in the table of tests/pages/test_access.py, which also holds what has no methods; what the original
    # manager of RadioVIS answered is held by tests/api/test_radiovis.py
    served = {
        f"{method} {route.path}"
        for route in iter_route_contexts(scene.api.app.routes)
        if route.methods and not route.endpoint.__module__.startswith(("api.pages.", "api.radiovis"))
        for method in route.methods - {"HEAD"}
    }
    assert served - {"GET /openapi.json"} == set(LEAST)


def test_the_document_tells_which_credentials_each_operation_needs(document):
    for operation, least in LEAST.items():
        method, path = operation.split(" ")
        told = document["paths"][path][method.lower()].get("security", document.get("security"))
        if operation in UNDER_V1:
            assert told == {OPEN: [], SIGNED: [{"hello": []}]}.get(least, [{"token": []}]), operation
        else:
            assert told == (None if least == OPEN else [{"token": []}]), operation
    assert [operation for operation in UNDER_V1 if LEAST[operation] == OPEN] == ["POST /v1/enrolments"]


@pytest.mark.parametrize("operation", LEAST)
def test_without_a_valid_token_only_what_is_open_to_all_answers(scene, operation):
    valid = scene.token("admin")["Authorization"].removeprefix("Bearer ")
    bad = [
        {}, {"Authorization": "Bearer smt_wrong"}, {"Authorization": f"Basic {valid}"}, {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {valid[:-1]}"}, {"X-Token": valid}, {"Cookie": f"token={valid}"},
        scene.token("admin", days=-1),
    ]  # fmt: skip
    for headers in bad:
        answer = scene.ask(operation, headers)
        if LEAST[operation] == OPEN:
            assert answer.status_code in (200, 202), answer.text
        else:
            problem(answer, 401, "NotSigned" if LEAST[operation] == SIGNED else "NoValidToken")


def test_a_token_signs_no_hello(scene):
    for scope in SCOPES:
        problem(scene.ask("POST /v1/hello", scene.token(scope)), 401, "NotSigned")


@pytest.mark.parametrize("operation", CLOSED)
def test_a_scope_opens_what_it_is_enough_for(scene, operation):
    for scope, room in itertools.product(SCOPES, (None, "hall_b")):
        answer = scene.ask(operation, scene.token(scope, room))
        if scope not in OPENING[LEAST[operation]]:
            problem(answer, 403, "ScopeMissing")
        elif room is not None and operation in OF_THE_EVENT:
            problem(answer, 403, "RoomNotAllowed")
        else:
            # 404: nobody keeps journals here
            expected = (404,) if operation.endswith("/journal") else (200, 202, 204)
            assert answer.status_code in expected, (scope, room, answer.text)


@pytest.mark.parametrize("operation", CHANGES)
def test_a_token_of_one_room_changes_no_other(scene, operation):
    for scope in ("operate", "admin", VISUALS):
        if scope in OPENING[LEAST[operation]]:
            problem(scene.ask(operation, scene.token(scope, "hall_a"), "hall_b"), 403, "RoomNotAllowed")


@pytest.mark.parametrize("target", [{"everything": True}, {"room": "hall_b"}, {"station": "b1"}])
def test_whatever_names_a_station_of_another_room_is_refused_and_starts_nothing(scene, target):
    headers = scene.token("operate", "hall_a")
    before = scene.api.get("/v1/runs", headers=headers).json()
    body = {"action": "apply", "target": target}
    problem(scene.api.post("/v1/runs", json=body, headers=headers), 403, "RoomNotAllowed")
    assert scene.api.get("/v1/runs", headers=headers).json() == before


def test_a_key_of_another_token_opens_no_run_of_another_room(scene):
    body = {"action": "stop", "target": {"room": "hall_b"}}
    key = {"Idempotency-Key": "the same"}
    assert scene.api.post("/v1/runs", json=body, headers={**scene.token("operate"), **key}).status_code == 202
    answer = scene.api.post("/v1/runs", json=body, headers={**scene.token("operate", "hall_a"), **key})
    problem(answer, 403, "RoomNotAllowed")


def test_what_is_refused_leaves_no_trace_in_the_audit_as_done(scene):
    def entries():
        with scene.manager.database.reading() as session:
            return session.query(Audit).count()

    scene.waiting("b1")
    before = entries()
    headers = scene.token("operate", "hall_a")
    problem(scene.api.post("/v1/stations/b1/accept", json={}, headers=headers), 403, "ScopeMissing")
    problem(scene.api.post("/v1/runs", json={"action": "apply", "target": {"room": "hall_b"}}, headers=headers), 403,
            "RoomNotAllowed")  # fmt: skip
    assert entries() == before


def test_interrupting_what_is_on_air_needs_an_admin(scene):
    body = {"action": "apply", "target": {"room": "hall_a"}, "interrupt": True}
    problem(scene.api.post("/v1/runs", json=body, headers=scene.token("operate")), 403, "ScopeMissing")
    assert scene.api.post("/v1/runs", json=body, headers=scene.token("admin")).status_code == 202
