"""What the media tests share: programs under test, sources for them, and an independent look at what they made."""

import array
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil

from station import index, testcard
from station.media import MediaFolder
from station.utc import to_stamp, to_text

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"size": "320x180", "rate": 25, "bitrate": 300, "preset": "ultrafast"}
WIDTH, HEIGHT = 320, 180
STRIP_ROW = HEIGHT - 5
SHORT = {"media_tick": 1, "input_timeout": 1.5, "stall_limit": 4}
"""A time budget for tests: the same order, sooner."""


def wait_for(what, seconds=30.0, step=0.05):
    """The first truthy result; fails after so many seconds, naming what was waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, index.IndexUnavailable):
            if result := what():
                return result
        time.sleep(step)
    raise AssertionError(f"not within {seconds} s: {getattr(what, '__doc__', None) or what}")


class Process:
    """A process of the test; killed with all its children at the end, whatever happens."""

    def __init__(self, command, log, env=None, cwd=None):
        self.log = log
        self.below = []
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
                cwd=cwd,
            )

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def children(self):
        path = Path(f"/proc/{self.pid}/task")
        return [int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()]

    def alive(self):
        return self.popen.poll() is None

    def stop(self, seconds=12):
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def kill(self):
        self.below += psutil.Process(self.pid).children(recursive=True) if self.alive() else []
        self.popen.kill()
        self.popen.wait(10)

    def close(self):
        self.kill()
        for process in self.below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Instance:
    """An instance of a role in a folder of its own, run by hand."""

    def __init__(self, folder, role, options, *, instance="main", budget=None, sources=None, context=None, data=None):
        self.folder = folder
        self.role = role
        folder.mkdir(parents=True, exist_ok=True)
        self.data = data or folder / "data"
        value = {
            "schema": 1,
            "event": "test",
            "room": "hall_a",
            "station": "cam",
            "role": role,
            "instance": instance,
            "options": options,
            "sources": sources or {},
            "paths": {"data": str(self.data)},
            "budget": SHORT if budget is None else budget,
        }
        (folder / "config.json").write_text(json.dumps(value))
        (folder / "context.json").write_text(json.dumps(context or {}))
        self.runs = []

    def start(self, env=None):
        command = [sys.executable, "-m", f"station.{self.role}", "--config", self.folder / "config.json"]
        process = Process(command, self.folder / "log.txt", env)
        self.runs.append(process)
        return process

    def close(self):
        for process in self.runs:
            process.close()

    def segments(self):
        return index.reader(self.data).poll()

    def status(self):
        return json.loads((self.data / "status.json").read_text())

    def log(self):
        return (self.folder / "log.txt").read_text()

    def wait_segments(self, count, seconds=20):
        return wait_for(lambda: (found := self.segments()) and len(found) >= count and found, seconds)

    def wait_state(self, state, seconds=15):
        return wait_for(lambda: (status := self.status())["state"] == state and status, seconds)

    def wait_warning(self, code, seconds=15):
        return wait_for(lambda: next((w for w in self.status()["warnings"] if w["code"] == code), None), seconds)


class NotifySocket:
    """Stands for systemd: keeps what a program tells it."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.messages = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while self._open:
            with contextlib.suppress(TimeoutError):
                self.messages.append((time.monotonic(), self._socket.recv(65536).decode()))

    def has(self, text):
        return any(text in message for _, message in self.messages)

    def close(self):
        self._open = False
        self._thread.join()
        self._socket.close()


def ffprobe(path, *entries, count=False):
    command = [
        "ffprobe",
        "-v",
        "error",
        "-of",
        "json",
        *(["-count_frames"] if count else []),
        "-show_entries",
        *entries,
    ]
    return json.loads(subprocess.run([*command, path], check=True, capture_output=True).stdout)


def frames_of(path):
    """Luma planes of all frames."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    size = WIDTH * HEIGHT
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def burnt_in(path):
    """The time that the picture itself shows, for each frame (None where unreadable)."""
    row = STRIP_ROW * WIDTH
    return [testcard.decode(frame[row : row + WIDTH]) for frame in frames_of(path)]


def errors_of_clock(data, segment, rate=25):
    """Seconds between what each frame shows and what the index says about it."""
    return [
        shown - (segment.start + number / rate)
        for number, shown in enumerate(burnt_in(data / segment.name))
        if shown is not None
    ]


def camera(output, log, *, tracks=1, seconds=None, extra=()):
    """A source of its own process: the test card sent to `output` (ffmpeg's output arguments)."""
    graph = testcard.graph(f"{WIDTH}x{HEIGHT}", "25", tracks)
    maps = [part for at in range(tracks + 1) for part in ("-map", f"0:{at}")]
    command = ["nice", "ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", graph, *maps]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-b:v", "400k"]
    command += ["-c:a", "aac", *(["-t", str(seconds)] if seconds else []), *extra, *output]
    return Process(command, log)


def serve(folder, port, log):
    """A plain nginx for a folder: byte ranges, as on a station."""
    home = log.parent / f"nginx-{port}"
    home.mkdir(exist_ok=True)
    config = home / "nginx.conf"
    config.write_text(
        f"daemon off; pid nginx.pid; error_log stderr; worker_processes 1; {'user root;' if os.getuid() == 0 else ''}"
        "events {} http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;"
        f"uwsgi_temp_path u; scgi_temp_path s; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    process = Process([shutil.which("nginx") or "/usr/sbin/nginx", "-e", "stderr", "-p", home, "-c", config], log)
    wait_for(lambda: answers(port))
    return process


def answers(port):
    """something listens"""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def playlist(path):
    """A live playlist, read by the rules of RFC 8216."""
    text = path.read_text()
    lines = text.splitlines()
    value = {line.split(":")[0]: line.split(":", 1)[1] for line in lines if line.startswith("#EXT-X-") and ":" in line}
    moments = [line.split(":", 1)[1] for line in lines if line.startswith("#EXT-X-PROGRAM-DATE-TIME:")]
    return {
        "text": text,
        "sequence": int(value["#EXT-X-MEDIA-SEQUENCE"]),
        "discontinuities": int(value["#EXT-X-DISCONTINUITY-SEQUENCE"]),
        "names": [line for line in lines if line and not line.startswith("#")],
        "times": [datetime.fromisoformat(moment).timestamp() for moment in moments],
    }


def pitch(path, track):
    """Frequency of a track in Hz, by its zero crossings."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        path,
        "-map",
        f"0:a:{track}",
        "-ac",
        "1",
        "-ar",
        "48000",
        "-f",
        "s16le",
        "-",
    ]
    samples = array.array("h", subprocess.run(command, check=True, capture_output=True).stdout)[2000:46000]
    crossings = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    return crossings * 48000 / len(samples)


def recording(folder, count, *, size=20_000, start=1_772_355_600.0, first=0, tick=2.0):
    """A media folder with so many segments of noise, as an ingest leaves it."""
    media = MediaFolder(folder, tick) if folder.exists() else MediaFolder(make(folder), tick)
    for number in range(first, first + count):
        add(media, number, os.urandom(size), start)
    return media


def make(folder):
    folder.mkdir(parents=True)
    return folder


def add(media, number, data, start=1_772_355_600.0):
    stamp = to_stamp(start + 2 * number)
    segment = index.Segment(
        name=f"{stamp[:8]}/{stamp[9:11]}/hall_a_main_{stamp}_{number}.ts",
        seq=number,
        pts=10.0 + 2 * number,
        utc=to_text(start + 2 * number),
        duration=2.0,
        frames=50,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        discontinuity=False,
        boot_id="test",
    )
    media.add(segment, data)
    return segment


def children_of(pid):
    """Process ids of a process's children, as text."""
    return " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
