"""The arithmetic of a cut: every frame once, every gap to the frame."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station import utc
from station.cut import WRAP, frame_rate, plan, stamp
from station.index import Segment

T0 = utc.from_text("2026-03-01T09:00:00Z")


def segment(number: int, start: float, pts: float, frames: int, rate: Fraction, broken: bool) -> Segment:
    name = f"20260301/09/a_{number}.ts"
    return Segment(name, number, pts % WRAP, utc.to_text(start), float(frames / rate), frames, 1, "x", broken, "b")


def row(
    count: int, rate: Fraction = Fraction(25), first: int = 0, start: float = T0, pts: float = 10.0
) -> list[Segment]:
    """Segments of two seconds that follow each other."""
    each = round(rate * 2)
    spans = [float(n * each / rate) for n in range(count)]
    return [segment(first + n, start + span, pts + span, each, rate, n == 0) for n, span in enumerate(spans)]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_frames_and_gaps_add_up(data):
    """Whatever was recorded and whatever is asked for: frames and gaps together are the talk, and nothing twice."""
    rate = data.draw(st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(50)]))
    segments: list[Segment] = []
    at = 0
    held: set[int] = set()
    for _ in range(data.draw(st.integers(1, 4))):
        at += data.draw(st.integers(3, 200))
        pts = data.draw(st.sampled_from([0.0, 10.0, WRAP - 3.0]))
        made = row(data.draw(st.integers(1, 4)), rate, len(segments), T0 + float(at / rate), pts)
        segments += made
        count = sum(one.frames for one in made)
        held |= set(range(at, at + count))
        at += count
    first = data.draw(st.integers(0, 500))
    last = first + data.draw(st.integers(1, 500))
    order = data.draw(st.permutations(segments))
    cut = plan(order, T0 + float(first / rate), T0 + float(last / rate), rate)
    got: list[int] = []
    for piece in cut.pieces:
        begin = round((piece.start - T0) * rate)
        got += range(begin, begin + piece.frames)
        assert sum(s.frames for s in piece.segments) >= piece.skip + piece.frames - 2
        zero = round((piece.segments[0].start - T0) * rate)
        assert zero + piece.skip == begin
    wanted = set(range(first, last))
    assert len(got) == len(set(got))
    assert wanted & held <= set(got) <= wanted
    # A hole of one frame is within the permitted error of a frame's UTC, and is held over.
    assert len(set(got) - held) <= 8
    lost = sum(round((gap.end - gap.start) * rate) for gap in cut.gaps)
    assert len(got) + lost == len(wanted)


def test_a_recording_that_begins_where_the_talk_ends_is_no_part_of_it():
    rate = Fraction(30000, 1001)
    later = row(2, rate, start=T0 + float(122 / rate))
    cut = plan(later, T0, T0 + float(122 / rate), rate)
    assert (cut.pieces, [(gap.start, gap.end) for gap in cut.gaps]) == ((), [(T0, T0 + float(122 / rate))])


def test_sound_at_the_edges_is_read_from_the_neighbours():
    cut = plan(row(5), T0 + 2, T0 + 4)
    (piece,) = cut.pieces
    assert [s.seq for s in piece.segments] == [0, 1, 2] and piece.handles == (1, 1)
    assert [s.seq for s in piece.wanted] == [1]
    assert (piece.skip, piece.frames) == (50, 50)
    (piece,) = plan(row(5), T0 + 2.8, T0 + 3.2).pieces
    assert [s.seq for s in piece.segments] == [1]


def test_jitter_of_the_clock_changes_no_length():
    jitter = [0.0, 0.03, -0.03, 0.028, -0.025]
    base = row(5)
    moved = [segment(s.seq, s.start + j, s.pts, 50, Fraction(25), False) for s, j in zip(base, jitter, strict=True)]
    for first in range(40, 60):
        cut = plan(moved, T0 + first / 25, T0 + (first + 150) / 25)
        assert cut.frames == 150 and not cut.gaps and len(cut.pieces) == 1


def test_a_drifting_camera_is_cut_where_the_wall_clock_says():
    """Half an hour of a camera that is 50 ppm slow: 90 ms, which is two frames more of wall clock than of pictures."""
    slow = [segment(n, T0 + n * 2 * 1.0001, 10 + n * 2, 50, Fraction(25), False) for n in range(900)]
    cut = plan(slow, T0, T0 + 1799)
    assert cut.frames == round(1799 * 25 / 1.0001)


def test_a_small_break_is_bridged_and_a_long_one_is_a_gap():
    near = [*row(1), *row(1, first=1, start=T0 + 2.03, pts=500)]
    assert plan(near, T0, T0 + 4).gaps == ()
    assert plan(near, T0, T0 + 4).frames == 100
    far = [*row(1), *row(1, first=1, start=T0 + 2.12, pts=500)]
    (gap,) = plan(far, T0, T0 + 4).gaps
    assert str(gap) == "2026-03-01T09:00:02.000Z to 2026-03-01T09:00:02.120Z (0.120 s)"


def test_a_hole_in_a_copy_is_found_though_nothing_is_marked():
    whole = row(5)
    (gap,) = plan([*whole[:2], *whole[3:]], T0, T0 + 10).gaps
    assert (stamp(gap.start), stamp(gap.end)) == ("2026-03-01T09:00:04.000Z", "2026-03-01T09:00:06.000Z")


def test_nothing_at_all_is_one_gap():
    cut = plan([], T0, T0 + 10)
    assert cut.frames == 0 and [gap.report()["seconds"] for gap in cut.gaps] == [10.0]


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(24000, 1001), Fraction(50)]
)
def test_the_rate_is_read_from_the_index(rate):
    assert frame_rate(row(5, rate)) == rate


def test_a_lost_frame_does_not_change_the_rate():
    lame = [*row(4), segment(9, T0 + 8, 18, 43, Fraction(43, 2), False)]
    assert frame_rate(lame) == 25


def test_time_stamps_that_wrap_are_no_break():
    cut = plan(row(5, pts=WRAP - 3), T0 + 1, T0 + 9)
    assert len(cut.pieces) == 1 and cut.frames == 200


def test_a_break_is_believed_even_if_the_time_stamps_happen_to_go_on():
    """A restarted encoder begins its pictures anew: what is decoded must not run across."""
    segments = row(4)
    segments[2] = segment(2, segments[2].start, segments[2].pts, 50, Fraction(25), True)
    assert [piece.frames for piece in plan(segments, T0, T0 + 8).pieces] == [100, 100]
