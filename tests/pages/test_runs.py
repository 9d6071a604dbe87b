"""The pages of runs, against a queue that stands still."""

import re
from typing import get_args

import pytest
from markupsafe import escape

from api.access import create_token
from api.clock import now
from api.pages import run_plan
from api.run_request import Action
from tests.pages.conftest import signed_in, word_of


def test_runs_are_listed_and_shown_with_what_may_be_done(scene, browser):
    queued, failed = scene.run("a1", "queued"), scene.run("b1", "failed")
    signed_in(scene, browser, "operate", room="hall_a")
    page = browser.get("/runs").text
    assert page.index(failed) < page.index(queued)
    assert ">Cancel<" in browser.get(f"/runs/{queued}").text
    assert "Again" not in browser.get(f"/runs/{failed}").text  # of another room
    browser.cookies.clear()
    signed_in(scene, browser, "operate")
    assert "Again" in browser.get(f"/runs/{failed}").text
    word = word_of(browser)
    assert browser.post(f"/runs/{queued}/cancel", data={}).status_code == 403
    assert browser.post(f"/runs/{queued}/cancel", data={"word": word}).headers["location"] == f"/runs/{queued}"
    assert "canceled" in browser.get(f"/runs/{queued}").text


def test_who_may_only_read_is_offered_nothing(scene, browser):
    queued = scene.run("a1", "queued")
    signed_in(scene, browser, "read")
    assert ">Cancel<" not in browser.get(f"/runs/{queued}").text
    assert browser.post(f"/runs/{queued}/cancel", data={"word": word_of(browser)}).status_code == 403


def test_markup_in_what_is_told_is_text(scene, browser):
    create_token(scene.manager.database, "read")
    failed = scene.run("a1", "failed")
    from api.tables import Run

    with scene.manager.database.writing() as session:
        run = session.get(Run, failed)
        run.reason = "<script>alert(1)</script>"
        run.result = {"stations": {"a1": {"state": "failed", "error": {"message": "<img src=x onerror=alert(1)>"}}}}
    signed_in(scene, browser, "read")
    page = browser.get(f"/runs/{failed}").text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img" not in page


def shown(scene, **more):
    """A dry run that has ended."""
    from api.tables import Run

    made = scene.run("a1", "succeeded")
    with scene.manager.database.writing() as session:
        run = session.get(Run, made)
        run.parameters = {"dry_run": True, "force": True}
        run.ended_at = run.created_at + 1
        run.result = {"stations": {"a1": {"state": "ok", "apply": {"result": "changed", "changed": ["x"]}}}}
        for name, value in more.items():
            setattr(run, name, value)
    return made


def test_what_a_dry_run_showed_is_done_once_however_often_it_is_pressed(scene, browser):
    made = shown(scene)
    signed_in(scene, browser, "operate")
    assert 'id="do"' in browser.get(f"/runs/{made}").text
    word = word_of(browser)
    ways = {browser.post(f"/runs/{made}/do", data={"word": word}).headers["location"] for _ in range(3)}
    assert len(ways) == 1
    told = scene.api.get(f"/v1{ways.pop()}", headers=scene.token("read")).json()
    assert (told["action"], told["stations"], told["parameters"]) == ("apply", ["a1"], {"force": True})


def test_each_action_of_the_api_can_be_chosen():
    assert set(run_plan.MEANING) == set(get_args(Action))


def test_what_a_dry_run_did_not_reach_is_not_called_safe(scene, browser):
    signed_in(scene, browser, "operate")
    assert "Would interrupt no live unit" in browser.get(f"/runs/{shown(scene)}").text
    told = {"a1": {"state": "ok", "apply": {"interrupts": ["stationmaster-ingest@main.service"]}}}
    page = browser.get(f"/runs/{shown(scene, result={'stations': told})}").text
    assert "Would interrupt on a1: <b>ingest@main</b>" in page
    assert 'class="danger"' in page
    told = {"a1": {"state": "unreachable"}}
    page = browser.get(f"/runs/{shown(scene, result={'stations': told}, state='unreachable')}").text
    assert "Not known of a1" in page
    assert "no live unit" not in page
    assert 'class="danger"' in page


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"parameters": {}}, "no dry run"),
        ({"state": "running", "ended_at": None}, "not ended"),
        ({"state": "canceled"}, "it is canceled"),
        ({"created_at": 5.0}, "inventory has changed"),
        ({"ended_at": 1000.0}, "minutes old"),
    ],
)
def test_what_may_be_different_by_now_has_to_be_looked_at_again(scene, browser, more, why):
    # "now" of this test, not of its collecting: many minutes may lie between
    made = shown(scene, **({"ended_at": now()} | more))
    signed_in(scene, browser, "operate")
    assert 'id="do"' not in browser.get(f"/runs/{made}").text
    answer = browser.post(f"/runs/{made}/do", data={"word": word_of(browser)})
    assert answer.status_code == 409
    assert why in answer.text


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"action": "apply"}, "target: choose one"),
        ({"action": "fly", "target": "room:hall_a"}, "action: choose one"),
        ({"action": "apply", "target": "room:*"}, "target: choose one"),
        ({"action": "apply", "target": "room:nowhere"}, "no room"),
        ({"action": "apply", "target": "station:hall_a"}, "is a room"),
        ({"action": "on-air", "target": "room:hall_a"}, "needs minutes"),
        ({"action": "on-air", "target": "room:hall_a", "minutes": "-1"}, "no whole number"),
        ({"action": "apply", "target": "room:hall_a", "minutes": "5"}, "minutes is for on-air"),
        ({"action": "rollback", "target": "room:hall_a", "generation": "<b>", "reason": "a 'b'"}, "&lt;b&gt;"),
    ],
)
def test_a_form_with_a_mistake_comes_back_with_what_was_written(scene, browser, form, why):
    signed_in(scene, browser, "operate")
    before = scene.api.get("/v1/runs", headers=scene.token("read")).json()["runs"]
    answer = browser.post("/run/new", data={**form, "word": word_of(browser)})
    assert answer.status_code == 422
    assert why in answer.text
    refused = ("fly", "room:*", "room:nowhere", "station:hall_a")  # a choice that there is not
    assert all(str(escape(text)) in answer.text for text in form.values() if text not in refused)
    assert scene.api.get("/v1/runs", headers=scene.token("read")).json()["runs"] == before


def test_only_an_admin_is_offered_to_interrupt(scene, browser):
    signed_in(scene, browser, "operate", room="hall_a")
    page = browser.get("/run/new").text
    assert 'name="interrupt"' not in page
    assert "hall_b" not in page
    assert 'value="everything"' not in page
    form = {"action": "apply", "target": "room:hall_a", "interrupt": "yes", "word": word_of(browser)}
    assert browser.post("/run/new", data=form).status_code == 403
    signed_in(scene, browser, "admin")
    assert 'name="interrupt"' in browser.get("/run/new").text


def test_the_log_is_searched_by_text_and_station_and_paged(scene, browser):
    from api.pages import run_log
    from api.tables import RunEvent

    made = scene.run("a1", "failed")
    with scene.manager.database.writing() as session:
        for number in range(1, run_log.SHOWN + 101):
            data = {"text": f"\x1b[31mline <{number}>\x1b[0m"} if number % 10 else {}
            station = "a1" if number % 2 else None
            session.add(RunEvent(run=made, number=number, at=now(), kind="verbose", station=station, data=data))
    signed_in(scene, browser, "read")

    def numbers(query):
        return [int(one) for one in re.findall(r'<li id="e(\d+)"', browser.get(f"/runs/{made}/log?{query}").text)]

    assert numbers("search=LINE <7>") == [7]
    assert numbers("search=<7>&station=a1") == [7]
    assert numbers("search=<8>&station=a1") == []
    assert "line &lt;7&gt;" in browser.get(f"/runs/{made}/log?search=<7>").text
    said = [number for number in range(1, run_log.SHOWN + 101) if number % 10]
    assert numbers("") == said[: run_log.SHOWN]
    assert f"after={said[run_log.SHOWN - 1]}" in browser.get(f"/runs/{made}/log").text
    assert numbers(f"after={said[run_log.SHOWN - 1]}") == said[run_log.SHOWN :]
