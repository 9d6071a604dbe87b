"""Work that takes longer than others may wait, done in a thread that holds up no end of the process.

asyncio's own threads are waited for when a program ends: a picture of 80 million pixels that somebody wants as PNG
keeps one busy for a minute [measured], and the program would be there as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


async def aside(work: Callable[..., Value], *arguments: object) -> Value:
    """Return what `work` returns, or raise what it raises; cancelled, it goes on for nobody until it is done."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Value] = loop.create_future()

    def tell(value: Value | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type] # None only where that is what `work` returns

    def do() -> None:
        value, error = None, None
        try:
            value = work(*arguments)
        except BaseException as raised:  # told to who waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=do, name=getattr(work, "__name__", "work"), daemon=True).start()
    return await done
