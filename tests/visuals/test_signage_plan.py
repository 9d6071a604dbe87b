"""What a room's sign shows at any time, and its line of text."""

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.signage_plan import FOREVER, SLIDES, Room, Talk, rooms_of
from station.signage_view import View
from station.signage_words import LONGEST, clean, cut, line

ZONE = ZoneInfo("Europe/Berlin")


def at(text):
    """Seconds of a local time, `Sat 10:00` in the week that begins on Monday, 2 March 2026."""
    day, clock = text.split()
    number = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].index(day) + 2
    return datetime.fromisoformat(f"2026-03-{number:02d}T{clock}").replace(tzinfo=ZONE).timestamp()


def talk(begin, end, title, *people, url=""):
    return Talk(title, people, at(begin), at(end), url=url)


def room(*talks):
    return Room("Hall A", "Demo event", ZONE, talks)


FRIDAY = room(
    talk("Fri 10:00", "Fri 10:45", "Opening", "Ada"),
    talk("Fri 11:00", "Fri 11:45", "Mixers", "Grace", "Radia", url="https://example.org/mixers"),
    talk("Fri 11:45", "Fri 12:30", "Cables"),
    talk("Fri 23:30", "Sat 00:30", "Late show"),
    talk("Sat 01:00", "Sat 02:00", "Later show"),
    talk("Sat 10:00", "Sat 11:00", "Morning"),
    talk("Sun 03:00", "Sun 03:30", "Night talk"),
)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("Wed 12:00", "First talk 6 March 10:00: Opening (Ada)"),
        ("Fri 03:59", "First talk 6 March 10:00: Opening (Ada)"),
        ("Fri 04:00", "First talk at 10:00: Opening (Ada)"),
        ("Fri 09:59", "First talk at 10:00: Opening (Ada)"),
        ("Fri 10:00", "Now: Opening (Ada) \u2013 until 10:45 | Next 11:00: Mixers"),
        ("Fri 10:44", "Now: Opening (Ada) \u2013 until 10:45 | Next 11:00: Mixers"),
        ("Fri 10:45", "Next 11:00: Mixers (Grace, Radia)"),
        ("Fri 11:00", "Now: Mixers (Grace, Radia) \u2013 until 11:45 | Next 11:45: Cables"),
        ("Fri 11:45", "Now: Cables \u2013 until 12:30 | Next 23:30: Late show"),
        ("Fri 20:00", "Next 23:30: Late show"),
        ("Sat 00:10", "Now: Late show \u2013 until 00:30 | Next 01:00: Later show"),
        ("Sat 00:45", "Next 01:00: Later show"),
        ("Sat 01:00", "Now: Later show \u2013 until 02:00 | Next Saturday 10:00: Morning"),
        ("Sat 02:00", "Thank you. Next Saturday 10:00: Morning"),
        ("Sat 04:00", "First talk at 10:00: Morning"),
        ("Sat 12:00", "Next 03:00: Night talk"),
        ("Sun 03:30", "Thank you for coming to Demo event"),
        ("Sun 23:00", "Thank you for coming to Demo event"),
    ],
)
def test_a_sign_at_a_time(when, expected):
    assert line(FRIDAY.at(at(when))) == expected
    # the slide that holds this time is the same
    assert line(FRIDAY.slides(at(when))[0].view) == expected


def test_a_short_gap_over_the_beginning_of_a_day_is_a_break():
    late = room(talk("Sat 02:30", "Sat 03:30", "Late"), talk("Sat 04:30", "Sat 05:00", "Early"))
    assert line(late.at(at("Sat 03:40"))) == line(late.at(at("Sat 04:10"))) == "Next 04:30: Early"


def test_a_slide_begins_with_its_view_even_over_the_beginning_of_a_day():
    late = room(talk("Sat 02:30", "Sat 05:00", "Late"), talk("Sat 10:00", "Sat 11:00", "Morning"))
    slide = late.slides(at("Sat 04:30"))[0]
    assert (slide.start, slide.end) == (at("Sat 02:30"), at("Sat 05:00"))


def test_the_minute_it_changes():
    assert FRIDAY.at(at("Fri 10:45") - 0.001).state == "now"
    assert FRIDAY.at(at("Fri 10:45")).state == "break"
    assert FRIDAY.slides(at("Fri 10:45") - 0.001)[0].end == at("Fri 10:45")


def test_the_link_is_that_of_the_talk_that_is_told_first():
    assert FRIDAY.at(at("Fri 10:50")).link == FRIDAY.at(at("Fri 11:10")).link == "https://example.org/mixers"
    assert FRIDAY.at(at("Fri 10:10")).link == ""


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "ftp://x", "https://a b", "https://a\nb", "https://" + "a" * 2000]
)
def test_what_is_no_address_of_the_web_is_no_link(url):
    assert room(talk("Fri 10:00", "Fri 11:00", "A", url=url)).at(at("Fri 10:30")).link == ""


def test_without_talks_the_room_and_the_event_are_shown():
    assert line(room().at(0)) == "Hall A \u2013 Demo event"
    assert [(one.start, one.end) for one in room().slides(5e8)] == [(0, FOREVER)]


def test_of_two_talks_at_once_the_later_one_is_shown_until_it_ends():
    both = room(talk("Fri 10:00", "Fri 12:00", "Long"), talk("Fri 10:30", "Fri 11:00", "Short"))
    assert [both.at(at(f"Fri {when}")).title for when in ("10:15", "10:45", "11:15")] == ["Long", "Short", "Long"]


def test_a_week_without_talks_is_told_with_a_date():
    apart = room(talk("Mon 10:00", "Mon 11:00", "One"), talk("Sun 10:00", "Sun 11:00", "Two"))
    assert line(apart.at(at("Tue 10:00"))) == "Thank you. Next Sunday 10:00: Two"
    apart = Room(
        "A",
        "E",
        ZONE,
        [Talk("One", (), at("Mon 10:00"), at("Mon 11:00")), Talk("Two", (), at("Mon 10:00") + 8 * 86400, FOREVER)],
    )
    assert line(apart.at(at("Tue 10:00"))) == "Thank you. Next 10 March 10:00: Two"


def test_times_are_local_on_both_sides_of_a_change_of_the_clocks():
    # clocks in Berlin went forward on 29 March 2026 at 2:00
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 3, 29, 1, 30, tzinfo=zone).timestamp()
    shown = Room("A", "E", zone, [Talk("Night", (), begin, begin + 3600)]).at(begin)
    assert shown.until == "03:30"


def test_a_day_of_slides_follows_without_gaps():
    slides = FRIDAY.slides(at("Fri 09:00"))
    assert slides[0].start == at("Fri 04:00") and slides[-1].end >= at("Sat 09:00")
    assert [one.view.state for one in slides] == [
        "before",
        "now",
        "break",
        "now",
        "now",
        "break",
        "now",
        "break",
        "now",
        "after",
        "before",
    ]
    assert all(one.end == two.start for one, two in itertools.pairwise(slides))


def test_slides_are_bounded():
    many = room(*(Talk(str(n), (), at("Fri 10:00") + n * 60, at("Fri 10:00") + n * 60 + 60) for n in range(1000)))
    assert len(many.slides(at("Fri 10:00"))) == SLIDES


@pytest.mark.media
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=12),
    st.integers(-30, 260),
)
@settings(max_examples=60)
def test_slides_say_what_each_time_says(rows, now):
    base = at("Fri 12:00")
    talks = [Talk(str(n), (), base + begin * 600, base + (begin + long) * 600) for n, (begin, long) in enumerate(rows)]
    shown = Room("A", "E", ZONE, talks)
    slides = shown.slides(base + now * 600)
    assert slides[0].start <= base + now * 600 < slides[0].end
    for slide in slides:
        for when in (slide.start, (slide.start + min(slide.end, slide.start + 9e6)) / 2, slide.end - 0.01):
            assert shown.at(when) == slide.view
    assert all(one.end == two.start and one.view != two.view for one, two in itertools.pairwise(slides))


def test_context_is_read_as_it_is_written():
    context = {
        "event": {"title": "Demo"},
        "talks": {
            "timezone": "Europe/Berlin",
            "rooms": {
                "a": {
                    "title": "Hall A",
                    "talks": [{"title": "T", "presenters": ["P"], "start": 1.0, "end": 2.0}, {"start": "x"}, 7],
                },
                "b": {"title": "Hall B", "talks": None},
            },
        },
    }
    found = rooms_of(context, [], "demo")
    assert list(found) == ["a", "b"] and found["a"].at(1).people == "P" and found["a"].at(1).until == "01:00"
    assert line(found["b"].at(1)) == "Hall B \u2013 Demo"
    assert list(rooms_of(context, ["b", "c"], "demo")) == ["b", "c"]


@pytest.mark.parametrize(
    "context", [{}, {"talks": 1}, {"talks": {"timezone": "No/Where", "rooms": 3}}, {"talks": {"rooms": {"a": 1}}}]
)
def test_a_context_of_another_shape_shows_the_room(context):
    assert line(rooms_of(context, ["a"], "demo")["a"].at(1)) == "a \u2013 demo"


def test_long_titles_are_cut_at_words():
    one, two = "A Rather Long Title about the Recording of Conferences " * 3, "Another Title That Is Long " * 3
    text = line(View("now", "A", "E", title=one.strip(), until="10:45", next_at="11:00", next_title=two.strip()))
    assert text == (
        "Now: A Rather Long Title about the Recording of Conferences A… \u2013 until 10:45"
        " | Next 11:00: Another Title That Is Long Another…"
    )


def test_a_short_next_title_leaves_the_room_to_the_talk_that_is_on():
    text = line(View("now", "A", "E", title="word " * 30, until="10:45", next_at="11:00", next_title="Short"))
    assert text.endswith("word… \u2013 until 10:45 | Next 11:00: Short") and len(text) > LONGEST - 6


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("short", 5, "short"),
        ("one two three", 9, "one two…"),
        ("one two three", 8, "one two…"),
        ("one, two", 6, "one…"),
        ("Donaudampfschiff", 6, "Donau…"),
        ("abcde\u0301fgh", 6, "abcd…"),
        ("ab", 1, "…"),
    ],
)
def test_cutting(text, longest, expected):
    assert cut(text, longest) == expected


def test_text_becomes_one_line():
    assert clean("a\n\tb\x00 c\u2028d  e") == "a b c d e"
    assert clean("z" + "\u0335" * 50 + "x") == "z" + "\u0335" * 4 + "x"


WORDS = st.text("ab ,\u0301\u200d\u00e4\u4e16\U0001f389.", max_size=150).map(clean)
VIEWS = st.builds(
    View,
    st.sampled_from(["now", "break", "before", "after", "none"]),
    *[WORDS] * 5,
    st.just("10:45"),
    st.sampled_from(["11:00", "Wednesday 11:00", "28 September 11:00"]),
    *[WORDS] * 2,
)


@given(VIEWS)
@settings(max_examples=40)
def test_a_line_is_one_line_of_128_characters_and_utf8(view):
    text = line(view)
    assert len(text) <= LONGEST
    assert text.replace("\u200d", "").isprintable()
    text.encode()
    if view.state == "now":
        assert "until 10:45" in text
