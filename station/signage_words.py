"""The words of a sign: one line of text for radios, and text cut where a reader would cut it."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from station.signage_view import View

LONGEST = 128
"""Characters of a text message: radios cut what is longer (ETSI TS 101 499)."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
ELLIPSIS = "…"
DASH = " \u2013 "
MARKS = 4
"""Combining marks of one character that are kept: real writing has three, and a heap of them leaves its line."""
KEPT = ("\u200c", "\u200d", "\u00ad")
"""Joiners and the soft hyphen: not printable, and part of words."""


def clean(text: str) -> str:
    """Return text as one line: no control characters, no runs of spaces, no heaps of combining marks."""
    found: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MARKS:
            found.append(character if character.isprintable() or character in KEPT else " ")
    return " ".join("".join(found).split())


def cut(text: str, longest: int) -> str:
    """Return text of at most so many characters, cut at a word and ended with an ellipsis."""
    if len(text) <= longest:
        return text
    if longest < 2:
        return ELLIPSIS[:longest]
    kept = text[: longest - 1]
    if not text[longest - 1].isspace():
        head, space, _ = kept.rpartition(" ")
        if space and len(head) * 2 >= len(kept):
            kept = head
        else:
            # within a word: a mark stays with its letter
            end = len(kept)
            while end > 1 and (unicodedata.combining(text[end]) or text[end] in KEPT or text[end - 1] in KEPT):
                end -= 1
            kept = kept[:end]
    return kept.rstrip(" ,;:.-\u2013") + ELLIPSIS


def date_text(moment: datetime) -> str:
    """Say a date: `1 March`."""
    return f"{moment.day} {MONTHS[moment.month - 1]}"


def line(view: View) -> str:
    """Return the text message of a view, at most LONGEST characters.

    Names of presenters are in it where they fit; where titles do not, the one of the talk that is on keeps more.
    """
    if view.state == "now":
        begin, middle = "Now: ", f"{DASH}until {view.until}"
        after = f" | Next {view.next_at}: " if view.next_title else ""
        return _two(begin, _with(view.title, view.people), view.title, middle + after, view.next_title)
    if view.state == "none":
        return cut(DASH.join(filter(None, (view.room, view.event))), LONGEST)
    if not view.next_title:
        return cut("Thank you for coming" + (f" to {view.event}" if view.event else ""), LONGEST)
    if view.state == "break":
        begin = f"Next {view.next_at}: "
    elif view.state == "before":
        begin = f"First talk {'' if ' ' in view.next_at else 'at '}{view.next_at}: "
    else:
        begin = f"Thank you. Next {view.next_at}: "
    return _two(begin, _with(view.next_title, view.next_people), view.next_title, "", "")


def _with(title: str, people: str) -> str:
    return f"{title} ({people})" if people else title


def _two(begin: str, whole: str, title: str, middle: str, other: str) -> str:
    """Put two titles between fixed words: `whole`, with presenters, if all of it fits."""
    room = LONGEST - len(begin) - len(middle)
    if len(whole) + len(other) <= room:
        return f"{begin}{whole}{middle}{other}"
    if len(title) + len(other) > room:
        second = min(len(other), max(room - len(title), room * 2 // 5))
        other = cut(other, second)
        title = cut(title, room - len(other))
    return f"{begin}{title}{middle}{other}"
