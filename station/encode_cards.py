"""The parts of a film around the talk, and the metadata: what job, event and options say, put into words."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from station.cards import Block
from station.config import Config
from station.encode_formats import Stop, measure_file
from station.encode_graph import Film
from station.job import Job

CARD_SECONDS = 4.0
"""Seconds for which a card is shown unless the options say otherwise: two lines are read in three."""


def add_parts(film: Film, job: Job, config: Config, norm: tuple[float, float], stop: Stop) -> None:
    """Put intro, title, talk, credits and outro into a film; `norm` is the loudness in LUFS and the peak in dBTP."""
    title, credits_ = (dict(config.options.get(key, {})) for key in ("title", "credits"))
    font = str(config.options.get("font", ""))
    _add_file(film, "intro", config, norm, stop)
    film.add_card("title", title_blocks(job, config), float(title.get("seconds", CARD_SECONDS)), title, font)
    film.add_talk(*norm)
    film.add_card("credits", credits_blocks(job, config), float(credits_.get("seconds", CARD_SECONDS)), credits_, font)
    _add_file(film, "outro", config, norm, stop)


def _add_file(film: Film, name: str, config: Config, norm: tuple[float, float], stop: Stop) -> None:
    if path := config.options.get(name):
        seconds, loudness = measure_file(str(path), film.folder, *norm, stop)
        film.add_file(name, str(path), loudness, seconds, norm)


def title_blocks(job: Job, config: Config) -> list[Block]:
    """What stands on the title card; sizes are parts of the picture's height."""
    event, place = _event(config), _place(job, config)
    return [
        Block(event, 0.05, 1),
        Block(job.title, 0.11, 4),
        Block(", ".join(job.presenters), 0.065, 3),
        Block(place, 0.04, 1),
    ]


def credits_blocks(job: Job, config: Config) -> list[Block]:
    """What stands on the credits card: the job's text, else the instance's."""
    text = job.credits if job.credits is not None else str(config.options.get("credits", {}).get("text", ""))
    return [Block(_event(config), 0.08, 2), Block(text, 0.055, 10), Block(_place(job, config), 0.04, 1)]


def tags(job: Job, config: Config) -> dict[str, str]:
    """The metadata of the products."""
    return {
        "title": job.title,
        "artist": ", ".join(job.presenters),
        "album": _event(config),
        "date": _date(job, config),
        "description": job.description,
        "comment": _room(config),
    }


def _event(config: Config) -> str:
    event: dict[str, Any] = config.context().get("event") or {}
    return str(event.get("title") or config.event)


def _room(config: Config) -> str:
    room: dict[str, Any] = config.context().get("room") or {}
    return str(room.get("title") or config.room or "")


def _place(job: Job, config: Config) -> str:
    return " · ".join(text for text in (_room(config), _date(job, config)) if text)


def _date(job: Job, config: Config) -> str:
    """The talk's day where the event is."""
    event: dict[str, Any] = config.context().get("event") or {}
    try:
        zone = ZoneInfo(str(event.get("timezone") or "UTC"))
    except (ZoneInfoNotFoundError, ValueError):
        # A station without the zone's data: a talk near midnight may get the other day's date.
        return f"{datetime.fromtimestamp(job.start).astimezone():%Y-%m-%d}"
    return f"{datetime.fromtimestamp(job.start, zone):%Y-%m-%d}"
