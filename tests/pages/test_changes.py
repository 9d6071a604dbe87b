"""What open pages are told: rendered once a second for all of them, and only what changed is sent."""

import asyncio
import threading
import time
from itertools import repeat
from types import SimpleNamespace

import pytest

from api.pages import changes
from api.pages.changes import ALIVE, LIFE, LOOK, Cards, event, stream
from tests.pages.conftest import signed_in

FIRST = "retry: 1000\n\n"


class Clock:
    """Time that passes only in sleep; `slept` has how long each was."""

    def __init__(self):
        self.at = 1000.0
        self.slept = []
        self.after = lambda: None
        """Called after each sleep."""

    def monotonic(self):
        return self.at

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += max(0.0, seconds)
        self.after()


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(changes, "time", made)
    monkeypatch.setattr(changes, "asyncio", SimpleNamespace(sleep=made.sleep, Lock=asyncio.Lock))
    return made


@pytest.fixture
def manager():
    return SimpleNamespace(ending=threading.Event())


def cards_of(*renderings):
    """Cards that are rendered so, one after the other."""
    found = iter(renderings)
    return Cards(lambda: next(found))


def told(manager, cards, count, **more):
    """The first events of a stream, or all of one that ends before."""

    async def collect():
        content, found = stream(manager, cards, **more), []
        while len(found) < count:
            try:
                found.append(await anext(content))
            except StopAsyncIteration:
                break
        return found

    return asyncio.run(collect())


def test_many_readers_have_one_rendering_a_second(clock):
    rendered = []

    def render():
        time.sleep(0.01)
        rendered.append(clock.at)
        return {"a": str(len(rendered))}

    async def read():
        cards = Cards(render)
        for wait in (0, LOOK * 0.5, LOOK * 0.49, LOOK * 0.01, LOOK * 3):
            clock.at += wait
            found = await asyncio.gather(*(cards.look() for _ in range(20)))
            assert all(one == found[0] for one in found)

    asyncio.run(read())
    assert rendered == pytest.approx([1000, 1000 + LOOK, 1000 + LOOK * 4])


def test_a_slow_rendering_leaves_a_pause_before_the_next(clock):
    def render():
        clock.at += 5
        return {}

    cards = Cards(render)
    asyncio.run(cards.look())
    assert cards.due == clock.at + LOOK


def test_a_rendering_that_fails_is_told_and_the_next_one_is_as_ever(clock):
    found = iter([RuntimeError("away"), {"a": "A"}])

    def render():
        one = next(found)
        if isinstance(one, Exception):
            raise one
        return one

    async def read():
        cards = Cards(render)
        with pytest.raises(RuntimeError, match="away"):
            await cards.look()
        return await cards.look()

    assert asyncio.run(read()) == {"a": (1, "A")}


def test_a_stream_ends_now_and_then_so_that_its_session_is_looked_at_again(clock, manager):
    cards = Cards(lambda: {"a": str(clock.at)})
    begun = clock.at
    assert len(told(manager, cards, 10_000)) == LIFE / LOOK + 1
    assert clock.at == begun + LIFE


def test_only_what_changed_is_sent(clock, manager):
    cards = cards_of({"a": "A1", "b": "B1"}, {"a": "A1", "b": "B2"}, {"a": "A2", "b": "B1"}, {"a": "A2", "b": "B3"})
    assert told(manager, cards, 5) == [
        FIRST,
        "data: A1\ndata: B1\n\n",
        "data: B2\n\n",
        "data: A2\ndata: B1\n\n",
        "data: B3\n\n",
    ]


def test_who_comes_later_has_everything_first_and_then_what_changed(clock, manager):
    async def read():
        cards = cards_of({"a": "A1", "b": "B1"}, {"a": "A2", "b": "B1"}, {"a": "A2", "b": "B2"})
        first = stream(manager, cards)
        for _ in range(3):
            await anext(first)
        second = stream(manager, cards)
        return [await anext(second) for _ in range(3)]

    assert asyncio.run(read()) == [FIRST, "data: A2\ndata: B1\n\n", "data: B2\n\n"]


def test_who_comes_between_waits_for_the_next_rendering_and_no_longer(clock, manager):
    async def read():
        cards = Cards(lambda: {"a": str(clock.at)})
        first, second = stream(manager, cards), stream(manager, cards)
        await anext(first)
        await anext(first)
        clock.at += LOOK * 0.9
        for _ in range(3):
            await anext(second)

    asyncio.run(read())
    assert clock.slept == pytest.approx([LOOK * 0.1])


@pytest.mark.parametrize("then", [{"a": "A"}, {"a": "A", "b": "B", "c": "C"}, {"a": "A", "c": "C"}, {}])
def test_fragments_that_come_or_go_have_the_page_loaded_again(clock, manager, then):
    cards = cards_of({"a": "A", "b": "B"}, then)
    assert told(manager, cards, 10) == [FIRST, "data: A\ndata: B\n\n", "event: renew\ndata: cards\n\n"]


def test_a_page_of_some_fragments_is_told_of_no_others(clock, manager):
    cards = cards_of({"a": "A1", "b": "B1"}, {"a": "A1", "b": "B2"}, {"a": "A2", "b": "B2"}, {"a": "A3", "c": "C"})
    assert told(manager, cards, 4, only=lambda name: name == "a") == [
        FIRST,
        "data: A1\n\n",
        "data: A2\n\n",
        "data: A3\n\n",
    ]


def test_a_quiet_stream_says_that_it_lives(clock, manager):
    quiet, news = {"a": "A"}, {"a": "B"}
    found = iter([*repeat(quiet, 25), *repeat(news, 15)])
    heard = []

    async def read():
        content = stream(manager, Cards(lambda: next(found)))
        for _ in range(6):
            heard.append((await anext(content), clock.at - 1000))

    asyncio.run(read())
    words = [word for word, _ in heard]
    alive = "event: alive\ndata: yes\n\n"
    assert words == [FIRST, "data: A\n\n", alive, alive, "data: B\n\n", alive]
    times = [at for _, at in heard[1:]]
    assert times == pytest.approx([0, ALIVE + LOOK, 2 * (ALIVE + LOOK), 25, 25 + ALIVE + LOOK])


def test_a_stream_ends_with_the_manager(clock, manager):
    clock.after = manager.ending.set
    assert told(manager, cards_of({"a": "A1"}, {"a": "A2"}), 10) == [FIRST, "data: A1\n\n"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\u2028"])
def test_no_text_ends_its_event(end):
    assert event(f"a{end}{end}event: renew") == "data: a\ndata: \ndata: event: renew\n\n"


def test_pages_are_compressed_and_streams_are_not(scene, browser, monkeypatch):
    signed_in(scene, browser)
    assert browser.get("/").headers["content-encoding"] == "gzip"
    monkeypatch.setattr(scene.manager, "ending", threading.Event())
    scene.manager.ending.set()
    answer = browser.get("/rooms/changes")
    assert answer.text == FIRST
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in answer.headers
