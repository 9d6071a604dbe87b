"""Live pictures: taken from the stream of an ingest by an ffmpeg that runs only while somebody wants them.

Segments come whole, each 2 s, so ffmpeg makes the pictures of a segment in one burst: they are handed on at the
stream's own pace. Up to KEY_FRAMES pictures a second it decodes nothing but the key frame at each segment's begin.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from station import times
from station.config import Source
from station.stills.live_jpeg import Splitter
from station.stills.live_playlist import Away, Watch
from station.stills.pictures import Picture
from station.stills.stream import State
from station.supervisor import Advance, Backoff, Child

log = logging.getLogger(__name__)

KEY_FRAMES = 1 / times.MEDIA_TICK
"""Pictures a second up to which the key frames suffice."""
STEP = 0.25
"""Seconds at most between two looks at a stall."""
LOOK = 1.0
"""Seconds between two looks at a source that is away: a file or a small answer, asked for only while it is wanted."""
HELD = 32 << 20
"""Bytes of pictures that wait for their time."""
QUALITY = 4
"""ffmpeg's -q:v, from 2 (best) on: 13 kB for a test card of 640x360 [measured]."""
IDLE = State("ready", "not read while nobody watches")


def command(place: str, ips: float, width: int, timeout: float) -> list[str]:
    """The argument list that writes pictures to stdout.

    Args:
        place: the playlist.
        ips: pictures a second; for KEY_FRAMES and fewer, each key frame comes.
        width: of the pictures in pixels, never more than the source's; 0 for the source's.
        timeout: seconds for which a remote source may send nothing.
    """
    few = ips <= KEY_FRAMES
    # Chosen by the frame before, so that a time line that jumps neither stops nor repeats pictures.
    steps = [] if few else [f"select='not(eq(floor(t*{ips}),floor(prev_t*{ips})))'"]
    steps += [f"scale='trunc(min({width},iw)/2)*2':-2"] if width else []
    arguments = [shutil.which("ffmpeg") or "/usr/bin/ffmpeg"]
    arguments += ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+warning"]
    # The newest segment first; and a source that pauses is not its end: the stall limit decides.
    arguments += ["-live_start_index", "-1", "-max_reload", "1000"]
    arguments += [] if place.startswith("file:") else ["-rw_timeout", str(int(timeout * 1_000_000))]
    arguments += ["-analyzeduration", "500000", "-fpsprobesize", "0"]
    # Several threads would each hold back a frame.
    arguments += ["-threads", "1", *(["-skip_frame", "nokey"] if few else []), "-i", place]
    arguments += ["-map", "0:v:0", *(["-vf", ",".join(steps)] if steps else []), "-fps_mode", "passthrough"]
    arguments += ["-threads", "1", "-c:v", "mjpeg", "-q:v", str(QUALITY), "-f", "image2pipe", "pipe:1"]
    return arguments


class Live:
    """The pictures of a live source (a Source of stream.py); they are JPEG and numbered from 0.

    Args:
        source: whose; what is in its folder is read.
        ips: pictures a second.
        width: in pixels, never more than the source's; 0 for the source's.
        stall_limit: seconds without a picture after which ffmpeg is started anew.
        input_timeout: seconds for which a remote source may send nothing.
    """

    count = None

    def __init__(
        self,
        source: Source,
        ips: float,
        *,
        width: int = 0,
        stall_limit: float = times.STALL_LIMIT,
        input_timeout: float = times.INPUT_TIMEOUT,
    ) -> None:
        self.state = IDLE
        self._name = source.name
        self._period = 1 / ips
        self._stall_limit = stall_limit
        self._watch = Watch(source, stall_limit, input_timeout)
        self._command = command(self._watch.place, ips, width, input_timeout)
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        # Of few pictures the newest counts; of many each has its turn, and two segments are the most that may wait.
        many = math.ceil(ips * times.MEDIA_TICK * 2)
        self._queue: deque[bytes] = deque(maxlen=1 if ips <= KEY_FRAMES else many)
        self._filled = asyncio.Event()
        self._calls: list[Callable[[Picture], None]] = []
        self._newest: Picture | None = None
        self._shown = -math.inf
        self._number = 0

    def at(self, number: int) -> Picture | None:
        """The picture of that number, if it is the newest: older ones are not kept."""
        newest = self.newest()
        return newest if newest and newest.number == number else None

    def newest(self) -> Picture | None:
        """The newest picture, unless it is so old that it must not stand for the present."""
        old = time.monotonic() - self._shown > self._period + self._stall_limit
        return None if old else self._newest

    def want(self, wanted: bool) -> None:
        """Read from now on, or no longer."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()
        self._changed.set()

    def on_picture(self, call: Callable[[Picture], None]) -> None:
        """Have each new picture handed to `call`, which must neither block nor raise."""
        self._calls.append(call)

    async def run(self) -> None:
        """Read while it is wanted, until cancelled; no ffmpeg is left then."""
        backoff = Backoff()
        while True:
            if not self._wanted.is_set():
                self.state = IDLE
                await self._wanted.wait()
                self._tell("waiting", "begins")
            began = time.monotonic()
            word = "waiting"
            try:
                await self._watch.look()
                reason = await self._read()
                pause = backoff.after(time.monotonic() - began)
            except Away as error:
                reason, pause = str(error), LOOK
            except OSError as error:
                word, reason, pause = "failed", f"ffmpeg cannot be started: {error}", LOOK
            if self._wanted.is_set():
                self._tell(word, reason)
                await self._pause(pause)

    def _tell(self, word: str, reason: str) -> None:
        state = State(word, f"{word}: {self._name}: {reason}")
        if state != self.state:
            log.info("%s", state.text)
        self.state = state

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than it is wanted."""
        end = time.monotonic() + seconds
        while self._wanted.is_set() and (left := end - time.monotonic()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    async def _read(self) -> str:
        """One run of ffmpeg; returns why it is over. Raises OSError: it cannot be started."""
        self._watch.forget()
        if not Path(self._command[0]).exists():
            raise FileNotFoundError(f"there is no {self._command[0]}; install ffmpeg")
        child = Child(lambda pipes: self._command, ("stdout", "stderr"))
        pace = asyncio.ensure_future(self._hand_on())
        try:
            return await self._follow(child)
        finally:
            pace.cancel()
            self._queue.clear()
            for fd in child.pipes.values():
                asyncio.get_running_loop().remove_reader(fd)
            child.kill()
            child.ending()
            child.close()

    async def _follow(self, child: Child) -> str:
        splitter, advance, open_pipes = Splitter(), Advance(self._stall_limit, time.monotonic()), set(child.pipes)
        count = 0

        def read(name: str) -> None:
            nonlocal count
            data = child.read(name)
            if data == b"":
                asyncio.get_running_loop().remove_reader(child.pipes[name])
                open_pipes.discard(name)
                self._changed.set()
            elif data and name == "stderr":
                child.take_errors(data)
            elif data:
                for picture in splitter.feed(data):
                    count += 1
                    advance.see(count, time.monotonic())
                    self._hold(picture)

        for name, fd in child.pipes.items():
            asyncio.get_running_loop().add_reader(fd, read, name)
        while open_pipes and self._wanted.is_set():
            if advance.stalled(time.monotonic()):
                return f"no picture for {self._stall_limit:.0f} s"
            await self._pause(STEP)
        if not self._wanted.is_set():
            return "no longer wanted"
        while not child.ended():
            await asyncio.sleep(STEP / 10)
        return child.ending().reason

    def _hold(self, data: bytes) -> None:
        self._queue.append(data)
        while len(self._queue) > 1 and sum(map(len, self._queue)) > HELD:
            self._queue.popleft()
        self._filled.set()

    async def _hand_on(self) -> None:
        """Hand on the pictures at the stream's pace."""
        due = -math.inf
        while True:
            await self._filled.wait()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not self._queue:
                self._filled.clear()
                continue
            now = time.monotonic()
            # after a gap the pace begins anew; else it keeps exact
            due = (due if now - due < self._period else now) + self._period
            self._show(self._queue.popleft(), now)

    def _show(self, data: bytes, now: float) -> None:
        self._newest = picture = Picture(self._number, "JPG", data, time.time())
        self._shown = now
        self._number += 1
        self.state = State("ready")
        for call in self._calls:
            call(picture)
