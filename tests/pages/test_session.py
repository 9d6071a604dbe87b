"""The way in: who gets a session, what it is worth, and what ends it."""

import copy
import dataclasses

import pytest

from api.access import create_token, revoke_token
from tests.pages.conftest import signed_in, word_of


def test_a_token_opens_the_page_and_is_not_in_the_cookie(scene, browser):
    assert browser.get("/").headers["location"] == "/sign-in?next=/"
    _identity, token, answer = signed_in(scene, browser)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert token not in cookie
    page = browser.get("/")
    assert page.status_code == 200
    assert "hall_a" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("token", ["", "smt_wrong", "x" * 100_000, "<script>alert(1)</script>"])
def test_a_wrong_token_opens_nothing_and_is_told(browser, token):
    answer = browser.post("/sign-in", data={"token": token, "next": "/runs"})
    assert answer.status_code == 401
    assert "not valid" in answer.text
    assert "set-cookie" not in answer.headers
    assert "<script>" not in answer.text


def test_a_token_that_enrols_shows_nothing(scene, browser):
    _identity, token = create_token(scene.manager.database, "enrol")
    assert browser.post("/sign-in", data={"token": token}).status_code == 401


def test_a_revoked_token_ends_its_sessions(scene, browser):
    identity, _token, _answer = signed_in(scene, browser)
    assert browser.get("/").status_code == 200
    revoke_token(scene.manager.database, identity)
    assert browser.get("/").status_code == 303
    assert browser.get("/", headers={"HX-Request": "true"}).headers["hx-redirect"] == "/sign-in?next=/"


def test_after_a_form_that_came_too_late_one_is_on_its_page_again(browser):
    answer = browser.post("/runs/x/cancel", headers={"Referer": "https://here/runs/x?a=b"})
    assert answer.headers["location"] == "/sign-in?next=/runs/x"


@pytest.mark.parametrize("cookie", ["", "x", "WyJhIiwiYiJd.aaaa.bbbb", "ä" * 50])
def test_a_forged_cookie_is_no_session(browser, cookie):
    browser.cookies.set("stationmaster", cookie.encode("ascii", "ignore").decode())
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("/runs", "/runs"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\r\nX: y", "/"),
    ],
)
def test_it_leads_back_to_a_page_of_ours_only(scene, browser, asked, way):
    _identity, token = create_token(scene.manager.database, "read")
    answer = browser.post("/sign-in", data={"token": token, "next": asked})
    assert (answer.status_code, answer.headers["location"]) == (303, way)


def test_a_change_needs_the_word_of_the_session_and_our_own_site(scene, browser):
    signed_in(scene, browser)
    word = word_of(browser)
    assert browser.post("/sign-out", data={}).status_code == 403
    assert browser.post("/sign-out", data={"word": word[:-1] + "!"}).status_code == 403
    foreign = browser.post("/sign-out", data={"word": word}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert browser.get("/").status_code == 200
    assert browser.post("/sign-out", data={"word": word}).status_code == 303
    assert browser.get("/").status_code == 303


def test_another_site_cannot_sign_one_in(scene, browser):
    _identity, token = create_token(scene.manager.database, "read")
    answer = browser.post("/sign-in", data={"token": token}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("minutes", ["", "x", "-5", "99999", "1441", "<b>"])
def test_minutes_that_are_none_are_refused_with_a_reason(scene, browser, minutes):
    signed_in(scene, browser, "operate")
    answer = browser.post("/rooms/hall_a/on-air", data={"minutes": minutes, "word": word_of(browser)})
    assert answer.status_code == 422
    assert "minutes" in answer.text
    assert "<b>" not in answer.text


def test_a_form_of_too_many_fields_is_refused_from_anybody(browser):
    answer = browser.post("/sign-in", data={f"field{number}": "x" for number in range(101)})
    assert answer.status_code == 422
    assert "too many fields" in answer.text


def test_a_browser_keeps_the_static_files(browser):
    first = browser.get("/static/style.css")
    assert first.headers["cache-control"] == "no-cache"
    assert browser.get("/static/style.css", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert browser.get("/static/../access.py").status_code == 404


def test_stations_of_no_room_have_a_card_too(scene, browser, monkeypatch):
    signed_in(scene, browser, "operate")
    now = scene.manager.inventory.current()
    event = copy.deepcopy(now.event)
    event.stations["a1"].room = None
    monkeypatch.setattr(scene.manager.inventory, "current", lambda: dataclasses.replace(now, event=event))
    page = browser.get("/").text
    assert page.count('href="/stations/a1"') == 1
    assert "Services" in page
    page = browser.get("/rooms/services").text
    assert 'href="/stations/a1"' in page
    assert 'href="/stations/a2"' not in page
    assert "Set on air" not in page
    assert "Set on air" in browser.get("/rooms/hall_a").text
