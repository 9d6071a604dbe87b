"""Pictures of a live stream: a real one, which comes, stalls, ends and comes again."""

import asyncio
import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
from PIL import Image

from station import testcard
from station.config import Source
from station.stills.live import IDLE, Live, command
from station.stills.live_jpeg import LARGEST, Splitter
from station.stills.live_playlist import Away, Watch, parse
from station.utc import to_text
from tests.labkit import until
from tests.media.kit import HEIGHT, STRIP_ROW, WIDTH, camera
from tests.stills.kit_web import CHECKOUT, DEBIAN, kind

STALL = 1.5
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"


def jpeg(colour, *, comment=b""):
    out = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(out, "JPEG", quality=70 + colour, restart_marker_blocks=3)
    data = out.getvalue()
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment if comment else b""
    return data[:2] + segment + data[2:]


def test_pictures_are_told_apart_however_their_bytes_come():
    # a comment may hold what would end or begin a picture elsewhere
    row = [jpeg(1), jpeg(2, comment=b"\xff\xd9\xff\xd8\xff"), jpeg(3)]
    data = b"".join(row)
    assert {kind(one) for one in row} == {"JPEG"}
    for size in (1, 7, 1000, len(data)):
        splitter = Splitter()
        got = [one for at in range(0, len(data), size) for one in splitter.feed(data[at : at + size])]
        assert got == row


def test_what_is_no_picture_is_left_out():
    whole = jpeg(1)
    splitter = Splitter()
    assert splitter.feed(b"noise \xff\xd8 noise" + whole + b"more") == [whole]
    assert splitter.feed(b"\xff\xd8\xff\xe0\x00\x04ab no marker here" + whole) == [whole]
    assert splitter.feed(b"\xff\xd8\xff\xda\x00\x02" + bytes(LARGEST)) == []
    assert splitter.feed(whole) == [whole]
    assert splitter.feed(hashlib.shake_128(b"noise").digest(100_000)) == []


def test_a_playlist_tells_its_end():
    text = HEAD + "#EXT-X-PROGRAM-DATE-TIME:2026-03-01T09:00:00.000Z\n#EXTINF:2.0,\na.ts\n#EXTINF:2.5,\nb.ts\n"
    found = parse(text)
    assert (found.last, to_text(found.end)) == ("b.ts", "2026-03-01T09:00:04.500000Z")
    assert parse(HEAD + "#EXTINF:2,\na.ts\n").end is None
    assert parse(HEAD + "#EXT-X-PROGRAM-DATE-TIME:soon\n#EXTINF:long,\na.ts\n").end is None
    for empty in ("", HEAD, "<html>\na.ts\n"):
        with pytest.raises(Away, match="lists nothing"):
            parse(empty)


def test_a_playlist_is_live_by_its_time_or_once_it_changes(tmp_path):
    def write(name, end):
        time_of = f"#EXT-X-PROGRAM-DATE-TIME:{to_text(end - 2)}\n" if end else ""
        (tmp_path / "live.m3u8").write_text(f"{HEAD}{time_of}#EXTINF:2,\n{name}\n")

    async def look():
        watch = Watch(source(tmp_path), fresh=8, timeout=1)
        with pytest.raises(Away, match="No such file"):
            await watch.look()
        write("1.ts", time.time() - 3600)
        for _ in range(2):
            with pytest.raises(Away, match="nothing new since 20"):
                await watch.look()
        # its station's clock is wrong, but it goes on
        write("2.ts", time.time() - 3598)
        await watch.look()
        watch.forget()
        with pytest.raises(Away):
            await watch.look()
        write("3.ts", time.time() + 1)
        await Watch(source(tmp_path), fresh=8, timeout=1).look()
        write("4.ts", None)
        other = Watch(source(tmp_path), fresh=8, timeout=1)
        with pytest.raises(Away, match="nothing new in its playlist"):
            await other.look()
        write("5.ts", None)
        await other.look()

    asyncio.run(look())


def test_few_pictures_are_key_frames_only():
    few, many = command("file:/x", 0.5, 0, 5), command("http://x/", 0.6, 320, 5)
    assert few[few.index("-skip_frame") + 1] == "nokey"
    assert "-skip_frame" not in many
    assert many[many.index("-rw_timeout") + 1] == "5000000"
    assert "-rw_timeout" not in few


def source(folder=None, url="http://127.0.0.1:9/"):
    return Source("cam/main", "ingest", "cam", "main", "media", url, folder)


def shown(picture):
    """The time in a picture of the test card."""
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.format == "JPEG"
        row = STRIP_ROW * image.height // HEIGHT
        return testcard.decode([image.convert("L").getpixel((x, row)) for x in range(image.width)])


class Camera:
    """Something that writes a live playlist with segments of 1 s."""

    def __init__(self, folder):
        self.folder, self.process = folder, None

    def start(self):
        out = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "12", "-start_number", str(int(time.time()))]
        out += ["-hls_flags", "program_date_time+delete_segments", str(self.folder / "live.m3u8")]
        self.process = camera(out, self.folder / "camera.log")
        return self

    def signal(self, number):
        for one in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]:
            one.send_signal(number)

    def close(self):
        if self.process:
            self.process.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = Camera(tmp_path_factory.mktemp("camera")).start()
    # so many that the oldest is far from the present
    assert until(lambda: len([*made.folder.glob("*.ts")]) > 6, 20, 0.05)
    yield made.folder
    made.close()


@contextlib.contextmanager
def served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Watched:
    """A source that runs, and what came of it: when and which."""

    def __init__(self, live):
        self.live, self.got = live, []
        live.on_picture(lambda picture: self.got.append((time.monotonic(), picture)))

    async def __aenter__(self):
        self.task = asyncio.create_task(self.live.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert ffmpegs() == []

    async def wait(self, condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition():
            assert not self.task.done(), self.task.exception()
            assert time.monotonic() < end, (self.live.state, len(self.got))
            await asyncio.sleep(0.02)

    async def more(self, count=1, seconds=10.0):
        have = len(self.got)
        await self.wait(lambda: len(self.got) >= have + count, seconds)
        return self.got[have:]


def ffmpegs(pid=None):
    """The ffmpeg processes below a process that are not dead yet."""
    found = []
    for child in psutil.Process(pid or os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "-skip_frame" in child.cmdline() or any("prev_t" in word for word in child.cmdline()):
                found.append(child)
    return found


@pytest.mark.pace
@pytest.mark.media
def test_few_pictures_are_of_the_present_and_only_while_wanted(folder):
    async def look():
        async with Watched(Live(source(folder), 0.5, width=240, stall_limit=STALL)) as one:
            await asyncio.sleep(0.3)
            assert (one.got, one.live.state, ffmpegs()) == ([], IDLE, [])
            one.live.want(True)
            began = time.monotonic()
            await one.more(2)
            assert one.got[0][0] - began < 2.5
            assert 1.5 < one.got[1][0] - one.got[0][0] < 3.5
            assert -0.5 < one.got[0][1].when - shown(one.got[0][1]) < 5
            picture = one.got[1][1]
            assert (picture.number, picture.kind, one.live.state.word) == (1, "JPG", "ready")
            assert (one.live.newest(), one.live.at(1), one.live.at(0)) == (picture, picture, None)
            with Image.open(io.BytesIO(picture.data)) as image:
                assert image.size == (240, 136)
            assert -0.5 < picture.when - shown(picture) < 5
            assert len(ffmpegs()) == 1
            one.live.want(False)
            await one.wait(lambda: ffmpegs() == [], 15)
            await one.wait(lambda: one.live.state == IDLE, 15)

    asyncio.run(look())


@pytest.mark.pace
@pytest.mark.media
def test_many_pictures_come_evenly_from_another_station(folder):
    async def look(url):
        async with Watched(Live(source(url=url), 8, stall_limit=STALL)) as one:
            one.live.want(True)
            await one.more(4)
            times, pictures = zip(*await one.more(24), strict=True)
            assert [picture.number for picture in pictures] == list(range(4, 28))
            gaps = [after - before for before, after in itertools.pairwise(times)]
            assert 0.09 < sum(gaps) / len(gaps) < 0.16, gaps
            assert sorted(gaps)[len(gaps) // 2] > 0.1, gaps
            clock = [shown(picture) for picture in pictures]
            assert clock == sorted(clock)
            assert 2 < clock[-1] - clock[0] < 4
            assert -0.5 < pictures[-1].when - clock[-1] < 6
            with Image.open(io.BytesIO(pictures[0].data)) as image:
                assert image.size == (WIDTH, HEIGHT)

    with served(folder) as url:
        asyncio.run(look(url))


@pytest.mark.media
def test_a_source_is_waited_for_and_its_end_noticed(tmp_path):
    made = Camera(tmp_path)

    async def look():
        async with Watched(Live(source(tmp_path), 2, stall_limit=STALL)) as one:
            one.live.want(True)
            await one.wait(lambda: "No such file" in one.live.state.text)
            assert (one.live.state.word, one.live.newest()) == ("waiting", None)
            assert one.live.state.text.startswith("waiting: cam/main: ")
            made.start()
            await one.more(1, 15)
            assert one.live.state.word == "ready"
            # it stalls: nothing old may stand for the present
            made.signal(signal.SIGSTOP)
            await one.wait(lambda: one.live.state.word == "waiting")
            await one.wait(lambda: one.live.newest() is None)
            await one.wait(lambda: "nothing new since" in one.live.state.text)
            count = len(one.got)
            await asyncio.sleep(1.5)
            assert (len(one.got), ffmpegs()) == (count, [])
            made.signal(signal.SIGCONT)
            await one.more(1, 15)
            assert one.live.state.word == "ready"
            # our ffmpeg is killed
            ffmpegs()[0].kill()
            (_, picture), *_ = await one.more(5)
            assert abs(time.time() - picture.when) < 8

    try:
        asyncio.run(look())
    finally:
        made.close()


@pytest.mark.media
def test_a_server_that_does_not_answer_is_away():
    async def look(port):
        live = Live(source(url=f"http://127.0.0.1:{port}/"), 1, input_timeout=0.3)
        async with Watched(live) as one:
            one.live.want(True)
            await one.wait(lambda: "no answer" in one.live.state.text)
            one.live.want(False)
            await one.wait(lambda: one.live.state == IDLE, 15)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asyncio.run(look(silent.getsockname()[1]))
    with served("/nonexistent") as url:

        async def refused():
            async with Watched(Live(source(url=url), 1)) as one:
                one.live.want(True)
                await one.wait(lambda: "HTTP 404" in one.live.state.text)

        asyncio.run(refused())


# a shell starts what stands in its background with SIGINT ignored
ALONE = """
import asyncio, json, pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from station.config import Source
from station.stills.live import Live
live = Live(Source("a/b", "", "a", "b", "media", "", pathlib.Path(sys.argv[1])), 5)
live.on_picture(lambda picture: print(json.dumps([picture.number, len(picture.data)]), flush=True))
live.want(True)
asyncio.run(live.run())
"""


@pytest.mark.media
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_ffmpeg_is_left_when_the_program_ends(folder, number):
    process = subprocess.Popen(
        [DEBIAN if number == signal.SIGKILL else sys.executable, "-c", ALONE, str(folder)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert json.loads(process.stdout.readline())[0] == 0
        below = ffmpegs(process.pid)
        assert len(below) == 1
        # stopped, it cannot find out by itself that nobody reads
        below[0].suspend()
        try:
            process.send_signal(number)
            process.wait(5)
            assert until(lambda: not below[0].is_running() or below[0].status() == psutil.STATUS_ZOMBIE, 5, 0.02)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                below[0].kill()
