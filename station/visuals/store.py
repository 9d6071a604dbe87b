"""What an instance knows after a restart: the last value of each topic, and how far it had read the log.

It follows the log: after a crash it may be some entries behind, which are then read once more.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from station.visuals import database
from station.visuals.bus import Entry
from station.visuals.message import Message
from station.visuals.writer import Position, Writer

log = logging.getLogger(__name__)
SEEN = 50_000
"""Message-ids that are kept, so that a log that is read once more delivers none twice."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS value (topic TEXT PRIMARY KEY, body BLOB NOT NULL, headers TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (n INTEGER PRIMARY KEY, topic TEXT NOT NULL, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY, offset INTEGER NOT NULL, id TEXT NOT NULL, at REAL NOT NULL);
"""

Rows = tuple[dict[str, Message], deque[tuple[str, str]]]
"""Values by topic, and (topic, message-id) of what was seen."""


@dataclass(frozen=True, slots=True)
class State:
    """What was stored: last values, (topic, message-id) oldest first, and the last entry.

    Of that offset, mark (`last_id`), and seconds since 1970 at which it was delivered.
    """

    offset: int | None = None
    last_id: str | None = None
    values: list[Message] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    at: float = 0.0


class Store:
    """Last values and the position in the log, in a file that a thread of its own writes."""

    def __init__(self, folder: Path) -> None:
        """Open `last.sqlite` in a folder that exists. Raises sqlite3.Error."""
        self._database = database.connect(folder / "last.sqlite", SCHEMA, durable=False)
        self._values: dict[str, Message] = {}
        self._seen: deque[tuple[str, str]] = deque(maxlen=SEEN)
        self._topics: set[str] = {topic for (topic,) in self._database.execute("SELECT topic FROM value")}
        self._writer = Writer(
            "store",
            self._take,
            lambda rows, position: self._commit(*rows, position),
            self._back,
            lambda error: log.error("cannot store the last values: %s", error),
        )

    def load(self) -> State:
        """Return what the instance before us stored; call it before the first `note`."""
        position = self._database.execute("SELECT offset, id, at FROM position").fetchone() or (None, None, 0.0)
        values = [
            Message(topic, bytes(body), json.loads(headers))
            for topic, body, headers in self._database.execute("SELECT topic, body, headers FROM value")
        ]
        seen = self._database.execute("SELECT topic, id FROM seen ORDER BY n").fetchall()
        return State(position[0], position[1], values, seen, position[2])

    def note(self, entry: Entry) -> None:
        """Remember an entry that was delivered; it is on the disk some tenths of a second later."""
        message = entry.message
        with self._writer.lock:
            if not entry.refresh or message.topic not in self._topics:
                self._values[message.topic] = message
                self._topics.add(message.topic)
            if not entry.refresh:
                self._seen.append((message.topic, message.id))
            self._writer.noted((entry.offset, entry.mark or message.id, time.time()))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
        self._database.close()

    def _take(self) -> Rows:
        values, self._values = self._values, {}
        seen, self._seen = self._seen, deque(maxlen=SEEN)
        return values, seen

    def _back(self, rows: Rows) -> None:
        values, seen = rows
        self._values = values | self._values
        self._seen = deque([*seen, *self._seen], maxlen=SEEN)

    def _commit(self, values: dict[str, Message], seen: deque[tuple[str, str]], position: Position) -> None:
        rows = [(message.topic, message.body, json.dumps(dict(message.headers))) for message in values.values()]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany("INSERT OR REPLACE INTO value VALUES (?, ?, ?)", rows)
            self._database.executemany("INSERT INTO seen (topic, id) VALUES (?, ?)", seen)
            self._database.execute("DELETE FROM seen WHERE n <= (SELECT max(n) FROM seen) - ?", (SEEN,))
            self._database.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?, ?)", position)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
