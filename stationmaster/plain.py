"""Text from elsewhere for a terminal: what a station says must not move the cursor or retitle the window."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def plain(value: object) -> str:
    """Return a text as one line of printable characters; all others are told as their escape.

    Control characters, line ends, and marks that turn the direction of writing are such others.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` characters, with an ellipsis where it was cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Return lines of a table whose cells are made plain.

    Args:
        head: titles of the columns.
        rows: of as many cells; None is an empty one.
        width: characters of a line; None for as many as it takes.
    """
    cells = [list(head), *([plain("" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(head))]
    lines = [GAP.join(cell.ljust(widths[place]) for place, cell in enumerate(line)).rstrip() for line in cells]
    return [shorten(line, width) if width else line for line in lines]
