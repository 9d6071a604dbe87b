"""Lines of the log: JSON, about a run, a station and a request, and without secrets."""

import json
import logging
import re

import pytest

from api.access import PREFIX
from api.logging import LONGEST, JsonLines, about, configuration, without_secrets
from tests import plain_http


@pytest.fixture
def lines():
    """A logger with our format, and what it wrote."""
    found = []

    class Keeper(logging.Handler):
        def emit(self, record):
            found.append(json.loads(self.format(record)))

    logger = logging.Logger("stationmaster.test")
    keeper = Keeper()
    keeper.setFormatter(JsonLines())
    logger.addHandler(keeper)
    return logger, found


def test_a_line_says_what_it_is_about(lines):
    logger, found = lines
    logger.info("alone")
    with about(run="01", station="hall-a-cam"):
        logger.warning("within\ntwo lines")
        with about(station="hall-a-enc"):
            logger.info("inner")
        logger.info("outer", extra={"station": "given"})
    assert found[0].keys() == {"time", "level", "logger", "message"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    assert found[1]["level"] == "warning"
    assert [(line.get("run"), line.get("station")) for line in found] == [
        (None, None), ("01", "hall-a-cam"), ("01", "hall-a-enc"), ("01", "given"),
    ]  # fmt: skip


def test_an_error_is_in_the_line(lines):
    logger, found = lines
    try:
        raise ValueError("x" * LONGEST + "end")
    except ValueError:
        logger.exception("it failed")
    assert found[0]["error"].endswith("end")
    assert len(found[0]["error"]) == LONGEST


def test_secrets_are_struck_out(lines):
    logger, found = lines
    secret = PREFIX + "a" * 43
    address = "postgresql://manager:hunter2@db.example/x"
    logger.info("token %s at %s", secret, address)
    try:
        raise ValueError(f"{secret} {address}")
    except ValueError:
        logger.exception("no")
    assert secret not in json.dumps(found)
    assert "hunter2" not in json.dumps(found)
    assert without_secrets(address) == "postgresql://***@db.example/x"


def test_a_person_at_a_terminal_gets_plain_text():
    assert "format" in configuration(terminal=True)["formatters"]["lines"]
    assert "()" in configuration(terminal=False)["formatters"]["lines"]


def test_served_each_line_is_json_and_a_change_has_its_request(serve, tmp_path):
    manager = serve()
    admin = manager.token("admin")
    identity = plain_http.get(f"{manager.url}/v1/whoami", headers=manager.token("read")).json()["id"]
    answer = plain_http.delete(f"{manager.url}/v1/tokens/{identity}", headers=admin)
    assert answer.status_code == 204
    manager.stop()
    lines = [json.loads(line) for line in (tmp_path / "serve.log").read_text().splitlines()]
    mine = [line for line in lines if line.get("request") == answer.headers["x-request-id"]]
    assert [line["message"].partition(":")[0] for line in mine] == ["DELETE /v1/tokens/{token_id}"]
    assert admin["Authorization"].split()[1] not in (tmp_path / "serve.log").read_text()
