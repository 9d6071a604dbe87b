"""Screens, channels and messages as a crew sees them: what was sent, what the crew shows, and who may."""

import re

import pytest
from anyio.from_thread import start_blocking_portal

from api import messages
from api.pages import rooms
from api.pages.screens import Screens
from api.tables import Message, Override
from tests.api.run_kit import wait_for
from tests.api.visuals_kit import BASE, LOGO, VisualsScene, message
from tests.pages import near
from tests.pages.conftest import HTML, signed_in, word_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
RADIO, SCREEN = "/topic/id/small/hall_a/", "/topic/id/small/hall_a-screen/"
EVIL = "<script>alert(1)</script>\"'><img src=x>"


@pytest.fixture(scope="module")
def web():
    """The web server of the station with signage."""
    with near.station("127.0.0.20") as made:
        yield made


@pytest.fixture(scope="module")
def scene(tmp_path_factory, web):
    made = VisualsScene(tmp_path_factory.mktemp("screens"))
    made.small.write(web=web.server_port)
    wait_for(lambda: _port(made) == web.server_port)
    yield made
    made.close()


def _port(scene):
    return scene.manager.inventory.current().event.stations["vis1"].roles["web"]["station"].options["port"]


@pytest.fixture(autouse=True)
def empty(scene, web):
    web.asked.clear()
    web.files.clear()
    scene.api.app.state.media._slides.clear()
    with scene.manager.database.writing() as session:
        session.query(Message).delete()
        session.query(Override).delete()


@pytest.fixture
def crew(scene, browser):
    signed_in(scene, browser, "operate")
    return browser


def post(browser, path, **form):
    return browser.post(path, data={**form, "word": word_of(browser)})


def section(text: str) -> str:
    """The section Screen of a room's page."""
    return re.search(r'<section class="screen".*?</section>', text, re.DOTALL)[0]


def test_the_room_tells_what_was_sent_to_its_screens_and_radios(scene, crew):
    page = section(crew.get("/rooms/hall_a").text)
    assert page.count("nothing in the log") == 2
    assert "no slide" in page and "No message of the crew" in page
    scene.logged(message("TEXT Now: Opening", f"{RADIO}text"), message("TEXT Opening, Ada", f"{SCREEN}text"))
    page = section(crew.get("/rooms/hall_a").text)
    assert re.findall(r"(Radios|Screens) since [0-9:]+</span>\n<span title=\"([^\"]+)", page) == [
        ("Radios", "Now: Opening"), ("Screens", "Opening, Ada"),
    ]  # fmt: skip
    assert 'href="/messages?topic=/topic/id/small/hall_a"' in page


def test_a_room_without_signage_has_no_section_and_no_form(crew):
    text = crew.get("/rooms/hall_b").text
    assert 'class="screen"' not in text and "/override" not in text


def test_a_message_of_the_crew_is_set_shown_and_ended(scene, crew):
    answer = post(crew, "/rooms/hall_a/override", text="Fire drill", minutes="20", link="https://www.example.org/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/rooms/hall_a"), answer.text
    page = section(crew.get("/rooms/hall_a").text)
    assert "<b>Fire drill</b>" in page and 'href="https://www.example.org/"' in page
    assert "set by token " in page and "not shown yet" in page
    with scene.manager.database.reading() as session:
        identity = session.query(Override).one().id
    headers = scene.token("visuals")
    told = scene.api.post(f"/v1/visuals/overrides/{identity}/shown", json={"source": "vis1/main"}, headers=headers)
    assert told.status_code == 204
    assert "shown by vis1/main" in section(crew.get("/rooms/hall_a").text)
    assert post(crew, "/rooms/hall_a/override/end").status_code == 303
    assert "No message of the crew" in section(crew.get("/rooms/hall_a").text)
    assert post(crew, "/rooms/hall_a/override/end").status_code == 404


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"text": "", "minutes": "5"}, "text: "),
        ({"text": "x" * 501, "minutes": "5"}, "text: "),
        ({"text": "\x00", "minutes": "5"}, "text: the text has no letter"),
        ({"text": "x", "minutes": ""}, "minutes: "),
        ({"text": "x", "minutes": "0"}, "minutes: "),
        ({"text": "x", "minutes": "many"}, "minutes: "),
        ({"text": "x", "minutes": "5", "link": "ftp://x"}, "link: write an address that begins with http"),
    ],
)
def test_a_form_that_is_wrong_says_where(scene, crew, form, told):
    answer = post(crew, "/rooms/hall_a/override", **form)
    assert answer.status_code == 422
    assert told in answer.text and "<h1>" in answer.text
    with scene.manager.database.reading() as session:
        assert session.query(Override).count() == 0


def test_who_may_not_change_the_room_is_offered_no_form(scene, browser):
    for scope, room in (("read", None), ("operate", "hall_b")):
        signed_in(scene, browser, scope, room=room)
        text = browser.get("/rooms/hall_a").text
        assert 'class="screen"' in text and "/override" not in text


def test_the_slide_comes_through_the_manager_once(scene, crew, web):
    assert crew.get("/rooms/hall_a/slide").status_code == 204
    web.files["/signage/main/slides/1.png"] = (200, PNG)
    url = f"http://127.0.0.20:{web.server_port}/signage/main/slides/1.png"
    scene.logged(message(f"SHOW {url}", f"{RADIO}image"))
    page = section(crew.get("/rooms/hall_a").text)
    assert 'src="/rooms/hall_a/slide"' in page and str(web.server_port) not in page
    with start_blocking_portal() as portal:
        crew.portal = portal  # one loop for the connection to the station
        for _ in range(3):
            answer = crew.get("/rooms/hall_a/slide")
            assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PNG, "image/png")
        assert web.asked == ["/signage/main/slides/1.png"]
        web.files["/signage/main/slides/2.png"] = (200, b"<svg>")
        scene.logged(message(f"SHOW {BASE}/slides/2.png", f"{RADIO}image"))  # the address that others see
        assert crew.get("/rooms/hall_a/slide").status_code == 204
        assert web.asked[1:] == ["/signage/main/slides/2.png"]
        portal.call(scene.api.app.state.media.close)
        crew.portal = None


@pytest.mark.parametrize(
    "body",
    [
        LOGO, "http://127.0.0.20:{port}/ingest/main/preview.jpg", "http://127.0.0.20:{port}/signage/main/../x.png",
        "http://127.0.0.20:{port}/signage/main/x.png?y", "http://127.0.0.20:{port}/signage/main/", "http://[", "",
        "http://127.0.0.20:{port}/signage/main/x.png\nHost: y", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_the_manager_fetches_nothing_else(scene, crew, web, body):
    scene.logged(message(f"SHOW {body.format(port=web.server_port)}", f"{RADIO}image"))
    assert "no slide" in section(crew.get("/rooms/hall_a").text)
    assert crew.get("/rooms/hall_a/slide").status_code == 204
    assert web.asked == []


def test_what_a_screen_shows_is_in_the_rooms_stream_and_in_no_other(scene, crew):
    cards = scene.api.app.state.room_cards
    text = cards._render()["screen hall_a"]
    assert 'id="screen-hall_a"' in text and "hx-swap-oob" in text
    assert "screen hall_b" not in cards._render()
    told = {room: {name for name in cards._render() if rooms.is_shown(room, name)} for room in (None, "hall_a")}
    assert told == {None: {"", "hall_a", "hall_b", "services"}, "hall_a": {"hall_a", "screen hall_a"}}
    scene.logged(message("TEXT New", f"{RADIO}text"))
    assert "New" in cards._render()["screen hall_a"]


def test_what_was_sent_is_looked_up_only_when_something_was(scene, monkeypatch):
    looked, screens = [], Screens(scene.manager)
    last = messages.last_of
    monkeypatch.setattr("api.messages.last_of", lambda *told: looked.append(told[1]) or last(*told))
    for _ in range(3):
        screens.read()
    assert len(looked) == 4
    scene.logged(message("TEXT New", f"{RADIO}text"))
    assert screens.read()["hall_a"].sent[0].words == "New"
    assert len(looked) == 8


def test_markup_is_text_wherever_it_was_sent(scene, crew):
    scene.logged(
        message(f"TEXT {EVIL}", f"{RADIO}text"), message(f"SHOW {EVIL}", f"{RADIO}image"),
        message(EVIL, f"/topic/{EVIL}/text", link=EVIL),
    )  # fmt: skip
    assert post(crew, "/rooms/hall_a/override", text=EVIL, minutes="5").status_code == 303
    for path in ("/rooms/hall_a", "/messages", "/channels", f"/messages?topic={EVIL}&text={EVIL}"):
        text = crew.get(path).text
        assert "<script>alert" not in text and "<img src=x" not in text
        assert "&lt;script&gt;" in text or path == "/rooms/hall_a"


def test_the_log_is_searched_by_topic_text_and_time_and_turned_page_by_page(scene, crew, monkeypatch):
    monkeypatch.setattr("api.pages.channels.SHOWN", 2)
    scene.logged(*(message(f"TEXT {number}", when=1000.0 + number) for number in range(5)))
    scene.logged(message("TEXT else", "/topic/id/x/y/text", when=2000, link="https://www.example.org/"))

    def found(text):
        return re.findall(r'<td class="body">([^<]*)</td>', text)

    page = crew.get("/messages").text
    assert found(page) == ["TEXT else", "TEXT 4"]
    assert "link: https://www.example.org/" in page
    seen = []
    page = crew.get("/messages", params={"topic": "C221", "text": "text"}).text
    while True:
        seen += found(page)
        older = re.search(r'<a href="(\?[^"]+)">Older', page)
        if older is None:
            break
        page = crew.get("/messages" + older[1].replace("&amp;", "&")).text
    assert seen == [f"TEXT {number}" for number in (4, 3, 2, 1, 0)]
    assert found(crew.get("/messages", params={"until": "1970-01-01T00:16:41"}).text) == ["TEXT 1", "TEXT 0"]
    assert found(crew.get("/messages", params={"since": "1970-01-01T00:30"}).text) == ["TEXT else"]
    assert "No message has that" in crew.get("/messages", params={"text": "nowhere"}).text
    assert crew.get("/messages", params={"since": "yesterday"}).status_code == 422


def test_channels_are_told_with_their_defaults_and_the_silent_ones_are_marked(scene, crew):
    scene.logged(message("TEXT Now: Opening", f"{RADIO}text"), message("TEXT One", when=1.0))
    text = crew.get("/channels").text
    rows = {re.search(r"<code[^>]*>([^<]*)", row)[1] if "<code" in row else row: row for row in text.split("<tr>")[2:]}
    one = next(row for name, row in rows.items() if "09580" in name)
    assert LOGO in one and "Radio One" in one and "silent" in one and re.search(r"\d+ h", one)
    room = next(row for name, row in rows.items() if "hall_a/" in name)
    assert "Now: Opening" in room and " s</td>" in room.replace(" \n", "") and "silent" not in room
    assert 'href="/rooms/hall_a"' in room
    assert "$scrypt" not in text


def test_pages_work_before_there_is_an_inventory(scene, crew, monkeypatch):
    monkeypatch.setattr(scene.manager.inventory, "_snapshot", None)
    for path in ("/channels", "/messages"):
        assert crew.get(path, headers=HTML).status_code == 200
