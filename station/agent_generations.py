"""The generations that a station could go back to. A manifest never changes once it is there: each is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from station.agent_units import cut
from station.applier import files, records
from station.applier.layout import GENERATIONS_KEPT, Layout


class Generations:
    """Remembers what the manifests say, by number; a generation that is gone is forgotten."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[int, dict[str, Any]] = {}
        self.readings = 0

    def look(self, good: list[int]) -> list[dict[str, Any]]:
        """Return the newest generations, newest first; `good` are those that became ready."""
        numbers = sorted(self._layout.numbers(), reverse=True)[:GENERATIONS_KEPT]
        self._known = {number: self._known.get(number) or self._read(number) for number in numbers}
        return [{**self._known[number], "good": number in good} for number in numbers]

    def _read(self, number: int) -> dict[str, Any]:
        self.readings += 1
        manifest = records.load_manifest(self._layout, number) or {}
        revision = manifest.get("revision")
        try:
            at = round(Path(self._layout.generation(number), files.MANIFEST).stat().st_mtime, 3)
        except FileNotFoundError:
            at = None
        return {
            "number": number,
            "applied": manifest.get("applied"),
            "revision": None if revision is None else cut(revision, 255),
            "at": at,
        }
