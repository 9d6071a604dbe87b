"""A recording made by hand, after the media contract: every frame carries its number in bars that a test can read.

Independent of the ingest: frames come from Python, only the encoding from ffmpeg.
"""

from __future__ import annotations

import array
import hashlib
import json
import math
import subprocess
from fractions import Fraction
from pathlib import Path

from station import utc

WIDTH, HEIGHT, BITS = 320, 180, 16
T0 = utc.from_text("2026-03-01T09:00:00.000Z")
SAMPLES = 48000


def frame(number: int) -> bytes:
    """A grey picture of 16 upright bars: the number, most significant bit first."""
    bar = WIDTH // BITS
    row = b"".join((b"\xeb" if number >> (BITS - 1 - bit) & 1 else b"\x10") * bar for bit in range(BITS))
    return row * HEIGHT + b"\x80" * (WIDTH * HEIGHT // 2)


def sound(path: Path, first: int, frames: int, rate: Fraction, level: float) -> None:
    """Raw stereo: 100 ms of tone at the start of each second since frame 0, and a tenth of it between."""
    begin, end = round(first / rate * SAMPLES), round((first + frames) / rate * SAMPLES)
    second = array.array("h")
    for n in range(SAMPLES):
        value = int(math.sin(2 * math.pi * 1000 * n / SAMPLES) * level * 32767 * (1 if n < SAMPLES // 10 else 0.1))
        second.extend((value, value))
    seconds = second.tobytes() * (end // SAMPLES - begin // SAMPLES + 1)
    path.write_bytes(seconds[begin % SAMPLES * 4 :][: (end - begin) * 4])


class Recording:
    """Segments and index in a folder; `add` may be called again for what comes after a restart of the ingest."""

    def __init__(self, folder: Path, rate: Fraction = Fraction(25), level: float = 0.2, tracks: int = 1) -> None:
        self.folder = folder
        self.rate, self.level, self.tracks = rate, level, tracks
        self.lines: list[dict[str, object]] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.jsonl").touch()

    def add(self, first: int, frames: int, pts: float = 10.0, step: float = 0.0) -> None:
        """Record `frames` frames from `first`; `pts` is the first time stamp, `step` shifts the clock (seconds)."""
        work = self.folder.parent / f"{self.folder.name}-raw"
        work.mkdir(exist_ok=True)
        keyframe = round(self.rate * 2)
        command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}"]
        command += ["-r", str(self.rate), "-i", "pipe:0"]
        maps = ["-map", "0:v"]
        if self.tracks:
            sound(work / "sound.raw", first, frames, self.rate, self.level)
            command += ["-f", "s16le", "-ar", str(SAMPLES), "-ac", "2", "-i", str(work / "sound.raw")]
            for _ in range(self.tracks):
                maps += ["-map", "1:a"]
        command += [*maps, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", str(keyframe)]
        command += ["-sc_threshold", "0", "-c:a", "aac", "-b:a", "128k", "-output_ts_offset", str(pts - 1.4)]
        command += ["-f", "segment", "-segment_time", "2", "-segment_format", "mpegts", str(work / "%04d.ts")]
        pictures = b"".join(frame(number) for number in range(first, first + frames))
        subprocess.run(command, input=pictures, check=True)
        at = first
        for number, path in enumerate(sorted(work.glob("*.ts"))):
            at += self._list(path, at, step, number == 0)
            path.unlink()
        self.write()

    def _list(self, path: Path, first: int, step: float, discontinuity: bool) -> int:
        probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts", "-of", "json"]
        packets = json.loads(subprocess.run([*probe, path], check=True, capture_output=True).stdout)["packets"]
        stamps = sorted(packet["pts"] for packet in packets)
        start = T0 + float(first / self.rate) + step
        when = utc.to_stamp(start)
        name = f"{when[:8]}/{when[9:11]}/hall_a_main_{when}_{len(self.lines)}.ts"
        data = path.read_bytes()
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        self.lines.append(
            {
                "name": name,
                "seq": len(self.lines),
                "pts": stamps[0] / 90000,
                "utc": utc.to_text(start),
                "duration": float(len(stamps) / self.rate),
                "frames": len(stamps),
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "discontinuity": discontinuity,
                "boot_id": "b",
            }
        )
        return len(stamps)

    def write(self) -> None:
        (self.folder / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def at(self, number: float) -> str:
        """UTC of a frame, to the millisecond."""
        return utc.to_text(round(T0 + float(number / self.rate), 3))


def numbers(path: Path) -> list[int]:
    """The numbers that the frames of a film carry; -1 for a frame without bars."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    size, bar = WIDTH * HEIGHT, WIDTH // BITS
    found = []
    for offset in range(0, len(data), size):
        rows = [data[offset + row * WIDTH : offset + (row + 1) * WIDTH] for row in (20, HEIGHT // 2, HEIGHT - 20)]
        bits = [[row[bit * bar + bar // 2] for bit in range(BITS)] for row in rows]
        clear = all(not 70 < value < 180 for row in bits for value in row)
        same = all([value > 128 for value in row] == [value > 128 for value in bits[0]] for row in bits)
        value = sum((level > 128) << (BITS - 1 - bit) for bit, level in enumerate(bits[0]))
        found.append(value if clear and same else -1)
    return found


def onsets(path: Path) -> list[float]:
    """Seconds at which the loud tone begins."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLES)]
    samples = array.array("h")
    samples.frombytes(subprocess.run([*command, "-f", "s16le", "pipe:1"], check=True, capture_output=True).stdout)
    block = SAMPLES // 1000
    levels = [max(map(abs, samples[n : n + block])) for n in range(0, len(samples) - block, block)]
    loud = max(levels) * 0.5
    return [n / 1000 for n in range(1, len(levels)) if levels[n] > loud and max(levels[max(0, n - 40) : n]) <= loud]


def loudness(path: Path) -> float:
    """Integrated loudness in LUFS, by ffmpeg's other meter."""
    command = ["ffmpeg", "-nostats", "-i", str(path), "-map", "0:a:0", "-af", "ebur128", "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return float(said.rpartition("I:")[2].split()[0])
