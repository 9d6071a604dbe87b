"""Signage as a whole, with a stand-in for the bus: at the minute, overrides, restarts, several instances, slides."""

import asyncio
import dataclasses
import io
import json
import os
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from station import signage_overrides, signage_room, signage_service, signage_slides
from station.config import ConfigError
from station.signage_draw import RADIO
from tests.visuals.kit_signage import Bus, Manager, Preview, Refused, context, play, source

pytestmark = pytest.mark.media
BASE = "http://10.0.0.9:8080/signage/door/pictures/"
CHECKOUT = Path(__file__).resolve().parents[2]


SMALL = dataclasses.replace(RADIO, colours=65)
"""In place of full HD: quickly drawn, and another one than that for radios."""


@pytest.fixture(autouse=True)
def fast(monkeypatch, request):
    if "full" not in request.fixturenames:
        monkeypatch.setattr(signage_room, "SCREEN", SMALL)
    monkeypatch.setattr(signage_room, "LOOK", 0.05)
    monkeypatch.setattr(signage_service, "LOOK", 0.05)
    monkeypatch.setattr(signage_overrides, "RETRY", 0.05)


@pytest.fixture
def full():
    """Draw screens' pictures at their size."""


def talks(start=-600, url="https://example.org/one"):
    """Two talks, the first of which began ten minutes ago, and the time of the change."""
    begin = time.time() + start
    return context(("One", begin, begin + 1200, {"url": url}), ("Two", begin + 1800, begin + 3600, {}))


def clock_text(when):
    return time.strftime("%H:%M", time.gmtime(when))


def override(text="Go to Hall B", seconds=600.0, name="o1", **more):
    return {
        "id": name,
        "room": "hall_a",
        "text": text,
        "link": None,
        "since": time.time(),
        "until": time.time() + seconds,
        "author": "x",
        **more,
    }


def test_all_topics_say_what_is_on(tmp_path, full):
    async def run(stage):
        told = talks()
        stage.start(told=told)
        await drawn(stage)
        one, two = told["talks"]["rooms"]["hall_a"]["talks"]
        text = f"TEXT Now: One \u2013 until {clock_text(one['end'])} | Next {clock_text(two['start'])}: Two"
        assert stage.now("hall_a/text") == stage.now("hall_a-screen/text") == text
        for end, size in (
            ("/topic/id/demo/hall_a/image", (320, 240)),
            ("/topic/id/demo/hall_a-screen/image", (1920, 1080)),
        ):
            message = stage.log.last(end)
            assert message.body.startswith(b"SHOW " + BASE.encode())
            with Image.open(tmp_path / "one/pictures" / message.body.decode().rpartition("/")[2]) as picture:
                assert picture.size == size
            assert message.headers["link"] == "https://example.org/one" and message.headers["trigger-time"] == "NOW"
        programme = json.loads(stage.now("screen/programme"))
        assert {key: programme[key] for key in ("room", "title", "timezone", "override")} == {
            "room": "hall_a", "title": "Hall A", "timezone": "UTC", "override": None,
        }  # fmt: skip
        slides = programme["slides"]
        assert [slide["start"] for slide in slides] == [one["start"], one["end"], two["start"], two["end"]]
        assert slides[0]["text"] == text[5:] and slides[0]["link"] == "https://example.org/one"
        assert slides[1]["link"] is None and "SHOW " + slides[0]["image"] == stage.now("screen/image")
        assert all((tmp_path / "one/pictures" / slide["image"].rpartition("/")[2]).exists() for slide in slides)
        assert "link" not in stage.log.last("screen/programme").headers
        metrics = (tmp_path / "one/run/metrics.prom").read_text()
        assert 'stationmaster_signage_speaking{instance="door",role="signage",room="hall_a"}' in metrics

    play(tmp_path, run)


async def drawn(stage):
    """Wait until the whole programme is there."""
    await stage.until(lambda: len(json.loads(stage.now("screen/programme") or '{"slides":[]}')["slides"]) == 4)


def jump(stage, when):
    """Set the clock to half a second before a time; return the time by the real clock."""
    real = time.time() + 0.5
    stage.clock = lambda: time.time() - real + when
    return real


@pytest.mark.pace
def test_it_changes_at_the_minute_and_says_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(signage_room, "LOOK", 0.4)

    async def run(stage):
        told = talks()
        stage.start(told=told)
        await drawn(stage)
        change = jump(stage, told["talks"]["rooms"]["hall_a"]["talks"][0]["end"])
        await stage.until(lambda: len(stage.log.of("hall_a/text")) == 2)
        assert 0 <= time.time() - change < 0.25
        await stage.until(lambda: stage.log.of("hall_a/image")[1:] and stage.log.of("screen/image")[1:])
        assert time.time() - change < 0.3
        assert "Next" in stage.now("hall_a/text")
        await asyncio.sleep(0.5)
        assert len(stage.log.of("hall_a/text")) == len(stage.log.of("hall_a/image")) == 2

    play(tmp_path, run)


def test_a_clock_that_is_set_is_noticed(tmp_path):
    async def run(stage):
        stage.start(told=talks())
        await stage.until(lambda: "Now: One" in (stage.now("hall_a/text") or ""))
        stage.clock = lambda: time.time() + 1800
        await stage.until(lambda: "Now: Two" in stage.now("hall_a/text"))
        stage.clock = lambda: time.time() - 1200
        await stage.until(lambda: "First talk" in stage.now("hall_a/text"))

    play(tmp_path, run)


def test_a_changed_schedule_is_shown_without_a_restart(tmp_path):
    async def run(stage):
        stage.start(told=talks())
        await stage.until(lambda: "Now: One" in (stage.now("hall_a/text") or ""))
        told = talks()
        told["talks"]["rooms"]["hall_a"]["talks"][0]["title"] = "One, moved"
        stage.write("one", told)
        await stage.until(lambda: "Now: One, moved" in stage.now("hall_a/text"))
        # a generation that is just being replaced, or a broken file, changes nothing
        (tmp_path / "one/context.json").unlink()
        await asyncio.sleep(0.2)
        (tmp_path / "one/context.json").write_text("{")
        await asyncio.sleep(0.2)
        assert "Now: One, moved" in stage.now("hall_a/text")

    play(tmp_path, run)


def test_without_a_schedule_the_room_is_shown(tmp_path):
    async def run(stage):
        stage.start(told=context())
        await stage.text("Hall A \u2013 Demo event")

    play(tmp_path, run)


def test_after_a_restart_only_what_differs_is_said(tmp_path):
    async def run(stage):
        told = talks()
        _, task = stage.start(told=told)
        await drawn(stage)
        await stage.stop(task)
        said = len(stage.log.messages)
        _, task = stage.start(told=told)
        await stage.until(lambda: task in stage.running and len(list((tmp_path / "one/pictures").iterdir())) > 2)
        await asyncio.sleep(1)
        # the programme grows as it is drawn; pictures and text are as they were
        assert {message.topic for message in stage.log.messages[said:]} <= {"/topic/id/demo/hall_a-screen/programme"}
        await stage.stop(task)
        told["talks"]["rooms"]["hall_a"]["talks"][0]["title"] = "New"
        stage.start(told=told)
        await stage.until(lambda: "Now: New" in stage.now("hall_a/text"))

    play(tmp_path, run)


@pytest.mark.pace
def test_while_the_bus_is_away_nothing_queues_up(tmp_path):
    async def run(stage):
        bus = Bus(stage.log)
        bus.up = False
        told = talks()
        stage.start(told=told, bus=bus)
        for number in range(3):
            told["talks"]["rooms"]["hall_a"]["talks"][0]["title"] = f"Title {number}"
            stage.write("one", told)
            await asyncio.sleep(0.3)
        assert stage.log.messages == []
        bus.up = True
        await stage.until(lambda: stage.log.of("hall_a/text"))
        assert len(stage.log.of("hall_a/text")) == 1 and "Title 2" in stage.now("hall_a/text")

    play(tmp_path, run)


@pytest.mark.pace
def test_one_message_of_a_topic_waits_for_the_broker_at_most(tmp_path):
    async def run(stage):
        bus = Bus(stage.log)
        bus.confirms = False
        told = talks()
        stage.start(told=told, bus=bus)
        await stage.until(lambda: len(bus.open) == 5)
        for number in range(3):
            told["talks"]["rooms"]["hall_a"]["talks"][0]["title"] = f"Title {number}"
            stage.write("one", told)
            await asyncio.sleep(0.2)
        assert len(bus.open) == 5
        bus.confirms = True
        bus.confirm()
        await stage.until(lambda: len(stage.log.of("hall_a/text")) == 2)
        assert "Title 2" in stage.now("hall_a/text")

    play(tmp_path, run)


def test_of_two_instances_one_speaks_and_the_other_takes_over(tmp_path):
    async def run(stage):
        told = talks()
        _, first = stage.start("one", told=told)
        await drawn(stage)
        said = len(stage.log.messages)
        stage.start("two", told={**told, "url": "http://10.0.0.10:8080/signage/door/"})
        await stage.until(lambda: len(list((tmp_path / "two/pictures").glob("*"))) >= 5)
        await asyncio.sleep(0.2)
        assert len(stage.log.messages) == said
        await stage.stop(first)
        # its pictures are elsewhere, its words are the same
        await stage.until(lambda: "10.0.0.10" in stage.now("hall_a/image") and "10.0.0.10" in stage.now("programme"))
        assert len(stage.log.of("hall_a/text")) == 1

    play(tmp_path, run)


@pytest.mark.pace
def test_an_override_is_shown_told_and_ends(tmp_path):
    async def run(stage):
        manager = Manager()
        stage.start(told=talks(), manager=manager)
        await drawn(stage)
        before, until = stage.now("hall_a/image"), time.time() + 300
        manager.say(override(until=until, link="https://example.org/b"), override(name="o2", room="hall_b"))
        began = time.monotonic()
        await stage.text("Go to Hall B")
        assert time.monotonic() - began < 4
        await stage.until(lambda: manager.posted)
        assert manager.posted == [("/v1/visuals/overrides/o1/shown", {"source": "one/door"})]
        image = stage.log.last("hall_a/image")
        assert image.body.decode() != before and image.headers["link"] == "https://example.org/b"
        told = json.loads(stage.now("programme"))
        assert told["override"] == {"image": stage.now("screen/image")[5:], "text": "Go to Hall B", "until": until}
        assert len(told["slides"]) == 4
        end = jump(stage, until)
        await stage.until(lambda: stage.now("hall_a/image") == before)
        assert 0 <= time.time() - end < 0.3
        await stage.until(lambda: json.loads(stage.now("programme"))["override"] is None)
        assert len(manager.posted) == 1

    play(tmp_path, run)


def test_an_override_that_is_removed_or_replaced_changes_at_once(tmp_path):
    async def run(stage):
        manager = Manager()
        stage.start(told=talks(), manager=manager)
        manager.say(override())
        await stage.text("Go to Hall B")
        manager.say(override("Doors open at noon. " * 20, name="o2"))
        await stage.until(lambda: stage.now("hall_a/text").startswith("TEXT Doors open"))
        assert len(stage.now("hall_a/text")) <= 128 + 5 and stage.now("hall_a/text").endswith("…")
        manager.say()
        await stage.until(lambda: "Now: One" in stage.now("hall_a/text"))

    play(tmp_path, run)


@pytest.mark.pace
def test_a_restart_without_the_manager_ends_an_override_in_time(tmp_path):
    async def run(stage):
        manager, until = Manager(), time.time() + 300
        _, task = stage.start(told=talks(), manager=manager)
        manager.say(override(until=until))
        await stage.text("Go to Hall B")
        await stage.until((tmp_path / "one/overrides.json").exists)
        await stage.stop(task)
        said = len(stage.log.of("hall_a/text"))
        stage.start(manager=Manager())
        await asyncio.sleep(0.3)
        assert len(stage.log.of("hall_a/text")) == said
        end = jump(stage, until)
        await stage.until(lambda: "Now: One" in stage.now("hall_a/text"))
        assert 0 <= time.time() - end < 0.3 and len(stage.log.of("hall_a/text")) == said + 1

    play(tmp_path, run)


def test_the_manager_is_told_only_when_the_bus_has_the_override(tmp_path):
    async def run(stage):
        manager, bus = Manager(), Bus(stage.log)
        stage.start(told=talks(), manager=manager, bus=bus)
        await drawn(stage)
        bus.confirms = False
        manager.say(override())
        await stage.until(lambda: len(bus.open) == 5)
        await asyncio.sleep(0.2)
        assert not manager.posted
        bus.confirm()
        await stage.until(lambda: manager.posted)

    play(tmp_path, run)


def test_the_manager_is_told_until_it_has_heard(tmp_path):
    async def run(stage):
        manager = Manager()
        manager.error = OSError("away")
        stage.start(told=talks(), manager=manager)
        manager.say(override())
        await stage.text("Go to Hall B")
        await asyncio.sleep(0.3)
        manager.error = None
        await stage.until(lambda: manager.posted)
        manager.error = Refused(404)
        manager.say(override("Two", name="o2"))
        await stage.text("Two")

    play(tmp_path, run)


@pytest.mark.parametrize(
    "row", [{}, 7, {"id": "a/../b"}, {"until": "soon"}, {"text": " "}, {"until": None}, {"room": None}]
)
def test_an_override_of_another_shape_is_passed_over(tmp_path, row):
    made = signage_overrides._by_room([{**override(), **row} if row and row != 7 else row, override(room="hall_b")])
    assert list(made) in (["hall_b"], ["None", "hall_b"])


@pytest.fixture
def preview():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Preview)
    server.content, server.age = jpeg("red"), 0
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def jpeg(colour, size=(640, 360)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def with_slides(preview, **more):
    url = f"http://127.0.0.1:{preview.server_port}/ingest/main/"
    return {"options": {"slides": {"from": "cam/main", "every": 2, **more}}, "sources": {"cam/main": source(url)}}


@pytest.fixture
def quick(monkeypatch):
    """Slides come more often than a screen could want."""
    plain = signage_slides.Slides.__init__

    def init(self, url, every, stale, *rest):
        plain(self, url, every / 20, stale / 20, *rest)

    monkeypatch.setattr(signage_slides.Slides, "__init__", init)


def test_slides_are_shown_while_a_talk_is_on(tmp_path, preview, quick):
    async def run(stage):
        stage.start(told=talks(), **with_slides(preview))
        await stage.until(lambda: "/slide-" in (stage.now("hall_a/image") or ""))
        for end, size in (("hall_a/image", (320, 240)), ("screen/image", (640, 360))):
            path = tmp_path / "one/pictures" / stage.now(end).rpartition("/")[2]
            with Image.open(path) as picture:
                assert picture.size == size and picture.getpixel((size[0] // 2, size[1] // 2))[0] > 200
            assert size == (640, 360) or path.stat().st_size <= 50_000
        assert path.read_bytes() == preview.content
        assert "Now: One" in stage.now("hall_a/text")
        red, count = stage.now("screen/image"), len(stage.log.of("screen/image"))
        await asyncio.sleep(0.3)
        assert len(stage.log.of("screen/image")) == count
        preview.content = jpeg("blue")
        await stage.until(lambda: stage.now("screen/image") != red)
        assert (tmp_path / "one/pictures" / red.rpartition("/")[2]).exists()
        # between talks the schedule is shown
        stage.clock = lambda: time.time() + 700
        await stage.until(
            lambda: "/slide-" not in stage.now("screen/image") and "/slide-" not in stage.now("hall_a/image")
        )

    play(tmp_path, run)


@pytest.mark.parametrize("wrong", ["away", "stale", "text", "huge", "long"])
def test_a_preview_that_is_no_slide_gives_way_to_the_schedule(tmp_path, preview, quick, wrong):
    async def run(stage):
        stage.start(told=talks(), **with_slides(preview))
        await stage.until(lambda: "/slide-" in (stage.now("screen/image") or ""))
        if wrong == "away":
            preview.content = None
        elif wrong == "stale":
            preview.age = 60
        elif wrong == "text":
            preview.content = b"<html>"
        elif wrong == "huge":
            preview.content = jpeg("red", (5000, 10))
        else:
            preview.content = jpeg("red") + bytes(signage_slides.LARGEST)
        await stage.until(lambda: "/slide-" not in stage.now("screen/image"))
        preview.content, preview.age = jpeg("green"), 0
        await stage.until(lambda: "/slide-" in stage.now("screen/image"))

    play(tmp_path, run)


def test_the_crews_words_come_before_slides(tmp_path, preview, quick):
    async def run(stage):
        manager = Manager()
        stage.start(told=talks(), manager=manager, **with_slides(preview))
        await stage.until(lambda: "/slide-" in (stage.now("screen/image") or ""))
        manager.say(override())
        await stage.until(lambda: "/slide-" not in stage.now("screen/image"))
        manager.say()
        await stage.until(lambda: "/slide-" in stage.now("screen/image"))

    play(tmp_path, run)


def test_slides_may_be_shown_always(tmp_path, preview, quick):
    async def run(stage):
        stage.start(told=context(), **with_slides(preview, always=True))
        await stage.until(lambda: "/slide-" in (stage.now("screen/image") or ""))

    play(tmp_path, run)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"slides": {"from": "x/y"}}, "options.slides.from"),
        ({"slides": {"from": "cam/main", "every": 1}}, "options.slides.every"),
        ({"slides": {"from": "cam/main", "room": "b"}, "rooms": ["a"]}, "options.slides.room"),
        ({"font": "/nonexistent.ttf"}, "options.font"),
        ({"rooms": "a"}, "options.rooms"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(tmp_path, options, key):
    async def run(stage):
        with pytest.raises(ConfigError) as error:
            stage.start(options=options, sources={"cam/main": source("http://h/")})
        assert error.value.key == key

    play(tmp_path, run)


@pytest.mark.parametrize("python", ["/usr/bin/python3", str(CHECKOUT / ".venv/bin/python")])
def test_both_pythons_draw(tmp_path, python):
    """The program's modules run on Debian's Pillow and on the newest."""
    program = (
        "import sys; from station.signage_draw import *; from station.signage_layout import Fonts\n"
        "view = View('now', 'A', 'E', title='One two ' * 30, until='10:45', next_at='11:00', next_title='N')\n"
        "import station.signage_service\n"
        "sys.stdout.buffer.write(draw(view, RADIO, Fonts()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "error::DeprecationWarning:station"}
    done = subprocess.run([python, "-c", program], env=environment, capture_output=True, check=True, timeout=30)
    assert Image.open(io.BytesIO(done.stdout)).size == (320, 240)


def test_the_example_is_a_configuration(tmp_path):
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "station.signage", "--example"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stdout)["sources"]["here/visuals"]["options"]["stomp_port"] == 61613
