"""The pages of stations, enrolment and the inventory."""

from datetime import datetime
from zoneinfo import ZoneInfo

from api.clock import now
from stationmaster.schedule_formats import Talk
from stationmaster.schedule_plan import Plan
from tests.api.stations_kit import Machine, applied, unit
from tests.pages.conftest import signed_in, word_of


def test_a_waiting_machine_is_let_in_and_its_station_shown(scene, browser):
    identity = scene.waiting("a1")
    signed_in(scene, browser, "operate")
    page = browser.get("/enrolment").text
    assert identity not in page  # nothing to press: letting in is an admin's
    assert "would be the machine <b>a1</b>" in page
    signed_in(scene, browser, "admin")
    page = browser.get("/enrolment").text
    assert identity in page
    assert browser.post("/enrolment/a1/accept", data={"id": identity}).status_code == 403
    answer = browser.post("/enrolment/a1/accept", data={"id": identity, "word": word_of(browser)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/enrolment"), answer.text
    assert identity not in browser.get("/enrolment").text
    assert "hall_a" in browser.get("/stations/a1").text


def test_what_a_station_says_is_text(scene, browser):
    machine = Machine("b1", macs=["02:00:00:00:02:0a"])
    token = scene.token("enrol")
    assert machine.enrol(scene.api, token).status_code == 201
    told = applied(
        units={"stationmaster-<b>@<img src=x>.service": unit(status="<script>alert(1)</script>")},
        disk={"free": 1, "size": 2, "hours_left": None}, clock_offset=-0.5,
    )  # fmt: skip
    assert machine.hello(scene.api, **told).status_code == 200
    signed_in(scene, browser, "read")
    page = browser.get("/stations/b1").text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img" not in page
    assert "-0.500 s" in page
    assert 'href="/stations/b1"' in browser.get("/").text


def test_an_unknown_station_is_a_page_that_says_so(scene, browser):
    signed_in(scene, browser, "read")
    answer = browser.get("/stations/<b>nobody")
    assert answer.status_code == 404
    assert "&lt;b&gt;nobody" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert browser.get("/v1/stations/nobody").headers["content-type"] == "application/problem+json"


def test_the_inventory_is_told(scene, browser):
    signed_in(scene, browser, "read")
    page = browser.get("/inventory").text
    assert "In force" in page
    assert "None." in page


def test_the_title_of_a_talk_is_text_and_its_time_the_events(scene, browser, monkeypatch):
    at = now()
    evil = "<script>alert(1)</script>\"><img src=x onerror='alert(1)'>"
    talks = [Talk("1", evil, (), "A", at - 60, at + 60), Talk("2", evil, (), "A", at + 60, at + 120)]
    plan = Plan(timezone="Asia/Tokyo", rooms={"hall_a": talks})
    monkeypatch.setattr(scene.manager.schedule, "plan", lambda: plan)
    signed_in(scene, browser, "read")
    hour = datetime.fromtimestamp(at + 60, ZoneInfo("Asia/Tokyo")).strftime("%H:%M")
    for path in ("/", "/rooms/hall_a", "/board"):
        page = browser.get(path).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert f"{hour} " in page
