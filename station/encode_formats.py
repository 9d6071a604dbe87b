"""The products of a talk: how each is encoded, and whether it came out right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station import ffmpeg_task
from station.encode_graph import SAMPLES, Film, Loudness, Talk, parse_loudness, talk_audio

Progress = Callable[[float], None]
Stop = Callable[[], bool]
SUFFIX = {"mp4": "mp4", "webm": "webm"}
AUDIO_SLACK = 0.1
"""Seconds by which sound may be longer or shorter than the picture: priming and the last packet of AAC (1024
samples) and Opus (20 ms)."""
_AUDIO = {
    "opus": ("libopus", 96, "ogg"),
    "mp3": ("libmp3lame", 128, "mp3"),
    "m4a": ("aac", 128, "ipod"),
}


class BadProduct(Exception):
    """A file that ffmpeg made without complaint and that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One product to make. `seconds` and `frames` (0: no picture) are what it must have."""

    format: str
    name: str
    arguments: tuple[str, ...]
    seconds: float
    frames: int
    rate: float
    tracks: int


def measure(talk: Talk, folder: Path, target: float, peak: float, progress: Progress, stop: Stop) -> list[Loudness]:
    """First pass of EBU R 128 over each audio track of the talk."""
    found = []
    tracks = len(talk.languages)
    for track in range(tracks):
        chains = [*talk_audio(talk, track, "t"), f"[t]{_meter(target, peak)}[out]"]
        inputs = [argument for item in talk.inputs for argument in ("-vn", *item.arguments)]
        done = track * talk.seconds

        def report(seconds: float, done: float = done) -> None:
            progress((done + seconds) / tracks)

        arguments = [*inputs, "-filter_complex", ";".join(chains), "-map", "[out]", "-f", "null", "-"]
        found.append(parse_loudness(ffmpeg_task.run(arguments, folder, report, stop, level="info")))
    return found


def measure_file(path: str, folder: Path, target: float, peak: float, stop: Stop) -> tuple[float, Loudness | None]:
    """Length in seconds and loudness (None without sound) of a film of the event's own."""
    facts = ffmpeg_task.probe(path, folder)
    seconds = float(facts["format"]["duration"])
    if not any(stream.get("codec_type") == "audio" for stream in facts["streams"]):
        return seconds, None
    arguments = ["-vn", "-i", path, "-map", "0:a:0", "-af", _meter(target, peak), "-f", "null", "-"]
    return seconds, parse_loudness(ffmpeg_task.run(arguments, folder, stop=stop, level="info"))


def _meter(target: float, peak: float) -> str:
    return f"aformat=channel_layouts=stereo,loudnorm=I={target}:TP={peak}:print_format=json"


def film_spec(
    film: Film, format_: str, id_: str, options: Mapping[str, Any], tags: Mapping[str, str], threads: int
) -> Spec:
    """How to make `mp4` or `webm` of a film; `options` are the instance's, `threads` for the encoder."""
    graph = film.folder / "film.graph"
    graph.write_text(film.graph(), encoding="utf-8")
    name = f"{id_}.{SUFFIX[format_]}"
    chosen: Mapping[str, Any] = options.get(format_, {})
    maps = ["-map", "[v]"]
    for track in range(film.tracks):
        maps += ["-map", f"[a{track}]"]
    codec = _mp4(chosen) if format_ == "mp4" else _webm(chosen, threads)
    rate = film.talk.plan.rate
    arguments = [
        *film.arguments,
        *("-filter_complex_script", graph.name, *maps, *codec),
        *("-threads", str(threads), "-pix_fmt", "yuv420p", "-g", str(round(rate * 4))),
        *_tags(tags, film.talk.languages),
        str(Path("product") / name),
    ]
    return Spec(format_, name, tuple(arguments), float(film.frames / rate), film.frames, float(rate), film.tracks)


def audio_spec(talk: Talk, norms: Sequence[str], id_: str, options: Mapping[str, Any], tags: Mapping[str, str]) -> Spec:
    """How to make the audio file: the talk alone, first track, `norms` its second pass of loudness."""
    chosen: Mapping[str, Any] = options.get("audio", {})
    suffix = str(chosen.get("format", "opus"))
    codec, bitrate, container = _AUDIO[suffix]
    chains = [*talk_audio(talk, 0, "t"), f"[t]{norms[0]}[a]"]
    arguments = [
        *(argument for item in talk.inputs for argument in ("-vn", *item.arguments)),
        *("-filter_complex", ";".join(chains), "-map", "[a]", "-c:a", codec),
        *("-b:a", f"{chosen.get('bitrate') or bitrate}k", "-f", container),
        *(("-movflags", "+faststart") if container == "ipod" else ()),
        *_tags(tags, talk.languages[:1]),
        str(Path("product") / f"{id_}.{suffix}"),
    ]
    return Spec("audio", f"{id_}.{suffix}", tuple(arguments), talk.seconds, 0, 0.0, 1)


def _mp4(chosen: Mapping[str, Any]) -> list[str]:
    return [
        *("-c:v", "libx264", "-preset", str(chosen.get("preset", "fast")), "-crf", str(chosen.get("crf", 21))),
        *("-c:a", "aac", "-ar", str(SAMPLES)),
        *("-b:a", f"{chosen.get('audio_bitrate', 160)}k", "-movflags", "+faststart"),
    ]


def _webm(chosen: Mapping[str, Any], threads: int) -> list[str]:
    sound = ["-c:a", "libopus", "-b:a", f"{chosen.get('audio_bitrate', 96)}k"]
    if chosen.get("codec", "vp9") == "av1":
        video = ["-c:v", "libsvtav1", "-preset", str(chosen.get("speed", 9)), "-crf", str(chosen.get("crf", 35))]
        return [*video, "-svtav1-params", f"lp={threads}", *sound]
    video = ["-c:v", "libvpx-vp9", "-b:v", "0", "-crf", str(chosen.get("crf", 33)), "-deadline", "good"]
    return [*video, "-cpu-used", str(min(8, chosen.get("speed", 5))), "-row-mt", "1", "-tile-columns", "2", *sound]


def _tags(tags: Mapping[str, str], languages: Sequence[str]) -> list[str]:
    arguments = ["-map_metadata", "-1", "-map_chapters", "-1"]
    for key, value in tags.items():
        if value:
            arguments += ["-metadata", f"{key}={value}"]
    for track, language in enumerate(languages):
        arguments += [f"-metadata:s:a:{track}", f"language={language}"]
    return arguments


def check(spec: Spec, folder: Path) -> dict[str, Any]:
    """Look at a finished file. Returns what the manifest says of it; raises BadProduct or TaskFailed."""
    path = folder / "product" / spec.name
    facts = ffmpeg_task.probe(str(path), folder, "-count_packets", timeout=max(60.0, spec.seconds))
    streams = {kind: [s for s in facts["streams"] if s["codec_type"] == kind] for kind in ("video", "audio")}
    if bool(spec.frames) != bool(streams["video"]) or len(streams["audio"]) != spec.tracks:
        raise BadProduct(f"{spec.name}: has {len(streams['video'])} video and {len(streams['audio'])} audio streams")
    result: dict[str, Any] = {"format": spec.format, "container": facts["format"]["format_name"]}
    seconds = float(facts["format"]["duration"])
    if abs(seconds - spec.seconds) > AUDIO_SLACK:
        raise BadProduct(f"{spec.name}: lasts {seconds:.3f} s instead of {spec.seconds:.3f} s")
    result["duration"] = seconds
    if spec.frames:
        video = streams["video"][0]
        frames = int(video["nb_read_packets"])
        if frames != spec.frames:
            raise BadProduct(f"{spec.name}: has {frames} frames instead of {spec.frames}; the recording lost frames")
        own = float(video.get("duration", frames / spec.rate))
        if abs(own - spec.seconds) > 1 / spec.rate:
            raise BadProduct(f"{spec.name}: its picture lasts {own:.3f} s instead of {spec.seconds:.3f} s")
        result |= {"frames": frames, "width": video["width"], "height": video["height"]}
        result |= {"rate": video["r_frame_rate"], "video_codec": video["codec_name"]}
    result["audio_codec"] = streams["audio"][0]["codec_name"]
    return result
