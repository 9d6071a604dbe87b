"""The pages in a real browser, before a manager without stations: news, a lost manager, weight, keyboard, markup."""

import time

import pytest
from playwright.sync_api import expect

from tests import plain_http
from tests.api.conftest import Served
from tests.api.run_kit import wait_for
from tests.api.small_event import SmallEvent
from tests.api.stations_kit import applied, put_served, unit
from tests.pages.browser import chromium, fits, places, serious, visitor

pytestmark = pytest.mark.timeout(180)
EVIL = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">"
WEIGHT = 200_000
"""Bytes that a page may take without video."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    event = SmallEvent(folder / "project", event_title=EVIL)
    made = Served(folder / "data", "-i", str(event.inventory), STATIONMASTER_PROJECT=str(event.folder))
    try:
        headers = made.token("read")

        def known():
            told = plain_http.get(f"{made.url}/v1/inventory", headers=headers).json()
            assert not told["newest"]["findings"], told
            return told["in_force"] and told["rendering"]["done"] == told["rendering"]["total"]

        wait_for(known)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def page(served, browser):
    token = served.token("admin")["Authorization"].removeprefix("Bearer ")
    with visitor(browser, served.url, token) as made:
        yield made


@pytest.fixture(scope="module")
def machine(served):
    return put_served(served, "a1")


def say(served, machine, **more):
    with plain_http.Client(base_url=served.url) as client:
        assert machine.hello(client, **applied(**more)).status_code == 200


def test_what_a_station_says_shows_by_itself_and_moves_nothing(served, machine, page):
    card = page.locator("#room-hall_a")
    before = places(page, ".card a")
    assert before
    say(served, machine)
    expect(card.get_by_role("region", name="a1")).to_contain_text("not as wanted", timeout=4000)
    broken = unit(healthy=False, active="failed", status="x" * 900)
    say(served, machine, units={"stationmaster-web@station.service": broken})
    expect(card).to_contain_text("web@station is not well", timeout=4000)
    assert places(page, ".card a") == before


def test_markup_from_a_station_or_the_inventory_is_text(served, machine, page):
    say(
        served, machine, units={f"stationmaster-{EVIL}@x.service": unit(status=EVIL, healthy=False)},
        state={"held": [{"unit": EVIL, "reason": EVIL}], "pinned": {"generation": 1, "reason": EVIL, "who": EVIL}},
        revision=EVIL, generations=[{"number": 1, "applied": None, "revision": EVIL, "at": 1.0, "good": True}],
    )  # fmt: skip
    for path in ("/", "/rooms/hall_a", "/stations/a1", "/run/new", "/enrolment", "/board"):
        page.goto(path)
        expect(page.get_by_role("heading").first).to_be_visible()
        page.wait_for_timeout(1200)  # the first news of the stream, too
        assert "broken" not in page.evaluate("document.title").replace(EVIL, "")
        assert page.locator("main script, main img:not(.preview)").count() == 0
    page.goto("/stations/a1")
    assert page.locator("#details").get_by_text(EVIL).count() > 0


def test_a_lost_connection_is_told_and_heals(served, page):
    told = page.locator("#link")
    expect(told).to_be_hidden()
    served.stop()
    try:
        expect(told).to_be_visible(timeout=15000)
    finally:
        served.start()
    expect(told).to_be_hidden(timeout=30000)


def test_a_stream_that_could_not_begin_is_told_and_begun_anew(page):
    """The manager goes away just as a page has come."""
    away = "**/rooms/changes*", "**/healthz"
    for path in away:
        page.route(path, lambda route: route.abort("connectionrefused"))
    page.goto("/")
    expect(page.locator("#link")).to_be_visible()
    with page.expect_response("**/rooms/changes*", timeout=15_000):
        for path in away:
            page.unroute(path)
    expect(page.locator("#link")).to_be_hidden()


def test_who_has_no_session_any_more_is_asked_to_sign_in(served, browser):
    before = {one["id"] for one in plain_http.get(f"{served.url}/v1/tokens", headers=served.token("admin")).json()}
    with visitor(browser, served.url, served.token("read")["Authorization"].removeprefix("Bearer ")) as page:
        page.goto("/runs")
        page.goto("/")
        expect(page.locator("#room-hall_a")).to_be_visible()
        headers = served.token("admin")
        for one in plain_http.get(f"{served.url}/v1/tokens", headers=headers).json():
            if one["id"] not in before and one["scope"] == "read":
                plain_http.delete(f"{served.url}/v1/tokens/{one['id']}", headers=headers).raise_for_status()
        served.stop()  # the stream has to begin anew, as it does by itself every few minutes
        served.start()
        expect(page.get_by_label("Your token")).to_be_visible(timeout=15_000)


def test_a_stream_that_died_without_a_word_is_noticed_and_begun_anew(served, machine, page):
    page.goto("/")
    expect(page.locator("#room-hall_a")).to_be_visible()
    page.clock.install()
    page.reload()
    # the stream hangs for ever, as when a phone went from one network to the other
    page.route("**/rooms/changes*", lambda route: None)
    page.reload()
    page.unroute("**/rooms/changes*")
    page.clock.fast_forward(27_000)
    say(served, machine)
    expect(page.locator("#room-hall_a")).to_contain_text("not as wanted", timeout=10_000)


def test_a_stream_begins_even_if_a_script_is_late(served, machine, page):
    def late(route):
        time.sleep(0.5)
        route.continue_()

    page.route("**/hx-sse.min.js", late)
    with page.expect_request("**/rooms/changes", timeout=5000):
        page.goto("/")


def test_a_page_is_light_and_loads_from_the_manager_alone(served, page):
    asked = []
    page.on("request", lambda one: asked.append(one.url) if "/changes" not in one.url else None)
    for path in ("/", "/runs", "/stations/a1", "/enrolment", "/channels", "/messages", "/inventory"):
        asked.clear()
        page.goto(path, wait_until="load")
        loaded = {url: len(page.request.get(url).body()) for url in set(asked)}
        assert f"{served.url}/static/page.js" in loaded
        assert all(url.startswith(served.url) for url in loaded)
        assert sum(loaded.values()) < WEIGHT, loaded


def test_everything_is_reached_by_keyboard(page):
    page.goto("/")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    pages = ["Rooms", "Runs", "Enrolment", "Watch", "Channels", "Inventory"]
    assert reached[:7] == ["Skip to the content", *pages]
    assert "hall_a" in reached
    page.goto("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")


@pytest.mark.parametrize("path", ["/stations/a1", "/stations/none", "/sign-in", "/channels", "/messages"])
def test_pages_without_much_fit_and_are_for_everybody(page, path):
    for width in (360, 3840):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(path)
        assert fits(page)
        assert serious(page) == []
