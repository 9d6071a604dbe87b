"""The OpenAPI document is true: whatever is asked by it, the answer is one that it tells."""

import json

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis.engine import events

from api.access import create_token
from tests.api.run_kit import ROOMS
from tests.api.small_event import Scene
from tests.api.stations_kit import put

EXAMPLES = 20
"""For each operation, beside those that cover each keyword of its schemas once."""

RULES = (
    "POST /v1/runs",
    "POST /v1/enrolments",
    "GET /v1/stations/{name}/journal",
    "GET /v1/stations/{id}/lines",
    "POST /v1/rooms/{room}/override",
    "GET /v1/visuals/messages",
)
"""Operations with rules that a schema cannot tell: names that the inventory has, keys that belong to their kind,
what does not go together."""
BEYOND_SCHEMA = {"positive_data_acceptance": {"expected-statuses": ["2xx", 401, 403, 404, 409, 422, 429]}}


class Described(Scene):
    """A scene with things to name, and the schema that schemathesis made of its document."""

    def __init__(self, folder) -> None:
        (folder / "journals").mkdir()
        super().__init__(folder, journals=folder / "journals")
        self.manager.ending.set()  # nothing waits for events that will never come
        self.machine = put(self.manager.database, self.manager.registry.secret, "b2", macs=["02:00:00:00:02:0b"])
        named = {
            "runs": [
                self.run(station, state) for station in ROOMS["hall_a"] for state in ("failed", "failed", "queued")
            ],
            "stations": [*ROOMS["hall_a"], *(self.waiting("b1") for _ in range(6))],
            "machines": [self.stranger() for _ in range(2)],
            "rooms": list(ROOMS),
            "tokens": [create_token(self.manager.database, "read")[0] for _ in range(3)],
            "roles": ["ingest", "encode"],
        }
        bound = {
            "path.run_id": "runs", "path.token_id": "tokens", "path.name": "stations", "path.role": "roles",
            "path.room": "rooms", "path.id": "machines",
            "query.room": "rooms", "query.station": "stations", "query.before": "runs",
        }  # fmt: skip
        config = schemathesis.Config.from_dict(
            {
                "dictionaries": {name: {"values": values} for name, values in named.items()},
                "parameters": {name: {"dictionary": value, "probability": 0.7} for name, value in bound.items()},
                "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
                "headers": self.api.token("admin"),
                "cache": {"enabled": False},
                "phases": {"stateful": {"enabled": False}},
                "operations": [{"include-name": name, "checks": BEYOND_SCHEMA} for name in RULES],
            }
        )
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", self.started, config=config)

    async def started(self, scope, receive, send) -> None:
        """The application without start and end: the scene is started, and would otherwise be with each request."""
        if scope["type"] != "lifespan":
            await self.api.app(scope, receive, send)
            return
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    made = Described(tmp_path_factory.mktemp("openapi"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def told(described):
    """What schemathesis found: failures as text, and the statuses that each operation answered with."""
    failures, statuses = [], {}
    for event in schemathesis.engine.from_schema(described.schema).execute():
        if isinstance(event, events.ScenarioFinished):
            for checks in event.recorder.checks.values():
                failures += [failure_of(event.recorder.label, check) for check in checks if check.failure_info]
            for interaction in event.recorder.interactions.values():
                if interaction.response is not None:
                    statuses.setdefault(event.recorder.label, set()).add(interaction.response.status_code)
        elif isinstance(event, events.NonFatalError):
            failures.append(f"{event.label}: {event.info}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return failures, statuses


def failure_of(label, check) -> str:
    info = check.failure_info
    return f"{label}: {check.name}: {info.failure.title} {info.failure.message}\n  {info.code_sample}"


def test_every_answer_is_one_that_the_document_tells(told):
    assert not told[0], "\n".join([f"{len(told[0])} failures", *told[0]])


def test_every_operation_was_asked_and_the_looking_ones_had_something_to_tell(described, told):
    asked = {operation.ok().label for operation in described.schema.get_all_operations()}
    assert set(told[1]) == asked
    done = {name for name, statuses in told[1].items() if any(status < 300 for status in statuses)}
    looks = {name for name in asked if name.startswith("GET ")}
    assert {*looks, "POST /v1/runs", "POST /v1/enrolments"} <= done, told[1]


def test_every_operation_has_a_summary_and_every_body_an_example(described):
    raw = described.schema.raw_schema
    for path, item in raw["paths"].items():
        for method, operation in item.items():
            assert " " in operation["summary"], (method, path)
            assert not operation["summary"].endswith("."), (method, path)
            assert operation["description"], (method, path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schema = content["schema"]
                schema = raw["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
                assert schema["examples"], (method, path)


def test_every_error_is_told_as_a_problem_document(described):
    for item in described.schema.raw_schema["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                assert status < "400" or list(response["content"]) == ["application/problem+json"]


def test_no_hello_that_a_station_signs_makes_the_manager_fail(described):
    """Bodies by the document, right and wrong ones; the signature is right."""
    machine, statuses = described.machine, set()

    @hypothesis.settings(max_examples=EXAMPLES * 3, derandomize=True, deadline=None, database=None,
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(
        strategies.one_of(
            *(
                described.schema["/v1/hello"]["POST"].as_strategy(generation_mode=mode)
                for mode in schemathesis.GenerationMode
            )
        ),
        strategies.booleans(),
    )
    def say(case, own):
        body = case.body
        if own and isinstance(body, dict):
            body = {**body, "macs": machine.macs, "boot_id": machine.boot}
        content = json.dumps(body, default=str).encode()
        machine.counter += 1
        answer = described.api.post("/v1/hello", content=content, headers=machine.headers(content))
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 409, 422), answer.text

    say()
    assert {200, 422} <= statuses
