"""A room's streams of pictures in a real browser: shown, renewed by themselves, for every screen and everybody."""

import io
import json

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests import plain_http
from tests.api.conftest import Served
from tests.api.run_kit import wait_for
from tests.api.small_event import SmallEvent
from tests.pages.browser import chromium, fits, serious, visitor
from tests.pages.near import station

pytestmark = [pytest.mark.manager, pytest.mark.timeout(120)]
ADDRESS = "127.0.0.30"
CAMERA, SLIDES = (f"/streams/{key}/latest?type=jpg" for key in ("camera", "slides"))
STREAMS = {"camera": {"testcard": {}, "room": "hall_a"}, "slides": {"testcard": {}, "room": "hall_a", "name": "Slides"}}


def jpeg(width: int) -> bytes:
    found = io.BytesIO()
    Image.new("RGB", (width, 90), "teal").save(found, "JPEG")
    return found.getvalue()


@pytest.fixture
def near():
    """A server of pictures, whose pictures tell by their width which they are."""
    with station(ADDRESS) as server:
        told = [{"key": key, "state": "ready", "state_text": ""} for key in STREAMS]
        server.files = {
            "/streams": (200, json.dumps({"streams": told}).encode()),
            CAMERA: (200, jpeg(160)),
            SLIDES: (200, jpeg(161)),
        }
        yield server


@pytest.fixture
def served(tmp_path, near):
    event = SmallEvent(tmp_path / "project")
    roles = {"stills": {"main": {"http_port": near.server_port, "streams": STREAMS}}}
    host = {"station_mac": "02:00:00:00:08:30", "ansible_host": ADDRESS, "station_roles": roles}
    (event.inventory / "services.yml").write_text(json.dumps({"services": {"hosts": {"storage": host}}}))
    made = Served(tmp_path / "data", "-i", str(event.inventory), STATIONMASTER_PROJECT=str(event.folder))
    try:
        headers = made.token("read")

        def known():
            told = plain_http.get(f"{made.url}/v1/inventory", headers=headers).json()
            assert not told["newest"]["findings"], told
            return told["in_force"]

        wait_for(known)
        made.secret = made.token("read")["Authorization"].removeprefix("Bearer ")
        yield made
    finally:
        made.stop()


def widths(page, selector) -> list[int]:
    return page.locator(selector).evaluate_all("all => all.map(image => image.naturalWidth)")


def test_the_pictures_of_a_room_come_are_renewed_and_turn_pale(served, near):
    with chromium() as browser, visitor(browser, served.url, served.secret) as page:
        page.goto("/")
        card = page.locator("#room-hall_a")
        wait_for(lambda: widths(page, "#room-hall_a img") == [160], 15)
        expect(page.locator("#room-hall_b")).to_contain_text("no camera")
        card.get_by_role("link", name="hall_a").click()
        stills = page.locator("#streams figure")
        expect(stills).to_have_count(2)
        expect(stills.nth(1)).to_contain_text("Slides ready", timeout=10_000)
        wait_for(lambda: widths(page, "#streams img") == [160, 161], 15)
        near.files |= {SLIDES: (200, jpeg(162)), CAMERA: (503, b"")}
        wait_for(lambda: widths(page, "#streams img") == [160, 162], 15)
        stale = page.locator("#streams img[data-old]")
        expect(stale).to_have_count(1, timeout=15_000)
        with page.expect_response("**/rooms/hall_a/streams"):
            pass
        page.wait_for_timeout(100)
        assert stale.count() == 1  # news of the streams do not make it look new again
        for width in (360, 3840):
            page.set_viewport_size({"width": width, "height": 800})
            assert fits(page)
        assert serious(page) == []
