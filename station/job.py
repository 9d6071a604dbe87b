"""An encode job: what its JSON file says, and a tool that writes one.

`python3 -m station.job --data DIR --id … --title … --start … --end …` puts a job
into `todo/` in one rename; `--schema` prints the JSON Schema of a job file. A
person may as well copy a file there: it is read once it no longer changes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station import files, utc

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FORMATS = ("mp4", "webm", "audio")
LONGEST = 24 * 3600
"""Seconds: a longer talk is a typing mistake in a date."""
LARGEST = 256 * 1024
"""Bytes of a job file: a larger one is no job."""

_TIME = {"type": "string", "format": "date-time", "examples": ["2026-03-01T09:00:00.000Z"]}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "An encode job: a file todo/<anything>.json of an encode instance",
    "type": "object",
    "required": ["id", "title", "start", "end"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": f"^{ID.pattern}$", "description": "names the product: done/<id>/"},
        "title": {"type": "string", "minLength": 1, "description": "on the title card and in the metadata"},
        "presenters": {
            "description": "who speaks; one string, or one for each",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "source": {"type": "string", "description": "<station>/<instance>; default: the instance's own `from`"},
        "start": {**_TIME, "description": "UTC of the first frame, to the millisecond"},
        "end": {**_TIME, "description": "UTC just after the last frame, to the millisecond"},
        "formats": {
            "description": "default: all that the instance makes",
            "type": "array",
            "items": {"enum": list(FORMATS)},
            "minItems": 1,
            "uniqueItems": True,
        },
        "description": {"type": "string", "description": "abstract, for the metadata"},
        "language": {"type": "string", "pattern": "^[a-z]{3}$", "description": "ISO 639-2 code of the audio"},
        "credits": {"type": "string", "description": "text of the credits card; default: the instance's"},
        "allow_gaps": {"type": "boolean", "description": "encode although media is missing; the manifest says what"},
        "replace": {"type": "boolean", "description": "take the place of a finished product with the same id"},
    },
}


class JobError(ValueError):
    """A job that cannot be done as it is written; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as understood. `start` and `end` are UTC in seconds; `raw` is the whole file."""

    id: str
    title: str
    presenters: tuple[str, ...]
    source: str
    start: float
    end: float
    formats: tuple[str, ...]
    description: str
    language: str
    credits: str | None
    allow_gaps: bool
    replace: bool
    raw: dict[str, Any]


def parse(value: Any, sources: Sequence[str], formats: Sequence[str] = FORMATS) -> Job:
    """Understand a job. `sources` are the allowed ones, `formats` what it gets if it names none.

    Raises JobError naming every field that is wrong, with what is allowed.
    """
    if not isinstance(value, Mapping):
        raise JobError(f"a job is a JSON object, this is {_shown(value)}")
    known: dict[str, Any] = SCHEMA["properties"]
    wrong = [f"{key}: unknown; a job has {', '.join(known)}" for key in value if key not in known]
    wrong += [f"{key}: is missing" for key in SCHEMA["required"] if key not in value]

    def take(key: str, read: Callable[[Any], Any], default: Any) -> Any:
        if key not in value:
            return default
        try:
            return read(value[key])
        except JobError as error:
            wrong.append(f"{key}: {error}")
            return default

    job = Job(
        id=take("id", _id, ""),
        title=take("title", _title, ""),
        presenters=take("presenters", _presenters, ()),
        source=take("source", lambda text: _source(text, sources), sources[0] if len(sources) == 1 else ""),
        start=take("start", _time, 0.0),
        end=take("end", _time, 0.0),
        formats=take("formats", _formats, tuple(formats)),
        description=take("description", _text, ""),
        language=take("language", _language, ""),
        credits=take("credits", _text, None),
        allow_gaps=take("allow_gaps", _flag, False),
        replace=take("replace", _flag, False),
        raw=dict(value),
    )
    if not job.source and "source" not in value:
        wrong.append(f"source: is missing, and this instance has several: {', '.join(sources)}")
    if job.start and job.end and not 0 < job.end - job.start <= LONGEST:
        wrong.append(f"end: is {job.end - job.start:.3f} s after start; allowed is more than 0 and at most {LONGEST} s")
    if wrong:
        raise JobError("; ".join(wrong))
    return job


def loose_id(value: Any, stem: str) -> str:
    """The id of a job for a program of the crew's: `id`, the first system's `schedule_id`, or the file's name.

    Raises JobError if that cannot name a folder.
    """
    if not isinstance(value, Mapping):
        raise JobError(f"a job is a JSON object, this is {_shown(value)}")
    return _id(value.get("id", value.get("schedule_id", stem)))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise JobError(f"is {_shown(value)}; needed is a text")
    return value


def _title(value: Any) -> str:
    if not _text(value).strip():
        raise JobError("is empty; the title card and the metadata need it")
    return _text(value)


def _id(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise JobError(f"is {_shown(value)}; it names a folder: 1 to 64 of A-Z a-z 0-9 _ -")
    return text


def _presenters(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise JobError(f"is {_shown(value)}; needed is a text, or a list of texts")
    return tuple(name.strip() for name in names if name.strip())


def _source(value: Any, sources: Sequence[str]) -> str:
    if value not in sources:
        raise JobError(f"is {_shown(value)}; this instance reads {', '.join(sources) or 'nothing'} (its option `from`)")
    return str(value)


def _time(value: Any) -> float:
    try:
        return utc.from_text(_text(value))
    except ValueError as error:
        raise JobError(f"is {_shown(value)}; needed is UTC such as 2026-03-01T09:00:00.000Z") from error


def _formats(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(item in FORMATS for item in value):
        raise JobError(f"is {_shown(value)}; needed is a list of some of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(value))


def _language(value: Any) -> str:
    if not re.fullmatch("[a-z]{3}", _text(value)):
        raise JobError(f"is {_shown(value)}; needed is a code of three letters such as eng or deu")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise JobError(f"is {_shown(value)}; needed is true or false")
    return value


def enqueue(data: Path, job: Mapping[str, Any]) -> Path:
    """Put a job into `todo/` below an instance's data folder, durably and in one rename; returns its path.

    Raises FileExistsError if a file of that name waits already, OSError if it cannot be written.
    """
    todo = data / "todo"
    files.make_folder(todo)
    path = todo / f"{job['id']}.json"
    if path.exists():
        raise FileExistsError(f"{path}: a job with this id waits already; remove it or choose another id")
    # Readable for the instance's user also when root writes it.
    files.write_json(path, dict(job), durable=True, mode=0o644)
    return path


def main(argv: list[str] | None = None) -> int:
    """Write a job; exit 1 with the reason if it is none."""
    parser = argparse.ArgumentParser(prog="station.job", description="Write an encode job into an instance's todo/.")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a job file and end")
    parser.add_argument("--data", type=Path, help="data folder of the encode instance")
    for key in ("id", "title", "source", "start", "end", "description", "language", "credits"):
        parser.add_argument(f"--{key}", help=SCHEMA["properties"][key].get("description"))
    parser.add_argument("--presenter", action="append", dest="presenters", help="who speaks; may be given again")
    parser.add_argument("--format", action="append", dest="formats", choices=FORMATS, help="may be given again")
    parser.add_argument("--allow-gaps", action="store_true", default=None)
    parser.add_argument("--replace", action="store_true", default=None)
    arguments = vars(parser.parse_args(argv))
    if arguments.pop("schema"):
        sys.stdout.write(json.dumps(SCHEMA, indent=1) + "\n")
        return 0
    data = arguments.pop("data")
    job = {key: value for key, value in arguments.items() if value is not None}
    try:
        if data is None:
            raise JobError("--data: which instance? its data folder is /srv/stationmaster/encode/<instance>")
        parse(job, [job["source"]] if "source" in job else ["(the instance's)"])
        sys.stdout.write(f"{enqueue(data, job)}\n")
    except (JobError, OSError) as error:
        sys.stderr.write(f"station.job: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
