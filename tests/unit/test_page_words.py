"""docs/page.md is true: every word that the page shows for how something is, is explained there in its colour."""

import re
from pathlib import Path
from typing import get_args

from api import run_states
from api.pages import stills
from api.pages.health import ORDER
from api.station_state import Presence, State

TOP = Path(__file__).resolve().parent.parent.parent
TEXT = (TOP / "docs/page.md").read_text("utf-8")
STYLE = (TOP / "api/pages/static/style.css").read_text("utf-8")
COLOURS = {"good": "green", "warn": "amber", "bad": "red", "quiet": "grey"}
INSTANCES = {"ready", "warn", "failed", "stopped", "absent", "unknown"}
OF_A_RUN = {*run_states.QUEUED, *run_states.ACTIVE, *run_states.ENDED}


def tables() -> list[dict[str, str]]:
    """The tables of words: each gives a word its colour."""
    found = []
    for table in re.findall(r"\| word \| colour \|.*?\n\n", TEXT, re.DOTALL):
        rows = re.findall(r"^\| (`[^|]+`) \| (\w+) \| [^|]+ \|$", table, re.MULTILINE)
        found.append({word: colour for words, colour in rows for word in re.findall(r"`(\w+)`", words)})
    return found


def colour_of(word: str) -> str:
    """The colour of a word in the style sheet, whose last rule counts."""
    found = "quiet"
    for selectors, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", STYLE):
        told = re.search(r"(?:^|[;\s])color:\s*var\(--(\w+)\)", rule)
        if told and f".word.{word}" in [one.strip() for one in selectors.split(",")]:
            found = told[1]
    return COLOURS[found]


def test_every_word_is_explained_and_no_other():
    rooms, instances, streams, runs = tables()
    assert set(rooms) == {*ORDER, *get_args(State), *get_args(Presence)}
    assert set(instances) == INSTANCES
    assert set(streams) == {*stills.WORDS, stills.State().word}
    assert set(runs) == OF_A_RUN


def test_every_word_has_the_colour_that_it_is_said_to_have():
    for table in tables():
        assert {word: colour_of(word) for word in table} == table
    line = " ".join(TEXT.partition("in a run: ")[2].partition("\n\n")[0].split())
    told = {
        word: colour
        for words, colour in re.findall(r"([^()]+) \((\w+)\)", line)
        for word in re.findall(r"`(\w+)`", words)
    }
    assert set(told) > {"ok", "changed", "failed", "unreachable"}
    assert {word: colour_of(word) for word in told} == told


def test_every_page_of_the_navigation_has_its_heading():
    base = (TOP / "api/pages/templates/base.html.j2").read_text("utf-8")
    labels = re.findall(r'\("/[a-z]*", "(\w+)"\)', base)
    assert len(labels) > 3
    for label in (*labels, "Board"):
        assert f"\n### {label}\n" in TEXT, label
