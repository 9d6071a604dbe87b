"""Loudness and silence of each audio track, from what ebur128 and astats measured.

Silence and one missing channel are the commonest spoilt recordings, and nobody
hears them: so both are warnings, in time to mend them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from station.ffmpeg_args import Track

NOTHING = -120.0
"""What we say for digital silence: JSON has no -inf."""
CHANNEL_GAP = 30.0
"""dB below the loudest channel at which a channel counts as missing; a quiet side of a stereo picture is within 20."""


def _level(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return NOTHING
    return max(NOTHING, round(value, 1)) if math.isfinite(value) else NOTHING


@dataclass(slots=True)
class Level:
    """The state of one track; levels in LUFS and dBFS, times on the steady clock in seconds."""

    track: Track
    momentary: float = NOTHING
    short_term: float = NOTHING
    integrated: float = NOTHING
    channels: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    heard: float | None = None
    """When it was last louder than the limit, and before anything was heard: when it began."""
    full: dict[int, float] = field(default_factory=dict)
    """When each channel last was not missing."""

    def see(self, values: Mapping[str, str], now: float, limit: float) -> None:
        """Take one record of the filters; `limit` in dBFS is what counts as sound."""
        self.momentary = _level(values.get("lavfi.r128.M", ""))
        self.short_term = _level(values.get("lavfi.r128.S", ""))
        self.integrated = _level(values.get("lavfi.r128.I", ""))
        count = 0
        while f"lavfi.astats.{count + 1}.RMS_level" in values:
            count += 1
        self.channels = [_level(values[f"lavfi.astats.{at}.RMS_level"]) for at in range(1, count + 1)]
        self.peaks = [_level(values.get(f"lavfi.astats.{at}.Peak_level", "")) for at in range(1, count + 1)]
        loudest = max(self.channels, default=NOTHING)
        if self.heard is None or loudest > limit:
            self.heard = now
        for at, level in enumerate(self.channels):
            # In silence no channel is missing: it says nothing about the wiring.
            if at not in self.full or loudest <= limit or level > loudest - CHANNEL_GAP:
                self.full[at] = now

    def silent_for(self, now: float) -> float:
        """Seconds since it was heard."""
        return 0.0 if self.heard is None else now - self.heard

    def missing(self, now: float, after: float) -> list[int]:
        """Channels (from 1) that are missing for longer than `after` seconds while another one is heard."""
        return [at + 1 for at, since in sorted(self.full.items()) if now - since > after]

    def report(self, at: int, now: float) -> dict[str, Any]:
        """The track's part of status.json."""
        return {
            "track": at,
            "label": self.track.label,
            "language": self.track.language,
            "momentary": self.momentary,
            "short_term": self.short_term,
            "integrated": self.integrated,
            "channels": [{"rms": rms, "peak": peak} for rms, peak in zip(self.channels, self.peaks, strict=True)],
            "silent_for": round(self.silent_for(now), 1),
        }


def warnings(levels: list[Level], now: float, after: float) -> list[dict[str, str]]:
    """The warnings of all tracks; `after` (seconds) is how long something may last."""
    found = []
    for at, level in enumerate(levels):
        name = f"audio track {at + 1} ({level.track.label})"
        if level.silent_for(now) > after:
            text = f"{name} has been silent for {level.silent_for(now):.0f} s"
            found.append({"code": "silence", "message": text})
        for channel in level.missing(now, after):
            text = f"{name}: channel {channel} is missing while the other one is heard"
            found.append({"code": "channel_missing", "message": text})
    return found
