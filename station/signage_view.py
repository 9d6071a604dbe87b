"""What is seen on a room's screen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """What is seen: `state` is none, before, now, break or after; an empty text is not shown.

    `title`, `subtitle` and `people` are of the talk that is on, with `until`; those that begin with `next` of the
    one that follows. `link` is for the whole picture.
    """

    state: str
    room: str
    event: str
    title: str = ""
    subtitle: str = ""
    people: str = ""
    until: str = ""
    next_at: str = ""
    next_title: str = ""
    next_people: str = ""
    link: str = ""
