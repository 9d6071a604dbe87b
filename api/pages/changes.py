"""What changed: the cards of all open pages are rendered once a second at most, and only changed ones are sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

LOOK = 1.0
"""Seconds between two renderings, however many pages are open."""
ALIVE = 10.0
"""Seconds after which a stream without changes says that it lives; static/page.js calls itself cut off at 25."""

LIFE = 300.0
"""Seconds after which a stream ends: the browser asks for it again, and only then is its session looked at again."""


class Cards:
    """Fragments of a page by their id, each with the number of its last change.

    Args:
        render: returns all fragments as they are now; called in a thread, by one at a time.
    """

    def __init__(self, render: Callable[[], dict[str, str]]) -> None:
        self._render = render
        self._lock = asyncio.Lock()
        self._number = 0
        self._cards: dict[str, tuple[int, str]] = {}
        self.due = float("-inf")
        """When they are rendered next, as `time.monotonic` tells it."""

    async def look(self) -> dict[str, tuple[int, str]]:
        """Return number and text of each fragment, rendered anew if that is a second ago."""
        async with self._lock:
            if time.monotonic() >= self.due:
                texts = await run_in_threadpool(self._render)
                self._number += 1
                self._cards = {
                    name: (known[0] if (known := self._cards.get(name)) and known[1] == text else self._number, text)
                    for name, text in texts.items()
                }
                self.due = time.monotonic() + LOOK
            return self._cards


async def stream(manager: Any, cards: Cards, only: Callable[[str], bool] = bool) -> AsyncIterator[str]:
    """Yield server-sent events: each has the fragments that changed, which take the places of those of their ids.

    Args:
        manager: at whose end the stream ends, too.
        cards: what is looked at.
        only: which fragments, by their names.
    """
    seen: dict[str, int] | None = None
    begun = silent = time.monotonic()
    yield "retry: 1000\n\n"
    while not manager.ending.is_set() and time.monotonic() - begun < LIFE:
        found = {name: card for name, card in (await cards.look()).items() if only(name)}
        if seen is not None and seen.keys() != found.keys():
            yield "event: renew\ndata: cards\n\n"  # there are others than before: the page is loaded again
            return
        changed = [text for name, (number, text) in found.items() if (seen or {}).get(name) != number]
        seen = {name: number for name, (number, _text) in found.items()}
        if changed:
            yield event("\n".join(changed))
            silent = time.monotonic()
        elif time.monotonic() - silent > ALIVE:
            yield "event: alive\ndata: yes\n\n"
            silent = time.monotonic()
        # all streams look at the same moment: one that looks just before a rendering would bring it a second later
        await asyncio.sleep(cards.due - time.monotonic())


def event(html: str, number: int | None = None) -> str:
    """Return a server-sent event that brings HTML; a number is what a browser that comes back names as its last."""
    head = f"id: {number}\n" if number is not None else ""
    return head + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"


def answer(content: AsyncIterator[str]) -> StreamingResponse:
    """Return the answer that sends events as they come, through proxies too."""
    return StreamingResponse(content, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
