"""The catalogue's page in a real browser, before a real catalogue and servers that come and go."""

import re
import signal

import pytest
from playwright.sync_api import expect

from tests.pages.browser import chromium, fits, picture, serious, visitor
from tests.ports import free_port
from tests.stills.kit_catalogue import Catalogue, Stand, stream

pytestmark = pytest.mark.media
SOON = 5000


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def ports():
    return free_port(), free_port()


@pytest.fixture
def catalogue(tmp_path, ports):
    cam = ("hall-a-cam/main", ports[0], "127.0.0.1", {"cam": 1})
    with Catalogue(tmp_path, cam, ("foyer/main", ports[1], "127.0.0.1", {"slides": 1})) as made:
        yield made


@pytest.fixture
def page(catalogue, browser):
    with visitor(browser, catalogue.url, viewport={"width": 1280, "height": 720}) as made:
        yield made


def card(page, name):
    return page.locator("li", has=page.get_by_role("heading", name=name, exact=True))


def shows(page, name):
    """Wait until a stream's picture is there, whole."""
    image = card(page, name).locator("img")
    expect(image).to_be_visible(timeout=SOON)
    assert image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [320, 180]
    return image


def test_streams_come_and_go_with_their_pictures(page, catalogue, ports):
    page.goto("/")
    expect(page.locator("#state")).to_have_text("0 streams run")
    expect(page.locator("h1")).to_have_text("Image streams of demo")
    expect(page.locator("#away li")).to_have_count(2)
    page.evaluate("window.kept = true")
    with Stand(ports[0], stream("cam")) as cam, Stand(ports[1], stream("slides", room="foyer", viewers=2)):
        shows(page, "cam")
        shows(page, "slides")
        expect(page.locator("#state")).to_have_text("2 streams run")
        expect(page.locator("#away")).to_be_hidden()
        expect(page.locator("h2:visible")).to_have_text(["foyer", "hall_a"])
        expect(card(page, "cam")).to_contain_text("JPG, 320\u00d7180, 2 a second, 3 pictures")
        expect(card(page, "cam")).to_contain_text("ID 1: TCP_PUSH 127.0.0.1:9001")
        expect(card(page, "slides")).to_contain_text("ID 2: TCP_PUSH")
        expect(card(page, "slides")).to_contain_text("2 viewers")
        # a newer picture takes the place of the old one
        address = card(page, "cam").locator("img").get_attribute("src")
        expect(card(page, "cam").locator("img")).not_to_have_attribute("src", address, timeout=SOON)
        cam.tell(stream("cam", state="waiting", state_text="the ingest says nothing"))
        expect(card(page, "cam").locator(".how")).to_contain_text("waiting: the ingest says nothing")
        assert serious(page) == []
        page.wait_for_timeout(50)
        picture(page, "catalogue")
        for width in (320, 800, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            assert fits(page)
        cam.send(signal.SIGSTOP)
        expect(card(page, "cam")).to_have_count(0, timeout=2500)
        away = re.compile(r"hall-a-cam/main \(hall_a\): away since .*: it says nothing")
        expect(page.locator("#away li")).to_have_text(away)
        shows(page, "slides")
    expect(page.locator("#state")).to_have_text("0 streams run")
    assert page.evaluate("window.kept"), "the page was loaded anew"


def test_markup_is_shown_and_never_run(page, ports):
    bad = '<img src=x onerror="window.hit = 1">'
    told = stream("cam", name=bad, room=bad, type=bad, state="failed", state_text=bad, address="javascript:alert(1)")
    with Stand(ports[0], told):
        answer = page.goto("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        expect(card(page, bad)).to_be_visible(timeout=SOON)
        expect(page.locator("h2", has_text="onerror")).to_be_visible()
        assert page.evaluate("window.hit") is None
        assert page.locator("img:not([alt])").count() == 0


def test_without_the_catalogue_the_last_is_kept_and_it_comes_back(page, catalogue, ports):
    with Stand(ports[0], stream("cam")):
        page.goto("/")
        shows(page, "cam")
        catalogue.send(signal.SIGSTOP)
        expect(page.locator("#state")).to_contain_text("the catalogue is away", timeout=SOON)
        shows(page, "cam")
        catalogue.send(signal.SIGCONT)
        expect(page.locator("#state")).to_have_text("1 stream runs", timeout=SOON)
        expect(page.locator("body")).not_to_have_class("offline")
