"""Foreign clients of what stills serves over HTTP: ffprobe, ffmpeg, and a browser with the page and an <img>."""

import http.server
import re
import subprocess
import threading

import pytest
from playwright.sync_api import expect

from tests.labkit import until
from tests.media.kit import ffprobe
from tests.pages.browser import chromium, fits, picture, serious, visitor
from tests.stills.kit_core import in_turn
from tests.stills.kit_web import House

pytestmark = pytest.mark.media
SMALL = {"width": 320, "height": 180, "pictures": 10}
SOON = 10_000


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    streams = {
        "slides": {"testcard": SMALL, "ips": 5, "room": "hall_a", "name": "Slides-of-hall-a"},
        "drawn": {"testcard": {**SMALL, "width": 160}, "ips": 5, "type": "PNG"},
        "below": {"testcard": SMALL, "ips": 5},
        "away": {"from": "cam/main", "ips": 0.5},
    }
    source = {"cam/main": {"path": str(folder / "nowhere"), "url": "http://127.0.0.1:9/"}}
    made = House(folder, streams, sources=source).start()
    yield made
    assert made.stop() < 5


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


def test_ffmpeg_reads_mjpeg(house):
    url = f"http://127.0.0.1:{house.port}/streams/slides/mjpeg"
    (found,) = ffprobe(url, "stream=codec_name,width,height")["streams"]
    assert (found["codec_name"], found["width"], found["height"]) == ("mjpeg", 320, 180)
    command = ["ffmpeg", "-v", "error", "-f", "mpjpeg", "-i", url, "-frames:v", "8", "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()
    sums = [line.split(",")[-1] for line in lines if not line.startswith("#")]
    assert len(sums) == 8
    # the first may come twice: at once, and by the clock
    assert len(set(sums)) >= 7
    assert until(lambda: house.stream("slides")["viewers"] == 0, 10, 0.05)


def test_the_page_plays_what_is_in_sight(house, browser):
    with visitor(browser, f"http://127.0.0.1:{house.port}", viewport={"width": 700, "height": 500}) as page:
        page.goto("/")
        expect(page.locator("article")).to_have_count(4)
        slides = page.locator("article[data-key=slides]")
        expect(slides.locator("h2")).to_have_text("Slides-of-hall-a (hall_a)")
        expect(page.locator("article[data-key=away] .state")).to_contain_text("waiting: cam/main", timeout=SOON)
        for key, width in (("slides", 320), ("drawn", 160)):
            image = page.locator(f"article[data-key={key}] img")
            page.wait_for_function("i => i.complete && i.naturalWidth", arg=image.element_handle(), timeout=SOON)
            assert image.evaluate("i => i.naturalWidth") == width
            seen = {image.get_attribute("src")}
            assert until(lambda image=image, seen=seen: seen.add(image.get_attribute("src")) or len(seen) > 4, 10, 0.05)
        assert fits(page)
        assert serious(page) == []
        assert slides.locator("a").all_inner_texts() == ["picture", "MJPEG"]
        picture(page, "stills")
        # what leaves the sight is not asked for any more, and is once it comes back
        page.set_viewport_size({"width": 300, "height": 200})
        assert until(lambda: house.stream("slides")["viewers"] == 0, 10, 0.05)
        slides.scroll_into_view_if_needed()
        assert until(lambda: house.stream("slides")["viewers"] == 1, 10, 0.05)
    assert until(lambda: house.metric("places_taken") == 0, 10, 0.05)


def test_the_page_lasts_longer_than_its_server(tmp_path, browser):
    house = House(tmp_path, {"card": {"testcard": SMALL, "ips": 10}}).start()
    with visitor(browser, f"http://127.0.0.1:{house.port}") as page:
        page.goto("/")
        expect(page.locator("article img")).to_have_attribute("src", re.compile("^blob:"), timeout=SOON)
        house.kill()
        expect(page.locator("#offline")).to_be_visible(timeout=SOON)
        house.start()
        expect(page.locator("#offline")).to_be_hidden(timeout=SOON)
        before = page.locator("article img").get_attribute("src")
        expect(page.locator("article img")).not_to_have_attribute("src", before, timeout=SOON)
    house.stop()


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another server, which shows pictures of ours."""

    house = None

    def do_GET(self):
        streams = f"http://127.0.0.1:{self.house.port}/streams/slides"
        text = f"""<!doctype html><title>x</title><img id=mjpeg src="{streams}/mjpeg"><script>
            window.numbers = []; window.kinds = [];
            (async () => {{
                for (let at = ""; window.numbers.length < 5; ) {{
                    const answer = await fetch("{streams}/next" + at);
                    window.numbers.push(Number(answer.headers.get("X-Picture-Number")));
                    at = "?after=" + window.numbers.at(-1);
                }}
            }})();
            const socket = new WebSocket("{streams.replace("http", "ws")}/ws");
            socket.onmessage = async (event) => {{
                const bitmap = await createImageBitmap(event.data);
                window.kinds.push([bitmap.width, bitmap.height]);
            }};
            </script>""".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def elsewhere(house):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Elsewhere,), {"house": house}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_of_other_servers_show_them_too(browser, elsewhere):
    with visitor(browser, elsewhere) as page:
        page.goto("/", wait_until="commit")
        page.wait_for_function("window.numbers?.length >= 5 && window.kinds.length >= 5", timeout=SOON)
        numbers = page.evaluate("window.numbers")
        assert in_turn(numbers, 10), numbers
        assert page.evaluate("window.kinds.at(-1)") == [320, 180]
        # an <img> of MJPEG moves: what it shows at two times differs
        assert page.locator("#mjpeg").evaluate("i => i.naturalWidth") == 320
        shots = {page.locator("#mjpeg").screenshot()}
        assert until(lambda: shots.add(page.locator("#mjpeg").screenshot()) or len(shots) > 3, 10, 0.05)
