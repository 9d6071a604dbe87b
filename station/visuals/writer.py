"""A thread that writes to a database what came meanwhile, and the place in the log up to which it is whole."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

FLUSH = 0.1
"""Seconds for which what follows is gathered: one commit for many."""
RETRY = 2.0
"""Seconds until what could not be written is tried again."""
Position = tuple[int, str, float]
"""Of the last entry: offset, mark, and when it came in seconds since 1970."""
Rows = TypeVar("Rows")


class Writer(Generic[Rows]):
    """Begins with the first entry; what cannot be written is given back, and tried again for ever.

    Args:
        name: of the thread.
        take: returns what waits, and forgets it; called with `lock` held.
        commit: writes it in one transaction. Raises sqlite3.Error.
        back: takes what could not be written, before what came since; called with `lock` held.
        complain: called once when writing begins to fail.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[], Rows],
        commit: Callable[[Rows, Position], None],
        back: Callable[[Rows], None],
        complain: Callable[[sqlite3.Error], None],
    ) -> None:
        self.lock = threading.Condition()
        """Guards what waits."""
        self.failing = False
        """Whether the last attempt failed."""
        self._take, self._commit, self._back, self._complain = take, commit, back, complain
        self._position: Position | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)

    def noted(self, position: Position) -> None:
        """Have all that waits written up to a position; called with `lock` held."""
        self._position = position
        if self._thread.ident is None:
            self._thread.start()
        self.lock.notify()

    def close(self) -> None:
        """Write what is left, and end."""
        with self.lock:
            self._closing = True
            self.lock.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self) -> None:
        while True:
            with self.lock:
                while self._position is None and not self._closing:
                    self.lock.wait()
                if self._position is None:
                    return
                # Gathers what follows; the end of the program cuts it short.
                self.lock.wait_for(lambda: self._closing, FLUSH)
                rows = self._take()
                position, self._position = self._position, None
            try:
                self._commit(rows, position)
                self.failing = False
            except sqlite3.Error as error:
                if not self.failing:
                    self._complain(error)
                self.failing = True
                with self.lock:
                    self._back(rows)
                    self._position = self._position or position
                    if self._closing:
                        return
                    self.lock.wait_for(lambda: self._closing, RETRY)
