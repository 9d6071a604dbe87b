"""Pictures of files: checked, converted, and refused all at once."""

import io

import pytest
from PIL import Image

from station.stills import pictures, rtp_jpeg
from station.stills.pictures import KINDS, Picture, Unreadable
from tests.stills.kit_core import image

FORMATS = {"GIF": "GIF", "JPG": "JPEG", "BMP": "BMP", "PNG": "PNG"}


def opened(picture):
    return Image.open(io.BytesIO(picture.data))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_left_as_it_is(kind, tmp_path):
    data = image(tmp_path / "x", FORMATS[kind])
    assert pictures.load([tmp_path / "x"]) == [Picture(0, kind, data)]
    assert pictures.load([tmp_path / "x"], kind) == [Picture(0, kind, data)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_each_kind_becomes_each_other(kind, other, tmp_path):
    image(tmp_path / "x", FORMATS[kind], colour=(200, 30, 40))
    (made,) = pictures.load([tmp_path / "x"], other)
    assert made.kind == other
    with opened(made) as shown:
        assert shown.format == FORMATS[other]
        assert shown.size == (8, 6)
        assert all(
            abs(is_ - was) < 12 for is_, was in zip(shown.convert("RGB").getpixel((4, 3)), (200, 30, 40), strict=True)
        )


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_mode_are_converted(mode, kind):
    out = io.BytesIO()
    made = Image.new(mode, (4, 4))
    made.save(out, "TIFF" if mode in ("CMYK", "F") else "PNG")
    assert opened(pictures.check(0, out.getvalue(), kind)).format == FORMATS[kind]


@pytest.mark.parametrize("kind", ["JPG", "GIF", "BMP"])
def test_grey_of_16_bits_stays_grey(kind):
    out = io.BytesIO()
    Image.new("I;16", (4, 4), 20000).save(out, "PNG")
    assert opened(pictures.check(0, out.getvalue(), kind)).convert("RGB").getpixel((2, 2)) == (78, 78, 78)
    assert opened(Picture(0, kind, rtp_jpeg.encoded(out.getvalue()))).getpixel((2, 2)) == (78, 78, 78)


def test_what_is_seen_through_becomes_white():
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(out, "PNG")
    for kind in ("JPG", "BMP", "GIF"):
        assert min(opened(pictures.check(0, out.getvalue(), kind)).convert("RGB").getpixel((4, 4))) > 250
    assert opened(pictures.check(0, out.getvalue(), "PNG")).getpixel((4, 4))[3] == 0


def test_a_picture_that_lies_on_its_side_is_turned():
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(out, "JPEG", exif=exif)
    assert opened(pictures.check(0, out.getvalue(), "PNG")).size == (4, 8)


def test_the_frame_is_made_once():
    picture = Picture(7, "JPG", b"\r\nbytes")
    assert picture.frame == b"7\r\n7\r\n\r\nbytes"
    assert picture.frame is picture.frame


def test_all_that_cannot_be_used_are_named_at_once(tmp_path):
    good = image(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.png").write_bytes(good[:40])
    (tmp_path / "folder.gif").mkdir()
    image(tmp_path / "new.webp", "WEBP")
    names = ["good.png", "text.jpg", "empty.jpg", "cut.png", "folder.gif", "new.webp", "absent.bmp"]
    with pytest.raises(Unreadable) as caught:
        pictures.load([tmp_path / name for name in names])
    assert [name.rpartition("/")[2] for name in caught.value.files] == names[1:]
    text = str(caught.value)
    assert text.startswith("6 pictures cannot be used, mend or leave out: ")
    for part in (
        "text.jpg: is no picture",
        "empty.jpg: is empty",
        "absent.bmp: no such file",
        "new.webp: is WEBP; give",
    ):
        assert part in text
    assert pictures.load([tmp_path / "new.webp"], "JPG")[0].kind == "JPG"


def test_words_for_kinds():
    assert [pictures.normal(word) for word in ("jpeg", "JPG", "png", "")] == ["JPG", "JPG", "PNG", ""]
    with pytest.raises(ValueError, match="allowed are GIF, JPG, JPEG, BMP and PNG"):
        pictures.normal("TIFF")


def test_size(tmp_path):
    image(tmp_path / "x", size=(12, 7))
    assert pictures.size(pictures.load([tmp_path / "x"])[0]) == (12, 7)
