"""Admission, cards and fetching: the small parts."""

import hashlib
import http.server
import itertools
import threading
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import admission
from station.cards import Block, Picture, escape, lay_out
from station.config import ConfigError, Source
from station.index import Segment
from station.source_segments import Fetcher, SegmentMissing, SourceAway, SourceIndex

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


def gate(zone="UTC", **options):
    return admission.from_options(options, zone)


def with_load(load, **limits):
    made = gate(admission=limits)
    return admission.Gate(1, made.load_1, made.load_5, made.patience, loads=lambda: (load * 4, load * 2, 0), cores=2)


def test_load_hours_and_number_keep_a_job_out():
    assert with_load(1, load_1=3, load_5=3).refusal(0, NOON) is None
    assert "1-minute load is 4.00 per core; jobs start up to 3" in with_load(2, load_1=3, load_5=3).refusal(0, NOON)
    assert "5-minute load is 2.00" in with_load(2, load_1=0, load_5=1.5).refusal(0, NOON)
    assert with_load(100, load_1=0, load_5=0).refusal(0, NOON) is None
    assert with_load(100, load_1=1, load_5=1, patience=30).refusal(0, NOON, waited=29)
    assert with_load(100, load_1=1, load_5=1, patience=30).refusal(0, NOON, waited=30) is None
    assert with_load(100, load_1=1, load_5=1).refusal(0, NOON, waited=1e6)
    assert "1 of 1 jobs" in gate().refusal(1, NOON)
    assert gate(parallel_jobs=2).refusal(1, NOON) is None


@pytest.mark.parametrize(("hour", "open_"), [(6, True), (7, False), (18, False), (19, True), (23, True)])
def test_a_mixing_desk_encodes_at_night(hour, open_):
    now = datetime(2026, 3, 1, hour, 0, tzinfo=UTC).timestamp()
    assert (gate(is_mixer=True).refusal(0, now) is None) == open_
    nightly = gate(admission={"quiet_hours": {"from": "19:00", "to": "07:00"}})
    assert (nightly.refusal(0, now) is None) != open_


def test_hours_are_the_events():
    assert gate("Europe/Vienna", is_mixer=True).refusal(0, datetime(2026, 3, 1, 6, 30, tzinfo=UTC).timestamp())
    assert gate("No/Where").refusal(0, NOON) is None
    with pytest.raises(ConfigError, match=r"quiet_hours\.from: is 'soon'"):
        gate(admission={"quiet_hours": {"from": "soon", "to": "07:00"}})


@given(st.text(max_size=400), st.text(max_size=80))
def test_any_text_fits_the_card(title, name):
    picture = Picture(1280, 720, Fraction(25))
    lines = lay_out([Block(title, 0.11, 4), Block(name, 0.065, 3)], picture)
    assert len(lines) <= 7
    assert all(line.top >= 0 and line.top + line.size <= 720 and line.size >= 6 for line in lines)
    assert all("\n" not in line.text and line.text.isprintable() for line in lines)


def test_a_title_is_broken_at_its_spaces():
    words = "How we stopped worrying and learned to love the very long title of a talk"
    lines = lay_out([Block(words, 0.11, 4)], Picture(1280, 720, Fraction(25)))
    assert " ".join(line.text for line in lines) == words


def test_too_many_lines_are_made_smaller():
    lines = lay_out([Block("\n".join("line" for _ in range(20)), 0.11, 20)], Picture(1280, 720, Fraction(25)))
    assert len(lines) == 20
    assert all(earlier.top + earlier.size < later.top + 2 for earlier, later in itertools.pairwise(lines))
    assert lines[-1].top + lines[-1].size <= 720


def test_values_are_quoted_for_the_graph():
    assert escape("/a/b c:d'e") == r"/a/b\ c\\:d\\\'e"


class Server:
    """A source over HTTP that can misbehave."""

    def __init__(self, files):
        self.files, self.status, self.cut, self.asked = files, 200, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                data = outer.files.get(self.path.lstrip("/"))
                self.send_response(outer.status if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write((data or b"")[: outer.cut])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}/"
        self.source = Source("c/m", "ingest", "c", "m", "media", url, None)


@pytest.fixture
def server():
    made = Server({"20260301/09/a_0.ts": b"x" * 1000})
    yield made
    made.server.shutdown()
    made.server.server_close()


def line(data=b"x" * 1000, name="20260301/09/a_0.ts"):
    sha = hashlib.sha256(data).hexdigest()
    return Segment(name, 0, 0.0, "2026-03-01T09:00:00.000000Z", 2.0, 50, len(data), sha, False, "b")


def test_a_segment_is_fetched_once_and_verified(server, tmp_path):
    fetcher = Fetcher(server.source, tmp_path / "s", 2)
    path = fetcher.get(line())
    assert path.read_bytes() == b"x" * 1000
    fetcher.get(line())
    assert len(server.asked) == 1
    path.write_bytes(b"torn by a power cut")
    assert fetcher.get(line()).read_bytes() == b"x" * 1000
    assert [one.name for one in (tmp_path / "s").iterdir()] == ["a_0.ts"]


def test_what_waiting_helps_is_told_from_what_it_does_not(server, tmp_path):
    fetcher = Fetcher(server.source, tmp_path / "s", 2)
    with pytest.raises(SegmentMissing, match="not as its index says"):
        fetcher.get(line(b"y" * 1000))
    with pytest.raises(SegmentMissing, match="no longer has it"):
        fetcher.get(line(name="20260301/09/gone.ts"))
    server.status = 503
    with pytest.raises(SourceAway, match="503"):
        fetcher.get(line())
    server.status, server.cut = 200, 400
    with pytest.raises(SourceAway):
        fetcher.get(line())
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(SourceAway):
        fetcher.get(line())
    assert [one.suffix for one in (tmp_path / "s").iterdir()] == [".part"]


def test_a_source_on_this_station_is_read_in_place(tmp_path):
    media = tmp_path / "media"
    (media / "20260301/09").mkdir(parents=True)
    (media / "20260301/09/a_0.ts").write_bytes(b"x" * 1000)
    (media / "index.jsonl").write_bytes(line().line())
    source = Source("c/m", "ingest", "c", "m", "media", "http://127.0.0.1:9/", media)
    (segment,) = SourceIndex(source, 0).segments()
    fetcher = Fetcher(source, tmp_path / "s")
    assert fetcher.get(segment) == media / "20260301/09/a_0.ts"
    assert not (tmp_path / "s").exists()
    with pytest.raises(SegmentMissing):
        fetcher.get(line(b"y" * 1000))


def test_a_source_that_is_away_is_not_asked_by_each_job(server):
    server.status = 503
    server.files["index.jsonl"] = b""
    index = SourceIndex(server.source, 60)
    for _ in range(3):
        with pytest.raises(SourceAway, match="503"):
            index.segments()
    assert len(server.asked) == 1
    index.pause, server.status = 0, 200
    assert index.segments() == []


def test_an_index_that_lost_lines_is_read_anew(tmp_path):
    lines = [line(name=f"20260301/09/a_{n}.ts").line() for n in range(4)]
    (tmp_path / "index.jsonl").write_bytes(b"".join(lines))
    index = SourceIndex(Source("c/m", "ingest", "c", "m", "media", "", tmp_path), 0)
    assert len(index.segments()) == 4
    (tmp_path / "index.jsonl").write_bytes(b"".join(lines[2:]))
    assert [s.name[-4] for s in index.segments()] == ["2", "3"]
    (tmp_path / "index.jsonl").unlink()
    with pytest.raises(SourceAway):
        index.segments()
