"""What is wrong with an inventory, one typed finding per mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any

from stationmaster.model import Origin, Path

BLOCKED_ROLE = "BlockedRole"
MISSING_ROLE_FACTORY = "MissingRoleFactory"
INVALID_CONFIGURATION = "InvalidConfiguration"
ERRORS = (BLOCKED_ROLE, MISSING_ROLE_FACTORY, INVALID_CONFIGURATION)
"""All types, in the order in which a station's findings are told."""

HIDDEN = "(secret)"

KEYS = (
    "error",
    "station",
    "stations",
    "role",
    "instance",
    "path",
    "file",
    "line",
    "value",
    "allowed",
    "suggestion",
    "message",
)
"""The members of a finding as JSON, in this order."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, with all that is needed to mend it.

    `station` is the first station concerned and `stations` are all of them;
    `path` is the dotted path of the key from its variable downwards; `value`
    is what was written there ("(secret)" for secrets), `allowed` what may
    stand there (a list of values or a sentence), `suggestion` the nearest
    valid name for a typo.
    """

    error: str
    message: str
    station: str | None = None
    stations: tuple[str, ...] = ()
    role: str | None = None
    instance: str | None = None
    path: str | None = None
    file: str | None = None
    line: int | None = None
    value: Any = None
    allowed: Any = None
    suggestion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-able data."""
        told = asdict(self)
        return {**{name: told[name] for name in KEYS}, "stations": list(self.stations)}

    def text(self) -> str:
        """Return the finding as one line: `file:line: station: error: message`."""
        return f"{place(self.file, self.line)}{', '.join(self.stations) or '-'}: {self.error}: {self.message}"


def invalid(message: str, *, stations: Iterable[str] = (), origin: Origin | None = None, **parts: Any) -> Finding:
    """Make an InvalidConfiguration finding.

    Args:
        message: what is wrong, and what to do.
        stations: every station concerned, the first first.
        origin: where it was written.
        parts: any of role, instance, path, value, allowed, suggestion, error.
    """
    named = tuple(stations)
    where = origin or Origin("")
    return Finding(
        error=parts.pop("error", INVALID_CONFIGURATION),
        message=message,
        station=named[0] if named else None,
        stations=named,
        file=where.file,
        line=where.line,
        **parts,
    )


def place(file: str | None, line: int | None) -> str:
    """Return `file:line: ` as editors understand it, relative to the working folder when below it."""
    if file is None:
        return ""
    path = FilePath(file)
    if path.is_relative_to(FilePath.cwd()):
        path = path.relative_to(FilePath.cwd())
    return f"{path}:{line}: " if line else f"{path}: "


def dotted(path: Path) -> str:
    """Return a path as text: `("outputs", 0, "url")` becomes `outputs[0].url`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(name: Any, valid: Iterable[Any]) -> str | None:
    """Return the valid name that a typo most likely meant, or None.

    The cutoff lets a transposition in a word of six pass, and takes no record for an encode.
    """
    names = sorted({str(item) for item in valid})
    folded = {item.lower().replace("-", "_"): item for item in reversed(names)}
    close = difflib.get_close_matches(str(name).lower().replace("-", "_"), list(folded), n=1, cutoff=0.7)
    return folded[close[0]] if close else None


def hint(suggestion: str | None) -> str:
    """Return `; did you mean 'x'?` for a suggestion, else nothing."""
    return f"; did you mean {suggestion!r}?" if suggestion else ""


def listed(names: Iterable[Any]) -> str:
    """Return names as a sorted, comma-separated list, or `nothing`."""
    return ", ".join(sorted({str(name) for name in names})) or "nothing"


def ordered(findings: Iterable[Finding], stations: Iterable[str]) -> list[Finding]:
    """Return findings by station in the inventory's order, then type, then place, each once.

    A mistake in defaults that several stations inherit becomes one finding
    that names all of them.
    """
    merged: dict[tuple[Any, ...], Finding] = {}
    for finding in findings:
        key: tuple[Any, ...] = (finding.error, finding.path, finding.file, finding.line, finding.message)
        if finding.file is None:
            key = (*key, finding.stations, finding.role, finding.instance)
        known = merged.get(key)
        if known is None:
            merged[key] = finding
        elif set(finding.stations) - set(known.stations):
            merged[key] = _joined(known, finding)
    position = {name: number for number, name in enumerate(stations)}
    return sorted(
        merged.values(),
        key=lambda item: (
            position.get(item.station or "", -1),
            ERRORS.index(item.error),
            item.file or "",
            item.line or 0,
            item.path or "",
            item.message,
        ),
    )


def _joined(first: Finding, second: Finding) -> Finding:
    stations = tuple(dict.fromkeys((*first.stations, *second.stations)))
    parts = {name: getattr(first, name) for name in first.__slots__}
    return Finding(**{**parts, "stations": stations, "station": stations[0]})
