"""Screen, channels and messages in a real browser: renewed by themselves, for every screen, without scripts too."""

import pytest
from playwright.sync_api import expect

from tests import plain_http
from tests.api.conftest import Served
from tests.api.run_kit import wait_for
from tests.api.visuals_kit import VisualsEvent, message
from tests.pages.browser import chromium, fits, serious, visitor

pytestmark = pytest.mark.timeout(180)
RADIO = "/topic/id/small/hall_a/"
LONG = "Long " * 90


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screens")
    event = VisualsEvent(folder / "project")
    made = Served(
        folder / "data", "-i", str(event.inventory), STATIONMASTER_PROJECT=str(event.folder), **event.environment
    )
    try:
        headers = made.token("visuals")
        wait_for(lambda: plain_http.get(f"{made.url}/v1/visuals/directory", headers=headers).status_code == 200)
        made.station = headers
        made.secret = made.token("operate")["Authorization"].removeprefix("Bearer ")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


def say(served, path, body):
    plain_http.post(f"{served.url}{path}", json=body, headers=served.station).raise_for_status()


def log(served, *messages):
    say(served, "/v1/visuals/log", {"messages": messages})


def test_what_the_screens_show_comes_by_itself_while_somebody_writes(served, browser):
    with visitor(browser, served.url, served.secret) as page:
        page.goto("/rooms/hall_a")
        screen = page.locator("#screen-hall_a")
        expect(screen).to_contain_text("nothing in the log")
        page.get_by_label("Message on the screens", exact=True).fill("half a mess")
        log(served, message("TEXT Now: Opening", f"{RADIO}text"))
        expect(screen).to_contain_text("Now: Opening", timeout=5000)
        assert page.get_by_label("Message on the screens", exact=True).input_value() == "half a mess"
        page.get_by_role("button", name="Show it").click()
        expect(screen).to_contain_text("half a mess")
        expect(screen).to_contain_text("not shown yet")
        (row,) = plain_http.get(f"{served.url}/v1/visuals/directory", headers=served.station).json()["overrides"]
        say(served, f"/v1/visuals/overrides/{row['id']}/shown", {"source": "vis1/main"})
        expect(screen).to_contain_text("shown by vis1/main", timeout=5000)
        page.get_by_role("button", name="End the message").click()
        expect(screen).to_contain_text("No message of the crew")
        page.goto("/channels")
        page.get_by_role("link", name="hall_a", exact=True).first.click()
        expect(page.locator("td.body")).to_have_text("TEXT Now: Opening")


def test_without_scripts_a_message_is_set_and_ended(served, browser):
    with visitor(browser, served.url, served.secret, java_script_enabled=False) as page:
        page.goto("/rooms/hall_a")
        page.get_by_label("Message on the screens", exact=True).fill("By hand")
        page.get_by_label("Minutes", exact=True).fill("5")
        page.get_by_role("button", name="Show it").click()
        expect(page.locator("#screen-hall_a")).to_contain_text("By hand")
        page.get_by_role("button", name="End the message").click()
        expect(page.locator("#screen-hall_a")).to_contain_text("No message of the crew")
        page.goto("/messages")
        page.get_by_label("Topic").fill("nowhere")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("No message has that.")).to_be_visible()


@pytest.mark.parametrize("path", ["/rooms/hall_a", "/channels", "/messages"])
def test_pages_fit_every_screen_and_are_for_everybody(served, browser, path):
    headers = served.token("operate")
    body = {"text": LONG, "minutes": 5, "link": f"https://www.example.org/{'x' * 300}"}
    plain_http.post(f"{served.url}/v1/rooms/hall_a/override", json=body, headers=headers).raise_for_status()
    log(served, message(f"TEXT {LONG}{'x' * 300}", f"{RADIO}text"), message("SHOW x", f"/topic/{'y' * 400}/image"))
    with visitor(browser, served.url, served.secret) as page:
        for width in (360, 1280, 3840):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(path)
            expect(page.get_by_role("heading").first).to_be_visible()
            assert fits(page), width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert serious(page) == []
