"""Pictures of signs: their size, that all text is inside, that equal content is equal bytes, and which files stay."""

import asyncio
import io
import itertools
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from station.signage_draw import (
    ACCENT,
    BACKGROUND,
    INK,
    LARGEST_RADIO,
    MUTED,
    NOTICE,
    PANEL,
    QUIET,
    RADIO,
    SCREEN,
    TEXT,
    Notice,
    draw,
)
from station.signage_layout import BOLD, REGULAR, Box, Fonts, fit, length, put
from station.signage_pictures import Pictures
from station.signage_view import View

FONTS = Fonts()
NOW = View("now", "Hall A", "Demo", "Opening", "", "Ada, Grace", "10:45", "11:00", "Next talk", "Radia")
LONG = View(
    "now", "A Room Whose Name Is Long " * 8, "An Event " * 30, "Kapitänsmützen" * 40, "", "Person, " * 100, "10:45",
    "28 September 11:00", "Another Long Title, " * 30, "Somebody, " * 90,
)  # fmt: skip
ODD = "\u0627\u0644\u0639 \u05e9\u05dc\u05d5\u05dd \u4e16\u754c \U0001f389 e\u0301\u0335 a\u200db \ufffd"


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def contrast(one, two):
    """Contrast of two colours as WCAG 2.1 defines it."""

    def light(colour):
        parts = [part / 255 for part in colour]
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("text", "behind"),
    [
        *itertools.product((TEXT, MUTED), (BACKGROUND, PANEL, QUIET)),
        (INK, NOTICE), (BACKGROUND, ACCENT), (ACCENT, QUIET),
    ],
)  # fmt: skip
def test_text_can_be_read(text, behind):
    assert contrast(text, behind) >= 7


@pytest.mark.parametrize("content", [NOW, LONG, Notice("Hall A", "", "Word " * 100, "10:45")])
def test_a_radios_picture(content):
    data = draw(content, RADIO, FONTS)
    assert data.startswith(b"\x89PNG") and len(data) <= LARGEST_RADIO
    assert opened(data).size == (320, 240)
    assert data == draw(content, RADIO, FONTS)


def test_a_screens_picture():
    data = draw(NOW, SCREEN, FONTS)
    assert opened(data).size == (1920, 1080) and len(data) < 200_000


def test_views_differ_to_the_eye():
    states = [
        NOW,
        View("break", "Hall A", "Demo", next_at="11:00", next_title="Next talk"),
        View("none", "Hall A", "Demo"),
    ]
    pictures = [opened(draw(one, RADIO, FONTS)) for one in (*states, Notice("Hall A", "", "Fire"))]
    assert len({picture.tobytes() for picture in pictures}) == 4
    corner = [picture.getpixel((6, 120)) for picture in pictures]
    # a palette may be a little off
    for found, wanted in zip(corner, [BACKGROUND] * 3 + [NOTICE], strict=True):
        assert max(abs(one - two) for one, two in zip(found, wanted, strict=True)) <= 2


@pytest.mark.parametrize("content", [NOW, LONG, View("after", "R", "E" * 200), View("none", "R" * 300, "E" * 300)])
def test_the_margin_stays_empty(content):
    picture = opened(draw(content, RADIO, FONTS))
    margin = RADIO.margin
    for box in ((0, 0, 320, margin), (0, 240 - margin, 320, 240), (0, 0, margin, 240), (320 - margin, 0, 320, 240)):
        assert picture.crop(box).getcolors() == [((picture.crop(box).width * picture.crop(box).height), BACKGROUND)]


TEXTS = st.one_of(
    st.text("abW \u00c4g\u4e16\u0301\u0627\u0644\U0001f389,", max_size=300), st.sampled_from([ODD, ODD * 20, "W" * 900])
)


@pytest.mark.media
@given(TEXTS, st.integers(20, 400), st.integers(10, 200), st.integers(1, 5), st.sampled_from([BOLD, REGULAR]))
@settings(max_examples=40)
def test_lines_fit_their_box(text, width, height, most, font):
    fitted = fit(text, font, (40, 10), width, height, most)
    assert len(fitted.lines) <= most and 10 <= fitted.size <= 40
    assert fitted.height <= height or len(fitted.lines) == 1
    for line in fitted.lines:
        # a box may be narrower than one letter
        assert length(line, font, fitted.size) <= width or len(line) <= 2
    if not fitted.is_cut:
        assert (
            "".join("".join(fitted.lines).split()) in "".join(text.split()) or "\U0001f389" in text or "\u0301" in text
        )
    else:
        assert fitted.lines[-1].endswith("…")


def test_text_shrinks_then_wraps_evenly_then_is_cut():
    sizes = (40, 20)
    assert fit("Short", BOLD, sizes, 400, 100, 2).size == 40
    two = fit("not left alone is the last word", BOLD, (20, 20), 330, 100, 2)
    assert two.lines == ("not left alone", "is the last word")
    cut = fit("one two three four five six " * 9, BOLD, sizes, 300, 100, 2)
    assert cut.is_cut and cut.size == 20 and cut.lines[-1].endswith("…")


def test_what_is_drawn_stays_in_its_box():
    picture = Image.new("RGB", (200, 100))
    put(picture, fit("Äg\u0335\u0323" * 90, BOLD, (90, 40), 100, 10, 3), Box(50, 30, 100, 36), (255, 255, 255))
    inside = picture.crop((50, 30, 150, 66))
    assert inside.getbbox() is not None
    picture.paste((0, 0, 0), (50, 30, 150, 66))
    assert picture.getbbox() is None


def test_symbols_without_a_glyph_are_left_out_and_letters_are_not():
    assert fit("a \U0001f389 b", BOLD, (20, 20), 400, 40, 1).lines == ("a b",)
    assert fit("a \u4e16 b", BOLD, (20, 20), 400, 40, 1).lines == ("a \u4e16 b",)
    assert fit("a \u263a b", BOLD, (20, 20), 400, 40, 1).lines == ("a \u263a b",)


@pytest.fixture
def pictures(tmp_path):
    made = Pictures(tmp_path / "pictures", FONTS)
    yield made
    made.close()


def test_a_picture_is_drawn_once_and_never_changed(pictures, tmp_path):
    async def run():
        name = await pictures.name(NOW, RADIO)
        before = (tmp_path / "pictures" / name).stat()
        assert await pictures.name(NOW, RADIO) == name and pictures.drawn == 1
        assert (tmp_path / "pictures" / name).stat().st_mtime_ns == before.st_mtime_ns
        (tmp_path / "pictures" / name).unlink()
        assert await pictures.name(NOW, RADIO) == name and (tmp_path / "pictures" / name).exists()
        assert {path.name for path in (tmp_path / "pictures").iterdir()} == {name}

    asyncio.run(run())


def test_old_pictures_go_and_those_that_a_message_names_stay(pictures, tmp_path):
    folder = tmp_path / "pictures"
    ages = {"old.png": 90_000, "named.png": 90_000, "new.png": 80_000, "slide-old.jpg": 700, "slide-new.jpg": 500}
    ages["slide-named.jpg"] = 90_000
    for name, age in ages.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    messages = [b"SHOW http://h/signage/a/pictures/named.png", b'{"image":"http://h/pictures/slide-named.jpg","x":1}']
    assert asyncio.run(pictures.prune(messages)) == 4
    assert {path.name for path in folder.iterdir()} == {"named.png", "new.png", "slide-new.jpg", "slide-named.jpg"}
    # one that is no longer named has its time from then on
    assert asyncio.run(pictures.prune([])) == 4
