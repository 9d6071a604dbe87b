"""The page in a real browser, before a manager with real stations: each page and each action, as a crew uses them."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.api.stations_kit import Machine
from tests.labkit import until
from tests.pages.browser import chromium, fits, picture, places, serious, visitor
from tests.pages.stage import staged

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
PAGES = [
    "/", "/rooms/hall_x", "/runs", "/run/new", "/stations/cam", "/enrolment", "/watch", "/channels", "/messages",
    "/inventory", "/board",
]  # fmt: skip
LOST = 30_000
"""Milliseconds in which a lost station has to show: it counts as lost after 20 s."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory.mktemp("page")) as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def secret(stage):
    return stage.secret("admin")


@pytest.fixture
def page(stage, browser, secret):
    with visitor(browser, stage.manager.url, secret, viewport={"width": 1280, "height": 900}) as made:
        yield made


def instance(card, role):
    return card.locator(f'li.instance:has(.name:text-is("{role}"))')


def dry_run(page, action, target, **fields):
    """Ask for a run, and wait until the dry run has shown what it would do."""
    page.goto(f"/run/new?action={action}&target={target}")
    if fields:
        page.get_by_text("More").click()
    for name, value in fields.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name="Show what it would do").click()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=40_000)


def press(page, selector="#do") -> None:
    """Press a button that starts a run, and wait for its page."""
    before = page.url
    page.locator(selector).click()
    page.wait_for_url(lambda url: url != before and "/runs/" in url)


def newest_is_current(told) -> bool:
    return told["generation"] == told["said"]["generations"][0]["number"] > 1


def identity(page) -> str:
    return re.search(r"/runs/([0-9A-Z]{26})", page.url)[1]


def test_machines_that_wait_are_let_in_and_others_refused(stage, page):
    stranger = Machine("stranger", macs=["02:00:00:99:00:01"])
    assert stranger.enrol(stage.client).status_code == 202
    # their agents asked before the manager was there, and ask again after a pause
    assert until(lambda: all(stage.station(name)["machines"] for name in ("cam", "enc")), 90)
    page.goto("/enrolment")
    expect(page.locator("b", has_text="stranger")).to_be_visible()
    picture(page, "enrolment")
    for name in ("cam", "enc"):
        page.get_by_role("button", name=f"Accept {name} as {name}").click()
        expect(page.get_by_role("button", name=f"Accept {name} as {name}")).to_have_count(0)
        assert stage.station(name)["host_keys"][0].startswith("ssh-")
    page.get_by_role("button", name="Lines for the inventory").click()
    expect(page.locator("pre")).to_contain_text('station_mac: "02:00:00:99:00:01"')
    expect(page.get_by_text("has no findings")).to_be_visible(timeout=20_000)
    other = Machine("enc", macs=["02:00:00:63:0c:12"], seed="thief")
    assert other.enrol(stage.client).status_code == 202
    page.goto("/enrolment")
    late = Machine("later", macs=["02:00:00:99:00:02"])
    assert late.enrol(stage.client).status_code == 202
    expect(page.get_by_text("Others wait now")).to_be_visible(timeout=10_000)
    page.get_by_role("button", name="Refuse enc as enc").click()
    expect(page.get_by_text("No machine waits.")).to_be_visible()
    assert other.enrol(stage.client).status_code == 403


def test_rooms_show_what_is_and_its_picture_renews_itself(stage, page):
    page.goto("/")
    card = page.locator("#room-hall_x")
    expect(card.locator("h2 .word")).to_have_text("ready", timeout=60_000)
    expect(instance(card, "ingest")).to_contain_text("running", timeout=20_000)
    expect(instance(card, "record")).to_contain_text("copying", timeout=20_000)
    assert float(instance(card, "ingest").locator("meter").get_attribute("value")) > -60
    image = card.locator("img")
    assert until(lambda: image.evaluate("i => i.naturalWidth") == 320, 20)
    before = image.get_attribute("src")
    assert until(lambda: image.get_attribute("src") != before, 10)
    expect(card).to_contain_text("disk for")
    picture(page, "rooms")


@pytest.mark.parametrize("path", PAGES)
def test_each_page_fits_and_is_for_everybody(page, path):
    for width, colours in ((360, "dark"), (1280, "light"), (3840, "dark")):
        page.emulate_media(color_scheme=colours)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path)
        assert fits(page), width
        assert serious(page) == [], width


def test_a_live_stream_plays_and_tells_its_delay(page):
    page.goto("/watch")
    page.get_by_role("button", name="Watch Test hall").click()
    video = page.locator("video")
    assert until(lambda: video.evaluate("v => v.currentTime") > 1, 30)
    assert video.evaluate("v => v.videoWidth") == 320
    expect(page.locator(".delay")).to_have_text(re.compile(r"^\d+ s behind the room$"), timeout=20_000)
    assert 1 <= int(page.locator(".delay").text_content().split()[0]) < 30
    picture(page, "watch")


def test_a_station_shows_its_units_journal_and_figures(stage, page):
    page.goto("/stations/cam")
    expect(page.locator("#details")).to_contain_text("ingest@main")
    expect(page.locator("#now")).to_contain_text("generation 1")
    word = f"said-{time.monotonic_ns()}"
    stage.lab.run("cam", f"logger {word}")
    expect(page.locator("#journal")).to_contain_text(word, timeout=15_000)
    page.get_by_role("link", name="ingest@main").click()
    expect(page.locator("#journal li").first).to_contain_text("ingest@main")
    expect(page.locator("#journal")).not_to_contain_text(word)
    page.goto("/stations/cam")
    picture(page, "station")


def test_a_run_shows_what_it_would_interrupt_before_it_can_be_pressed(stage, page, browser, secret):
    dry_run(page, "restart", "room:hall_x", role="ingest")
    expect(page.get_by_role("alert")).to_have_text("Would interrupt on cam: ingest@main")
    expect(page.locator("#do")).to_have_text("restart hall_x now, and interrupt 1 live")
    picture(page, "run")
    shown = identity(page)
    # a second person looks at the same, and both press
    with visitor(browser, stage.manager.url, secret) as other:
        other.goto(f"/runs/{shown}")
        press(other)
        expect(other.locator("#state")).to_have_text("succeeded", timeout=40_000)
        press(page)
        assert identity(page) == identity(other) != shown
    expect(page.locator("#of-cam")).to_contain_text("restarted: ingest@main")
    expect(page.locator("#of-cam")).not_to_contain_text("record")
    assert stage.ended(identity(page))["parameters"] == {"role": "ingest"}


def test_the_live_log_goes_on_through_a_restart_of_the_manager(stage, page):
    dry_run(page, "provision", "station:cam")
    press(page)
    expect(page.locator("#log")).to_contain_text("(item=2)", timeout=30_000)
    run = identity(page)
    stage.manager.stop()
    expect(page.locator("#link")).to_be_visible(timeout=15_000)
    stage.manager.start()
    expect(page.locator("#link")).to_be_hidden(timeout=20_000)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=40_000)
    expect(page.locator("#of-cam .word")).to_have_text("ok")
    page.wait_for_timeout(500)
    shown = page.locator("#log li").evaluate_all("all => all.map(e => Number(e.value))")
    events = stage.client.get(f"/v1/runs/{run}/events").json()["events"]
    assert shown == [one["number"] for one in events if (one["data"].get("text") or "").strip()]
    expect(page.locator("#log")).to_contain_text("(item=15)")
    expect(page.locator("#log")).not_to_contain_text("WARNING")

    page.get_by_role("link", name="Whole log").click()
    page.get_by_label("Text").fill("(ITEM=7)")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#main ol li")).to_have_count(1)
    page.locator("#main ol li a").click()
    expect(page.locator("li:target")).to_contain_text("(item=7)")


def test_a_run_is_canceled_with_a_button(stage, page):
    dry_run(page, "provision", "station:enc")
    press(page)
    expect(page.locator("#log")).to_contain_text("(item=1)", timeout=30_000)
    page.locator("#cancel").click()
    expect(page.locator("#state")).to_have_text("canceled", timeout=30_000)
    expect(page.locator("#cancel")).to_be_disabled()


def test_a_station_lost_and_found_shows_by_itself_and_moves_nothing(stage, page):
    page.goto("/")
    card = page.locator("#room-hall_x")
    expect(card.locator("h2 .word")).to_have_text("ready", timeout=30_000)
    pressed = "#room-hall_x a"
    before = places(page, pressed)
    page.get_by_role("link", name="cam").focus()
    stage.lab.cut("enc")
    try:
        expect(card.locator("h2 .word")).to_have_text("lost", timeout=LOST)
        expect(page.locator("#worst")).to_contain_text("lost")
        expect(instance(card, "record")).to_contain_text("unknown")  # what it said last is no news of it
        assert places(page, pressed) == before
        assert page.evaluate("document.activeElement.textContent") == "cam"
        picture(page, "lost")
        # a run that does not reach it, and again where it failed
        dry_run_of_lost(page)
    finally:
        stage.lab.restore("enc")
    page.locator("#retry").wait_for()
    assert until(lambda: stage.ready("enc"), 40)
    press(page, "#retry")
    expect(page.locator("#state")).to_have_text("succeeded", timeout=40_000)
    expect(page.locator("ul.rows > li")).to_have_count(1)
    page.goto("/")
    expect(card.locator("h2 .word")).to_have_text(re.compile("ready|rebooted"), timeout=30_000)


def dry_run_of_lost(page):
    page.goto("/run/new?action=apply&target=room:hall_x")
    page.get_by_role("button", name="Show what it would do").click()
    expect(page.locator("#state")).to_have_text("unreachable", timeout=40_000)
    expect(page.locator("#of-enc")).to_contain_text("unreachable")
    expect(page.locator("#do")).to_contain_text("although the dry run unreachable")


def test_on_air_holds_what_would_interrupt_and_says_so(stage, page):
    page.goto("/rooms/hall_x")
    page.get_by_role("button", name="Set on air").click()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    page.goto("/rooms/hall_x")
    expect(page.locator(".on-air")).to_have_text("on air", timeout=10_000)
    stage.edit("cam", "ingest", "main", preview={"every": 2, "width": 320})
    expect(page.locator("#room-hall_x")).to_contain_text("not as wanted", timeout=20_000)
    dry_run(page, "apply", "station:cam")
    expect(page.locator("#of-cam")).to_contain_text("held: ingest@main")
    expect(page.get_by_text("Would interrupt no live unit.")).to_be_visible()
    press(page)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    page.goto("/")
    expect(page.locator("#room-hall_x")).to_contain_text("1 held", timeout=15_000)
    page.goto("/rooms/hall_x")
    page.get_by_role("button", name="Take off air").click()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)


def test_a_generation_is_compared_and_gone_back_to(stage, page):
    dry_run(page, "apply", "station:cam")
    expect(page.get_by_role("alert")).to_have_text("Would interrupt on cam: ingest@main")
    press(page)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    page.goto("/stations/cam")
    # a hello sent within the apply knows the new generation already, and the old one as the current
    assert until(lambda: newest_is_current(stage.station("cam")), 20)
    page.reload()
    row = page.locator("table tr").filter(has_text="Compare, go back").last
    expect(row.locator("td").first).to_have_text("1")
    row.get_by_role("link", name="Compare, go back").click()
    page.get_by_label("Reason").fill("the picture <i>stutters</i>")
    page.get_by_role("button", name="Show what it would do").click()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    page.get_by_text("Differences on cam").click()
    expect(page.locator("details pre")).to_contain_text("every")
    press(page)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    page.goto("/stations/cam")
    expect(page.locator("#now")).to_contain_text("the picture <i>stutters</i>", timeout=15_000)
    page.goto("/")
    expect(page.locator("#room-hall_x")).to_contain_text("rolled back", timeout=15_000)
    dry_run(page, "start", "station:cam")
    press(page)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)


def test_a_finding_of_the_inventory_is_told_with_file_and_line(stage, page):
    stage.edit("cam", "ingest", "main", presett="fast")
    try:
        page.goto("/inventory")
        page.get_by_role("button", name="Check it as it is now").click()
        expect(page.locator("li code").first).to_have_text(re.compile(r"hall-x\.yml:\d+"), timeout=20_000)
        expect(page.locator("#main li").first).to_contain_text("presett")
        picture(page, "inventory")
    finally:
        stage.edit("cam", "ingest", "main", presett=None)


def test_the_board_is_read_only_and_has_a_token_of_its_own(stage, browser):
    url = stage.manager.url
    with visitor(browser, url) as board:
        board.goto("/board")
        expect(board.get_by_label("Your token")).to_be_visible()
        board.goto(f"/board?token={stage.secret('board')}")
        expect(board.locator("#room-hall_x")).to_be_visible()
        assert board.url == f"{url}/board"
        assert "10.95.12" not in board.content()
        picture(board, "board")
        for path in ("/", "/runs", "/stations/cam"):
            board.goto(path)
            expect(board.get_by_label("Your token")).to_be_visible()
