"""The ffmpeg command line of an ingest: one encoder, four pipes.

stdout carries the MPEG-TS that `station.transport` cuts; the others carry what
the filters measured, `-progress`, and the preview picture. ffmpeg itself writes
no file, so that a full disk does not end it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from station.config import Config, ConfigError, typed
from station.facts import KEY
from station.sources import LISTING, Input, resolve
from station.transport import PMT_PID, VIDEO_PID

PIPES = ("stdout", "stderr", "facts", "progress", "preview")
START = 10
"""Seconds added to every PTS of the output: AAC's priming makes the first ones negative."""
TICKS = 1_000_000
"""The filters report PTS in microseconds (`settb=AVTB`)."""
STATISTICS_FRAMES = 5
"""astats over half a second: ebur128 hands on frames of 100 ms."""


@dataclass(frozen=True, slots=True)
class Track:
    """One audio track of the recording: stream `stream` of the source, or only some `channels` of it (from 1)."""

    label: str
    language: str
    stream: int
    channels: tuple[int, ...]
    gain: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest makes of its source, from the options; all but `input` is the same for every run."""

    size: str
    rate: Fraction
    segment: float
    bitrate: int
    encoder: str
    preset: str
    device: str
    deinterlace: bool
    tracks: tuple[Track, ...] | None
    audio_bitrate: int
    preview_every: float
    preview_width: int
    input: Input

    @property
    def gop(self) -> int:
        """Frames from keyframe to keyframe: one segment."""
        return max(1, round(Fraction(self.segment) * self.rate))

    @property
    def tick(self) -> float:
        """Nominal length of a segment in seconds: 2, or 2.002 at 29.97 frames a second."""
        return float(self.gop / self.rate)

    def chosen(self, available: int | None) -> list[Track]:
        """The tracks of a run, given how many the source has (None: not known yet).

        Without `audio.tracks` all are taken; of those listed, the ones that exist.
        """
        found = self.input.tracks if self.input.tracks is not None else available
        if self.tracks is None:
            return [Track(f"Track {at + 1}", "und", at, (), 0.0) for at in range(1 if found is None else found)]
        return [track for track in self.tracks if found is None or track.stream < found]


def _rate(value: Any) -> Fraction:
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 1 <= rate <= 120:
        raise ConfigError("options.video.rate", f"is {value!r}; needed is 1 to 120, or a fraction like 30000/1001")
    return rate


def _track(value: Any, at: int) -> Track:
    key = f"options.audio.tracks.{at}."
    if not isinstance(value, dict):
        raise ConfigError(key[:-1], "must be an object")
    return Track(
        label=typed(value, "label", str, f"Track {at + 1}", prefix=key),
        language=typed(value, "language", str, "und", prefix=key),
        stream=typed(value, "stream", int, at, prefix=key),
        channels=tuple(typed(value, "channels", list, [], prefix=key)),
        gain=typed(value, "gain", float, 0.0, prefix=key),
    )


def plan(config: Config) -> Plan:
    """Read the options of an ingest. Raises ConfigError naming the key."""
    size = config.option("video.size", str, "1280x720")
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or int(width) % 2 or int(height) % 2:
        raise ConfigError("options.video.size", f"is {size!r}; needed is WIDTHxHEIGHT, both even")
    rate = _rate(config.options.get("video", {}).get("rate", 25))
    listed = config.options.get("audio", {}).get("tracks")
    tracks = None if listed is None else tuple(_track(value, at) for at, value in enumerate(listed))
    made = 1 if tracks is None else 1 + max((track.stream for track in tracks), default=-1)
    encoder = config.option("video.encoder", str, "x264")
    if encoder not in ("x264", "vaapi"):
        raise ConfigError("options.video.encoder", f"is {encoder!r}; known are x264 and vaapi")
    return Plan(
        size=size,
        rate=rate,
        segment=config.budget.media_tick,
        bitrate=config.option("video.bitrate", int, 4000),
        encoder=encoder,
        preset=config.option("video.preset", str, "veryfast"),
        device=config.option("video.device", str, "/dev/dri/renderD128"),
        deinterlace=config.option("video.deinterlace", bool, False),
        tracks=tracks,
        audio_bitrate=config.option("audio.bitrate", int, 160),
        preview_every=config.option("preview.every", float, 3.0),
        preview_width=config.option("preview.width", int, 480),
        input=resolve(config, size=size, rate=str(rate), tracks=made),
    )


def _report(kind: str, who: str, fd: int) -> str:
    """A pair of filters that write each frame's PTS and metadata to a pipe, at once."""
    return f"{kind}=mode=add:key={KEY}:value={who},{kind}=mode=print:file='pipe\\:{fd}':direct=1"


def _skip(kind: str, made: Plan) -> str:
    return f",{kind}=start={made.input.skip}" if made.input.skip else ""


def _video(made: Plan, fd: int) -> str:
    width, height = made.size.split("x")
    steps = [
        f"[0:v:0]settb=AVTB{_skip('trim', made)},{_report('metadata', 'v', fd)}",
        *(["yadif=deint=interlaced"] if made.deinterlace else []),
        f"fps={made.rate}",
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2",
        f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2",
        "setsar=1,format=yuv420p,split[picture][small]",
    ]
    last = "format=nv12,hwupload" if made.encoder == "vaapi" else "null"
    preview = f"fps={Fraction(1 / made.preview_every).limit_denominator(1000)},scale={made.preview_width}:-2"
    return f"{','.join(steps)};[picture]{last}[video];[small]{preview}[preview]"


def _audio(made: Plan, track: Track, at: int, fd: int) -> str:
    steps = [f"[{made.input.audio}:a:{track.stream}]aresample=48000:async=1000{_skip('atrim', made)}"]
    if track.channels:
        left, right = track.channels[0] - 1, track.channels[-1] - 1
        steps.append(f"pan=stereo|c0=c{left}|c1=c{right}")
    else:
        steps.append("aformat=channel_layouts=stereo")
    if track.gain:
        steps.append(f"volume={track.gain}dB")
    steps += [
        "ebur128=metadata=1:framelog=verbose",
        f"astats=metadata=1:reset={STATISTICS_FRAMES}:measure_overall=none:measure_perchannel=RMS_level+Peak_level",
        f"{_report('ametadata', f'a{at}', fd)}[audio{at}]",
    ]
    return ",".join(steps)


def _encoder(made: Plan) -> list[str]:
    if made.encoder == "vaapi":
        codec = ["-c:v", "h264_vaapi", "-profile:v", "high"]
    else:
        codec = ["-c:v", "libx264", "-preset", made.preset, "-profile:v", "high", "-sc_threshold", "0"]
        codec += ["-keyint_min", str(made.gop), "-flags:v", "+cgop"]
    # No B-frames: the stream is then in the order of time, and a kill costs no frame but the last.
    return [
        *codec,
        *("-bf", "0", "-g", str(made.gop), "-b:v", f"{made.bitrate}k"),
        *("-maxrate", f"{made.bitrate}k", "-bufsize", f"{made.bitrate * 2}k", "-fps_mode:v", "passthrough"),
    ]


def command(made: Plan, tracks: list[Track], pipes: Mapping[str, int], listing: str | None) -> list[str]:
    """The argument list of one run.

    `tracks` are those of `Plan.chosen`, `pipes` the descriptors by name, `listing`
    the path of the file with the input's secrets, if it has one.
    """
    graph = [_video(made, pipes["facts"])]
    graph += [_audio(made, track, at, pipes["facts"]) for at, track in enumerate(tracks)]
    source = [str(listing) if part == LISTING else part for part in made.input.arguments]
    arguments = ["/usr/bin/ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]
    arguments += ["-progress", f"pipe:{pipes['progress']}", "-stats_period", "0.5"]
    if made.encoder == "vaapi":
        arguments += ["-vaapi_device", made.device]
    arguments += [*source, "-filter_complex", ";".join(graph), "-map", "[video]"]
    for at in range(len(tracks)):
        arguments += ["-map", f"[audio{at}]"]
    arguments += _encoder(made)
    if tracks:
        arguments += ["-c:a", "aac", "-b:a", f"{made.audio_bitrate}k"]
    for at, track in enumerate(tracks):
        arguments += [f"-metadata:s:a:{at}", f"language={track.language}"]
        arguments += [f"-metadata:s:a:{at}", f"title={track.label}"]
    arguments += [
        *("-map_metadata", "-1", "-map_chapters", "-1"),
        # No delay and no shift: PTS in the stream are those of the filters plus START.
        *("-muxdelay", "0", "-muxpreload", "0", "-mpegts_copyts", "1", "-output_ts_offset", str(START)),
        # A silent microphone must not hold back the picture: 10 s by default, beyond the stall limit.
        *("-max_interleave_delta", "500000"),
        *("-mpegts_start_pid", str(VIDEO_PID), "-mpegts_pmt_start_pid", str(PMT_PID), "-flush_packets", "1"),
        *("-f", "mpegts", "pipe:1"),
        *("-map", "[preview]", "-c:v", "mjpeg", "-q:v", "6", "-fps_mode:v", "passthrough"),
        *("-f", "image2pipe", f"pipe:{pipes['preview']}"),
    ]
    return arguments
