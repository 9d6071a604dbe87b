"""What every request passes: tokens, scopes, limits, problem documents."""

import json
import signal
import subprocess
import sys

import pytest

from api.access import find_token, revoke_token
from api.guard import BODY_BYTES, RateLimit
from api.problems import Problem
from stationmaster.cli import main
from tests import plain_http
from tests.api.conftest import CHECKOUT

MEMBERS = {"type", "title", "status", "detail", "code", "retryable", "action"}


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= MEMBERS
    assert (answer.json()["status"], answer.json()["code"]) == (status, code)
    return answer.json()


def test_without_a_token_nothing_is_told(api):
    assert problem(api.get("/v1/whoami"), 401, "NoValidToken")["action"]
    assert api.get("/v1/whoami").headers["www-authenticate"] == "Bearer"
    problem(api.get("/v1/whoami", headers={"Authorization": "Bearer smt_wrong"}), 401, "NoValidToken")


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("operate", 403), ("admin", 200), ("enrol", 403)])
def test_a_scope_opens_what_it_names(api, scope, status):
    assert api.get("/v1/tokens", headers=api.token(scope)).status_code == status


def test_a_token_ends_with_its_time_and_by_revocation(api):
    past = api.token("read", days=-1)
    problem(api.get("/v1/whoami", headers=past), 401, "NoValidToken")
    admin, reader = api.token("admin"), api.token("read", note="a screen")
    identity = api.get("/v1/whoami", headers=reader).json()["id"]
    assert api.delete(f"/v1/tokens/{identity}", headers=admin).status_code == 204
    problem(api.get("/v1/whoami", headers=reader), 401, "NoValidToken")
    problem(api.delete(f"/v1/tokens/{identity}", headers=admin), 404, "NotFound")
    assert not revoke_token(api.manager.database, identity)


def test_only_the_hash_of_a_token_is_kept(api, tmp_path):
    secret = api.token("read")["Authorization"].removeprefix("Bearer ")
    assert find_token(api.manager.database, secret)
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("send", [b"x" * (BODY_BYTES + 1), (b"x" * 1000 for _ in range(BODY_BYTES // 1000 + 2))])
def test_a_body_has_a_limit_with_and_without_a_length(api, send):
    problem(api.post("/v1/tokens", content=send, headers=api.token("admin")), 413, "BodyTooLarge")


def test_unknown_things_are_problems_too(api):
    problem(api.get("/v1/nothing"), 404, "NotFound")
    problem(api.post("/healthz"), 405, "MethodNotAllowed")


def test_an_error_of_ours_tells_nothing_and_is_a_problem(api, caplog):
    api.manager.database.reading = None
    told = problem(api.get("/v1/whoami", headers={"Authorization": "Bearer smt_x"}), 500, "InternalError")
    assert told["retryable"]
    assert "NoneType" not in json.dumps(told)
    assert "/v1/whoami failed" in caplog.text


def test_what_is_open_to_all_is_rate_limited():
    limit = RateLimit(3)
    for _ in range(3):
        limit.check("192.0.2.1")
    limit.check("192.0.2.2")
    with pytest.raises(Problem) as caught:
        limit.check("192.0.2.1")
    assert (caught.value.status, caught.value.retryable) == (429, True)


def test_served_it_takes_tokens_made_beside_it_and_ends_when_told(serve):
    manager = serve("-i", str(CHECKOUT / "inventory"))
    command = [sys.executable, "-m", "stationmaster", "token", "create", "--data", manager.data, "--scope", "read"]
    done = subprocess.run(
        [*command, "--room", "hall_a"],
        cwd=CHECKOUT,
        env=manager.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    told = plain_http.get(f"{manager.url}/v1/whoami", headers=headers)
    assert (told.json()["scope"], told.json()["room"]) == ("read", "hall_a")
    assert "access-control-allow-origin" not in told.headers
    assert told.headers["x-content-type-options"] == "nosniff"
    assert manager.stop() in (0, -signal.SIGTERM)  # uvicorn ends in order, then by the signal itself
    manager.start()
    assert plain_http.get(f"{manager.url}/v1/whoami", headers=headers).status_code == 200
    manager.stop(signal.SIGKILL)
    manager.start()
    assert plain_http.get(f"{manager.url}/v1/whoami", headers=headers).status_code == 200


def test_a_setting_that_cannot_be_is_told_in_a_line(tmp_path, capsys):
    assert main(["serve", "--data", str(tmp_path), "--port", "99999"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("stationmaster: port: ")
    assert "65535" in said
    assert said.count("\n") == 1
