"""The live HLS playlist, written from the index: it lists nothing that the index does not."""

from __future__ import annotations

import re
from pathlib import Path

from station import files
from station.index import Segment
from station.utc import from_text, to_text

PLAYLIST = "live.m3u8"
WINDOW = 8
"""Segments in the playlist: 16 s, of which players keep three segments in hand."""


def _number(text: str, tag: str) -> int | None:
    found = re.search(rf"^#{tag}:(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


class Playlist:
    """Writes `live.m3u8`.

    RFC 8216: neither the media sequence nor the discontinuity sequence may go
    back, also not over a restart, so the numbers begin where the old file ends.
    `tick` is the nominal length of a segment in seconds.
    """

    def __init__(self, folder: Path, tick: float, recorded: list[Segment]) -> None:
        self._path = folder / PLAYLIST
        self._target = max(1, round(tick + 0.001))
        self._entries: list[Segment] = []
        self._sequence: int | None = None
        self._discontinuities = 0
        old = self._path.read_text(errors="replace") if self._path.exists() else ""
        first = _number(old, "EXT-X-MEDIA-SEQUENCE")
        known = recorded[-WINDOW:]
        if first is not None:
            self._sequence = first
            self._discontinuities = _number(old, "EXT-X-DISCONTINUITY-SEQUENCE") or 0
            listed = [line for line in old.splitlines() if line and not line.startswith("#")]
            places = {segment.name: place for place, segment in enumerate(recorded)}
            if listed and listed[0] in places:
                known = recorded[places[listed[0]] :]
            else:
                # What the old file listed is gone from the disk: go on behind it.
                known = []
                self._sequence += len(listed)
                self._discontinuities += old.count("#EXT-X-DISCONTINUITY\n")
        for segment in known:
            self._append(segment)

    def _append(self, segment: Segment) -> None:
        if self._sequence is None:
            # No history: the recording's own number, which exceeds whatever a lost disk had counted.
            self._sequence = segment.seq
        self._entries.append(segment)
        while len(self._entries) > WINDOW:
            gone = self._entries.pop(0)
            self._sequence += 1
            self._discontinuities += gone.discontinuity

    def add(self, segment: Segment) -> None:
        """List one more segment and replace the file. Raises OSError."""
        self._append(segment)
        self.write()

    def text(self) -> str:
        """The playlist; it never ends, so that players wait through a restart."""
        longest = max((segment.duration for segment in self._entries), default=0.0)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{max(self._target, round(longest))}",
            f"#EXT-X-MEDIA-SEQUENCE:{self._sequence or 0}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._discontinuities}",
        ]
        for segment in self._entries:
            if segment.discontinuity:
                lines.append("#EXT-X-DISCONTINUITY")
            # Milliseconds: the most that every player reads.
            moment = to_text(round(from_text(segment.utc), 3))
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{moment[:-4]}Z")
            lines.append(f"#EXTINF:{segment.duration:.6f},")
            lines.append(segment.name)
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Replace the file in one rename. Raises OSError."""
        files.write(self._path, self.text())
