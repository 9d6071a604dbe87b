"""The ffmpeg inputs and filter graph of a film: intro, title, talk, credits, outro.

Exactness comes from here: the talk is decoded from the start of a segment,
cut by time stamp at half a frame before the first wanted frame, laid on a
constant grid, and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from station import ffmpeg_task
from station.cards import FADE, FONT, Block, Picture, draw, escape, lay_out
from station.cut import Piece, Plan

SAMPLES = 48000
"""Audio samples per second of every product: the only rate Opus has, and what video players expect."""
LONGEST_HOLD = 1.0
"""Seconds for which a last frame may stand in for frames that the source lost; beyond that the product is refused."""
SILENCE = -60.0
"""LUFS: what is below is an open line, and raising it to the target would only bring up its noise."""


class MediaError(Exception):
    """Media that cannot be made into a film; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Input:
    """A piece of the talk as ffmpeg reads it.

    `arguments` name it on a command line. `shift` is how many seconds after
    the input's earliest time stamp its first video frame comes.
    """

    arguments: tuple[str, ...]
    piece: Piece
    shift: float


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the first pass of EBU R 128 measured: LUFS, LU, dBTP, LUFS, LU."""

    integrated: float
    range: float
    peak: float
    threshold: float
    offset: float


@dataclass(slots=True)
class Talk:
    """A planned talk whose segments are at hand."""

    plan: Plan
    inputs: tuple[Input, ...]
    picture: Picture
    languages: tuple[str, ...]
    loudness: list[Loudness] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of the talk."""
        return float(self.plan.frames / self.plan.rate)


def open_talk(plan: Plan, paths: dict[str, Path], folder: Path) -> Talk:
    """Look into the segments of a plan. `paths` maps a segment's name to its file, `folder` gets the lists.

    Raises MediaError, or ffmpeg_task.TaskFailed if a segment cannot be read.
    """
    inputs = []
    shown: list[tuple[Picture, tuple[str, ...]]] = []
    for number, piece in enumerate(plan.pieces):
        name = f"piece-{number}.txt"
        listed = "".join(re.sub(r"([\\' \t])", r"\\\1", str(paths[s.name])) + "\n" for s in piece.segments)
        (folder / name).write_text(listed)
        arguments = ("-f", "mpegts", "-i", f"concatf:{name}")
        facts = ffmpeg_task.probe(f"concatf:{name}", folder, "-f", "mpegts")
        video = [s for s in facts["streams"] if s.get("codec_type") == "video"]
        audio = [s for s in facts["streams"] if s.get("codec_type") == "audio"]
        if not video or not video[0].get("width"):
            raise MediaError(f"{piece.segments[0].name} holds no picture")
        earliest = float(facts["format"]["start_time"])
        inputs.append(Input(arguments, piece, float(video[0]["start_time"]) - earliest))
        aspect = video[0].get("sample_aspect_ratio", "1:1").replace(":", "/")
        picture = Picture(int(video[0]["width"]), int(video[0]["height"]), plan.rate, aspect.replace("0/1", "1/1"))
        shown.append((picture, tuple(stream.get("tags", {}).get("language", "und") for stream in audio)))
    # A source that was reconfigured during the talk changes its picture: the first one counts, the rest is fitted.
    picture, languages = shown[0]
    tracks = min(len(names) for _, names in shown)
    return Talk(plan, tuple(inputs), picture, languages[:tracks])


def talk_video(talk: Talk) -> list[str]:
    """Filter chains that end in `[talk]`: exactly `plan.frames` frames."""
    picture, rate = talk.picture, talk.plan.rate
    chains = []
    for number, item in enumerate(talk.inputs):
        begin = Fraction(item.piece.skip) / rate
        half = Fraction(1, 2) / rate
        end = begin + item.piece.frames / rate
        chains.append(
            f"[{number}:v:0]setpts=PTS-{item.shift:.6f}/TB,"
            f"trim=start={float(begin - half):.6f}:end={float(end - half):.6f},"
            f"setpts=PTS-{float(begin):.6f}/TB,fps=fps={rate}:start_time=0:round=near,"
            f"tpad=stop_mode=clone:stop_duration={LONGEST_HOLD},trim=end_frame={item.piece.frames},"
            f"{_fitted(picture)}[v{number}]"
        )
    joined = "".join(f"[v{number}]" for number in range(len(talk.inputs)))
    return [*chains, f"{joined}concat=n={len(talk.inputs)}:v=1:a=0[talk]"]


def talk_audio(talk: Talk, track: int, label: str) -> list[str]:
    """Filter chains that end in `[label]`: one audio track, as long as the talk to the sample."""
    rate = talk.plan.rate
    chains = []
    for number, item in enumerate(talk.inputs):
        begin = item.shift + float(Fraction(item.piece.skip) / rate)
        samples = round(item.piece.frames / rate * SAMPLES)
        chains.append(
            f"[{number}:a:{track}]asetpts=PTS-{begin:.6f}/TB,atrim=start=0,"
            f"aresample={SAMPLES}:async=1:first_pts=0,aformat=sample_fmts=fltp:channel_layouts=stereo,"
            f"apad=whole_len={samples},atrim=end_sample={samples}[{label}{number}]"
        )
    joined = "".join(f"[{label}{number}]" for number in range(len(talk.inputs)))
    return [*chains, f"{joined}concat=n={len(talk.inputs)}:v=0:a=1[{label}]"]


def normalise(loudness: Loudness, target: float, peak: float, seconds: float) -> str:
    """The second pass: one gain for the whole talk where the peaks allow it (`target` in LUFS, `peak` in dBTP)."""
    samples = round(seconds * SAMPLES)
    exact = f"aresample={SAMPLES},aformat=sample_fmts=fltp:channel_layouts=stereo,apad=whole_len={samples}"
    exact += f",atrim=end_sample={samples}"
    if loudness.integrated < SILENCE:
        return exact
    # A measured range above the target's would make the filter ride the gain: the talk keeps its own range.
    return (
        f"loudnorm=I={target}:TP={peak}:LRA={min(50.0, max(7.0, loudness.range + 1)):.2f}:linear=true"
        f":measured_I={loudness.integrated}:measured_LRA={loudness.range}:measured_TP={loudness.peak}"
        f":measured_thresh={loudness.threshold}:offset={loudness.offset},{exact}"
    )


def parse_loudness(said: str) -> Loudness:
    """Read what the first pass printed. Raises MediaError if it printed nothing of the kind."""
    found = re.findall(r"\{[^{}]*\"input_i\"[^{}]*\}", said)
    if not found:
        raise MediaError(f"loudness could not be measured: {said[-500:]}")
    value = json.loads(found[-1])

    def number(key: str, least: float) -> float:
        return max(least, float(value[key]))

    return Loudness(
        number("input_i", -99.0),
        number("input_lra", 0.0),
        number("input_tp", -99.0),
        number("input_thresh", -99.0),
        number("target_offset", -99.0),
    )


def _fitted(picture: Picture) -> str:
    size = f"{picture.width}:{picture.height}"
    return f"scale={size}:force_original_aspect_ratio=decrease,pad={size}:-1:-1,setsar={picture.aspect},format=yuv420p"


@dataclass(slots=True)
class Film:
    """A filter graph being put together, part by part in the order of showing.

    `folder` is ffmpeg's working directory. `frames` grows with each part.
    """

    talk: Talk
    folder: Path
    arguments: list[str] = field(init=False)
    chains: list[str] = field(default_factory=list)
    parts: list[list[str]] = field(default_factory=list)
    frames: int = 0
    _inputs: int = field(init=False)

    def __post_init__(self) -> None:
        self.arguments = [argument for item in self.talk.inputs for argument in item.arguments]
        self._inputs = len(self.talk.inputs)

    @property
    def tracks(self) -> int:
        """Audio tracks of the film: a talk without any gets a silent one, for players expect one."""
        return max(1, len(self.talk.languages))

    def add_talk(self, target: float, peak: float) -> None:
        """Show the talk, its loudness brought to `target` LUFS with peaks of at most `peak` dBTP."""
        self.chains += talk_video(self.talk)
        labels = []
        for track in range(len(self.talk.languages)):
            self.chains += talk_audio(self.talk, track, f"t{track}")
            norm = normalise(self.talk.loudness[track], target, peak, self.talk.seconds)
            self.chains.append(f"[t{track}]{norm}[talk{track}]")
            labels.append(f"talk{track}")
        self._show("talk", labels or self._silence("talk", self.talk.plan.frames), self.talk.plan.frames)

    def add_card(self, name: str, blocks: Sequence[Block], seconds: float, card: dict[str, Any], font: str) -> None:
        """Show a card of text; `card` may have `background` (a picture's path), `colour` and `text_colour`."""
        picture = self.talk.picture
        frames = round(seconds * picture.rate)
        if frames < 1:
            return
        if background := card.get("background"):
            self.arguments += ["-loop", "1", "-framerate", str(picture.rate), "-i", str(background)]
            ground = f"[{self._inputs}:v:0]{_fitted(picture)},fps={picture.rate}"
            self._inputs += 1
        else:
            colour = escape(str(card.get("colour", "#101820")))
            ground = f"color=c={colour}:s={picture.width}x{picture.height}:r={picture.rate}"
        lines = lay_out(blocks, picture)
        filters = draw(lines, self.folder, name, font or FONT, escape(str(card.get("text_colour", "white"))))
        fade = min(FADE, seconds / 4)
        filters += [
            f"trim=end_frame={frames}",
            f"fade=t=in:d={fade}",
            f"fade=t=out:st={seconds - fade}:d={fade}",
            f"setsar={picture.aspect}",
            "format=yuv420p",
        ]
        self.chains.append(f"{ground},{','.join(filters)}[{name}]")
        self._show(name, self._silence(name, frames), frames)

    def add_file(
        self, name: str, path: str, loudness: Loudness | None, seconds: float, norm: tuple[float, float]
    ) -> None:
        """Show a film of the event's own for `seconds`; `loudness` None means that it has no sound."""
        picture = self.talk.picture
        frames = round(seconds * picture.rate)
        number = self._inputs
        self._inputs += 1
        self.arguments += ["-i", path]
        self.chains.append(
            f"[{number}:v:0]setpts=PTS-STARTPTS,fps={picture.rate},{_fitted(picture)},"
            f"tpad=stop_mode=clone:stop_duration={LONGEST_HOLD},trim=end_frame={frames}[{name}]"
        )
        if loudness is None:
            self._show(name, self._silence(name, frames), frames)
            return
        labels = [f"{name}{track}" for track in range(self.tracks)]
        length = float(frames / picture.rate)
        split = "".join(f"[{label}]" for label in labels)
        self.chains.append(
            f"[{number}:a:0]asetpts=PTS-STARTPTS,aresample={SAMPLES},aformat=channel_layouts=stereo,"
            f"{normalise(loudness, *norm, length)},asplit={len(labels)}{split}"
        )
        self._show(name, labels, frames)

    def _silence(self, name: str, frames: int) -> list[str]:
        labels = [f"{name}-silence{track}" for track in range(self.tracks)]
        samples = round(frames / self.talk.picture.rate * SAMPLES)
        self.chains += [
            f"anullsrc=r={SAMPLES}:cl=stereo,aformat=sample_fmts=fltp,atrim=end_sample={samples}[{label}]"
            for label in labels
        ]
        return labels

    def _show(self, video: str, audio: Sequence[str], frames: int) -> None:
        self.parts.append([video, *audio])
        self.frames += frames

    def graph(self) -> str:
        """The whole filter graph: it ends in `[v]` and `[a0]`, `[a1]`…"""
        rate = self.talk.picture.rate
        joined = "".join(f"[{label}]" for part in self.parts for label in part)
        ends = "".join(f"[a{track}]" for track in range(self.tracks))
        return ";\n".join(
            [
                *self.chains,
                f"{joined}concat=n={len(self.parts)}:v=1:a={self.tracks}[film]{ends}",
                # The concat filter counts in microseconds: back to whole frames.
                f"[film]fps=fps={rate}:round=near,trim=end_frame={self.frames}[v]",
            ]
        )
