"""The page at a room's door, in a real browser before a real server process that comes and goes."""

import itertools
import json
import re
import time

import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import expect

from tests.labkit import until
from tests.pages.browser import chromium, fits, picture, serious, visitor
from tests.ports import free_port
from tests.visuals.kit_http import House

pytestmark = pytest.mark.media
NAMES = ("red", "green", "blue", "brown")
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
NOW_AND_NEXT = [(70, "Hall A", 60), (270, "Now: How a screen heals", 100), (420, "Ada Example, until 14:45", 60)]
SOON = 10_000


def draw(path, colour, lines=()):
    image = Image.new("RGB", (1920, 1080), colour)
    pen = ImageDraw.Draw(image)
    for y, text, size in lines:
        pen.text((110, y), text, "white", ImageFont.truetype(FONT, size))
    image.save(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in NAMES:
        draw(folder / f"{name}.png", name)
    more = [(640, "Next, 15:00: Captions for everybody", 60), (730, "Grace Example", 60)]
    draw(folder / "talk.png", "#12355b", [*NOW_AND_NEXT, *more])
    (folder / "broken.png").write_bytes(b"no picture at all")
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


ROOMS = (f"hall-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def house(tmp_path_factory, files):
    made = House(tmp_path_factory.mktemp("house"), free_port(), pictures=files, heartbeat=1.0).start()
    yield made
    made.stop()


@pytest.fixture
def page(house, browser):
    with visitor(browser, house.url, viewport={"width": 1280, "height": 720}) as made:
        yield made


class Door:
    """A page at the door of a room, each test's its own, and what is sent there."""

    def __init__(self, house, page):
        self.house, self.page, self.room = house, page, next(ROOMS)
        self.topic = f"/topic/id/conference/{self.room}-screen/"
        self.loaded = set()
        page.on("requestfinished", lambda request: self.loaded.add(request.url.rpartition("/")[2]))

    def open(self):
        """Open the page, and wait until it is connected."""
        self.page.goto(f"/screen/{self.room}")
        assert until(lambda: self.topic + "text" in self.house.told()["topics"], 10)
        return self

    def picture(self, name):
        return f"{self.house.url}/pictures/{name}.png"

    def show(self, name, **headers):
        self.house.send((f"{self.topic}image", f"SHOW {self.picture(name)}", headers))

    def say(self, text):
        self.house.send((f"{self.topic}text", f"TEXT {text}"))

    def programme(self, slides, override=None, timezone="Asia/Kolkata"):
        """Send slides of an hour each, the first of which began five minutes ago."""
        began = time.time() - 300
        told = [
            {
                "start": began + 3600 * number,
                "end": began + 3600 * (number + 1),
                "image": self.picture(name),
                "text": f"now {name}",
                "link": None,
            }
            for number, name in enumerate(slides)
        ]
        body = {"room": self.room, "title": "Hall A", "timezone": timezone, "slides": told, "override": override}
        self.house.send((f"{self.topic}programme", json.dumps(body)))

    def shows(self, name):
        """Wait until one picture is there, whole, and nothing else."""
        image = self.page.locator(f'#stage img[src="{self.picture(name)}"]')
        expect(image).to_be_attached(timeout=SOON)
        expect(self.page.locator("#stage img")).to_have_count(1)
        expect(image).to_have_css("opacity", "1")
        assert image.evaluate("i => i.complete && i.naturalWidth") == 1920

    def says(self, text):
        expect(self.page.locator("#text")).to_have_text(text)

    def running(self):
        return self.page.locator("#text span").evaluate("e => e.getAnimations().length")

    def time(self):
        """The time that its clock shows, in minutes since midnight."""
        hours, minutes = self.page.locator("#clock").inner_text().split(":")
        return int(hours) * 60 + int(minutes)


@pytest.fixture
def door(house, page):
    return Door(house, page)


@pytest.mark.pace
def test_one_picture_fades_into_the_next(door):
    door.open().show("red")
    door.shows("red")
    door.page.evaluate("""() => {
        window.seen = [];
        const look = () => {
            const all = [...document.querySelectorAll("#stage img")];
            window.seen.push(all.map((one) => [one.src.split("/").pop(), Number(getComputedStyle(one).opacity)]));
            requestAnimationFrame(look);
        };
        look();
    }""")
    door.show("green", link="https://example.org/talk/")
    expect(door.page.locator("#link")).to_have_text("example.org/talk")
    door.shows("green")
    seen = door.page.evaluate("window.seen")
    both = [frame for frame in seen if len(frame) == 2]
    assert all(frame for frame in seen), "nothing was shown for a moment"
    assert {tuple(name for name, _ in frame) for frame in both} == {("red.png", "green.png")}
    assert all(frame[0][1] == 1 for frame in both)
    assert any(0.2 < frame[1][1] < 0.8 for frame in both), "it did not fade"


def test_text_runs_only_when_it_does_not_fit(door):
    door.open().say("short")
    door.says("short")
    assert door.running() == 0
    door.say("a text that is much longer than the line " * 4)
    expect(door.page.locator("#text")).to_contain_text("much longer")
    assert door.running() == 1
    line = door.page.locator("#text span")
    place = line.bounding_box()["x"]
    assert until(lambda: line.bounding_box()["x"] < place - 5, 20)
    door.say("short again")
    door.says("short again")
    assert door.running() == 0


def test_nothing_moves_for_those_who_want_that(house, browser):
    with visitor(browser, house.url, reduced_motion="reduce", viewport={"width": 800, "height": 480}) as page:
        door = Door(house, page).open()
        door.say("a text that is much longer than the line " * 3)
        expect(page.locator("#text")).to_contain_text("much longer")
        assert door.running() == 0
        box, inner = page.locator("#text").bounding_box(), page.locator("#text span").bounding_box()
        assert inner["width"] <= box["width"] and inner["height"] > 30, "it is in several lines"
        door.show("red")
        expect(page.locator("#stage img")).to_have_css("opacity", "1")
        assert page.locator("#stage img").evaluate("i => i.getAnimations().length") == 0


def test_a_broken_picture_keeps_the_old(door):
    door.open().show("red")
    door.shows("red")
    for name in ("broken", "absent"):
        with door.page.expect_response(lambda answer, name=name: answer.url.endswith(f"/{name}.png")):
            door.show(name)
        door.say(f"after {name}")
        door.says(f"after {name}")
        door.shows("red")
    door.house.send((f"{door.topic}image", "SHOW javascript:alert(1)"), (f"{door.topic}text", "TEXT after a script"))
    door.says("after a script")
    door.shows("red")
    door.show("blue")
    door.shows("blue")


def test_markup_is_shown_and_never_run(door):
    bad = '<img src=x onerror="window.hit = 1"><script>window.hit = 2</script>'
    door.open().show("red", link=f"https://example.org/{bad}")
    door.say(bad)
    door.says(bad)
    expect(door.page.locator("#link")).to_contain_text("<script>")
    assert door.page.locator("footer img, footer script").count() == 0
    assert door.page.evaluate("window.hit") is None


def test_the_address_cannot_bring_markup_in(page):
    answer = page.goto('/screen/hall?domain="><script>window.hit=1')
    assert answer.status == 200
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.body.dataset.domain") == '"><script>window.hit=1'
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert page.goto("/screen/a%20b").status == 404
    assert page.goto("/screen/hall?domain=a/b").status == 404


def test_hours_without_a_server_go_by_the_programme(tmp_path, files, browser):
    house = House(tmp_path, free_port(), pictures=files).start()
    with visitor(browser, house.url, viewport={"width": 1280, "height": 720}) as page:
        page.clock.install()
        door = Door(house, page).open()
        door.show("red")
        door.programme(["red", "green", "blue"])
        door.shows("red")
        # the pictures of the hours to come are loaded while there is a server
        expect(page).to_have_title("Hall A")
        deadline = time.monotonic() + 10
        while not {"green.png", "blue.png"} <= door.loaded and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        page.evaluate("window.kept = true")
        house.kill()
        page.clock.fast_forward(3600_000)
        door.shows("green")
        door.says("now green")
        there = time.gmtime(time.time() + 3600 + 5.5 * 3600)
        assert (door.time() - there.tm_hour * 60 - there.tm_min) % 1440 in (0, 1, 1439)
        expect(page.locator("#offline")).to_have_text(re.compile(r"^offline since \d\d:\d\d$"))
        page.clock.fast_forward(3600_000)
        door.shows("blue")
        # after the programme's end the last picture stays
        page.clock.fast_forward(3 * 3600_000)
        door.shows("blue")
        house.start()
        page.clock.fast_forward(60_000)
        assert until(lambda: house.told()["connections"], 10)
        expect(page.locator("#offline")).to_be_hidden()
        door.show("brown")
        door.say("live again")
        door.says("live again")
        door.shows("brown")
        assert page.evaluate("window.kept"), "the page was loaded anew"
    house.stop()


def test_an_override_lasts_until_its_end_without_a_server_too(tmp_path, files, browser):
    house = House(tmp_path, free_port(), pictures=files).start()
    with visitor(browser, house.url) as page:
        page.clock.install()
        door = Door(house, page).open()
        override = {"image": door.picture("brown"), "text": "Please leave by the doors", "until": time.time() + 7200}
        door.programme(["red", "green", "blue"], override)
        door.shows("brown")
        door.says("Please leave by the doors")
        deadline = time.monotonic() + 10
        while "blue.png" not in door.loaded and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        house.kill()
        page.clock.fast_forward(3600_000)
        expect(page.locator("#offline")).to_be_visible()
        door.shows("brown")
        page.clock.fast_forward(3600_000)
        door.says("now blue")
        door.shows("blue")


def test_the_programme_leads_while_nothing_newer_was_pushed(door):
    door.open()
    old = int(time.time()) - 3600
    door.house.send((f"{door.topic}text", "TEXT an hour old", {"when": str(old)}))
    door.says("an hour old")
    door.programme(["green"])
    door.says("now green")
    door.shows("green")
    door.say("newer")
    door.says("newer")


def test_a_message_waits_for_its_trigger_time(house, browser):
    with visitor(browser, house.url) as page:
        page.clock.install()
        door = Door(house, page).open()
        door.show("red")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
        door.show("green", **{"trigger-time": at})
        door.say("both came")
        door.says("both came")
        door.shows("red")
        page.clock.fast_forward(601_000)
        door.shows("green")


def test_a_silent_connection_is_opened_again(house, browser):
    with visitor(browser, house.url) as page:
        page.clock.install()
        door = Door(house, page).open()
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/push/" in request.url else None)
        page.clock.fast_forward(46_000)
        page.clock.fast_forward(2_000)
        door.say("still here")
        door.says("still here")
        assert len(asked) == 1


def test_a_page_of_an_older_server_loads_itself_anew_once(house, page):
    old = []

    def older(route):
        answer = route.fetch()
        old.append(answer.text())
        route.fulfill(response=answer, body=re.sub(r'data-version="\w+"', 'data-version="old"', answer.text()))

    door = Door(house, page)
    page.route(f"**/screen/{door.room}", older)
    door.open()
    # the server says that it has another page, but what it answers is the old one: nothing would be won
    deadline = time.monotonic() + 10
    while len(old) < 2 and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert len(old) == 2
    assert page.evaluate("document.body.dataset.version") == "old"
    # an even newer one comes: this time the page is loaded anew, by itself
    page.unroute(f"**/screen/{door.room}")
    page.evaluate("sessionStorage.clear()")
    expect(page.locator("body")).not_to_have_attribute("data-version", "old", timeout=SOON)


def test_it_fits_from_a_phone_to_4k(door):
    door.open().show("talk", link="https://example.org/talks/how-a-screen-heals-by-itself-in-the-night")
    door.say("Now: How a screen heals, by Ada Example. Next, 15:00: Captions for everybody. " * 3)
    door.shows("talk")
    for width, height in ((360, 640), (1024, 600), (3840, 2160)):
        door.page.set_viewport_size({"width": width, "height": height})
        assert fits(door.page)
        assert door.page.evaluate("document.documentElement.scrollHeight") <= height
        stage, footer = (door.page.locator(one).bounding_box() for one in ("#stage", "footer"))
        assert stage["height"] > 0.7 * height
        assert footer["y"] + footer["height"] <= height + 1
        letters = door.page.locator("#text").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
        assert letters >= max(14, width / 80)
        assert until(lambda: door.running() == 1, 20)


def test_whoever_cannot_see_it_is_told(house, browser):
    with visitor(browser, house.url, viewport={"width": 1280, "height": 720}) as page:
        door = Door(house, page).open()
        door.show("talk", link="https://example.org/talks/7")
        door.say("Now: How a screen heals")
        door.programme(["talk"], timezone="Europe/Berlin")
        door.shows("talk")
        page.wait_for_timeout(100)
        assert serious(page) == []
        picture(page, "screen")
