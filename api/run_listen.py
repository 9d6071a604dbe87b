"""Hears of changes that other managers made to the queue they share: PostgreSQL's LISTEN."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from api.database import Database
from api.run_states import CHANNEL

log = logging.getLogger("stationmaster.runs")
PAUSE = 1.0
"""Seconds between two looks whether to stop, and before a lost connection is made anew."""


class Listener:
    """Calls a function at each notification; with SQLite it does nothing."""

    def __init__(self, database: Database, call: Callable[[], object]) -> None:
        self._database = database
        self._call = call
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listen", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        if not self._database.is_sqlite:
            self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(2 * PAUSE)

    def _listen(self) -> None:
        import psycopg

        address = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._stopping.is_set():
            try:
                with psycopg.connect(address, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._call()  # what was told before we listened
                    while not self._stopping.is_set():
                        for _notification in connection.notifies(timeout=PAUSE):
                            self._call()
                            if self._stopping.is_set():
                                return
            except psycopg.Error as error:
                log.warning("listening on the database: %s", type(error).__name__)
                self._stopping.wait(PAUSE)
