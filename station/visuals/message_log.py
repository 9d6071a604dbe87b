"""The message log: every message that was on the bus, on this disk, for as long as it is kept.

What the disk refuses stays in memory as far as there is room, and is lost before anything else has to stop.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from station.visuals import database
from station.visuals.bus import Entry
from station.visuals.writer import Position, Writer

log = logging.getLogger(__name__)
FILE = "messages.sqlite"
WAITING = 20_000
"""Messages in memory that the disk did not take yet; older ones are lost."""
IN_MEMORY = 16 << 20
"""Bytes of a log that no disk takes."""
SIZE = 256 << 20
"""Bytes of the log, some 500,000 messages; beyond it the oldest go before their age."""
Rows = deque[tuple[Entry, float]]
"""Messages, and when each came in seconds since 1970."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    n INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    headers TEXT NOT NULL, at REAL NOT NULL, taken INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, id));
CREATE INDEX IF NOT EXISTS message_at ON message (at);
CREATE INDEX IF NOT EXISTS message_waiting ON message (n) WHERE taken = 0;
CREATE TABLE IF NOT EXISTS last (topic TEXT PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER NOT NULL, mark TEXT NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Logged:
    """A message of the log. `at` is when it was published, in seconds since 1970; `number` grows."""

    number: int
    topic: str
    id: str
    body: bytes
    headers: dict[str, str]
    at: float


@dataclass(frozen=True, slots=True)
class Known:
    """What the log remembers at a start: the bus' last entry, and (topic, message-id, when) of each topic.

    Of that entry offset, mark, and when it came in seconds since 1970.
    """

    offset: int | None
    mark: str | None
    at: float
    last: list[tuple[str, str, float]]


class MessageLog:
    """The log in a folder. A thread of its own writes; everything else asks the file and takes milliseconds."""

    def __init__(self, folder: Path, *, size: int = SIZE) -> None:
        """Open it; a disk that takes no file leaves a log in memory. `size` is in bytes."""
        try:
            self._database = database.connect(folder / FILE, SCHEMA, durable=False)
        except (sqlite3.Error, OSError) as error:
            log.error("the message log cannot be opened, it is in memory until the next start: %s", error)
            self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._database.executescript(SCHEMA)
            size = min(size, IN_MEMORY)
        self._size = size
        self._file = threading.Lock()
        self._waiting: Rows = deque()
        self._writer = Writer("message-log", self._take, self._commit, self._back, _complain)
        self.lost = 0

    def known(self) -> Known:
        """Return what the one before us wrote; call it before the first `add`."""
        row = self._database.execute("SELECT offset, mark, at FROM position").fetchone()
        offset, mark, at = row or (None, None, 0.0)
        return Known(offset, mark, at, self._database.execute("SELECT topic, id, at FROM last ORDER BY at").fetchall())

    def add(self, entry: Entry, at: float) -> None:
        """Take an entry of the bus that came at `at` (seconds since 1970); never blocks, never raises."""
        with self._writer.lock:
            if not entry.refresh:
                self._waiting.append((entry, at))
                self._bound()
            self._writer.noted((entry.offset, entry.mark or entry.message.id, time.time()))

    def waiting(self, limit: int) -> list[Logged]:
        """Return the oldest messages that nobody took yet."""
        with self._file:
            rows = self._database.execute(f"{_SELECT} WHERE taken = 0 ORDER BY n LIMIT ?", (limit,)).fetchall()
        return [_logged(row) for row in rows]

    def backlog(self) -> int:
        """Return how many messages nobody took yet."""
        with self._file:
            return int(self._database.execute("SELECT count(*) FROM message WHERE taken = 0").fetchone()[0])

    def taken(self, numbers: list[int]) -> None:
        """Mark messages as taken."""
        with self._file:
            self._database.executemany("UPDATE message SET taken = 1 WHERE n = ?", [(number,) for number in numbers])

    def presume_taken(self, before: float) -> None:
        """Mark what came before a time as taken: somebody else took it."""
        with self._file:
            self._database.execute("UPDATE message SET taken = 1 WHERE taken = 0 AND at < ?", (before,))

    def clean(self, before: float) -> int:
        """Remove what is older than a time in seconds since 1970; returns how many went. Raises sqlite3.Error."""
        with self._file:
            gone = self._database.execute("DELETE FROM message WHERE at < ?", (before,)).rowcount
            # Half a year: a channel that was off the air over the summer is no new one.
            self._database.execute("DELETE FROM last WHERE at < ?", (before - 180 * 86400,))
            self._shrink()
        return max(gone, 0)

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
        self._database.close()

    @property
    def failing(self) -> bool:
        """Whether the disk took nothing at the last attempt."""
        return self._writer.failing

    def _take(self) -> Rows:
        rows, self._waiting = self._waiting, deque()
        return rows

    def _back(self, rows: Rows) -> None:
        self._waiting = rows + self._waiting
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > WAITING:
            self._waiting.popleft()
            self.lost += 1

    def _commit(self, rows: Rows, position: Position) -> None:
        messages = [
            (entry.message.topic, entry.message.id, entry.message.body, json.dumps(dict(entry.message.headers)), at)
            for entry, at in rows
        ]
        with self._file:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR IGNORE INTO message (topic, id, body, headers, at) VALUES (?, ?, ?, ?, ?)", messages
                )
                self._database.executemany(
                    "INSERT OR REPLACE INTO last VALUES (?, ?, ?)", [(row[0], row[1], row[4]) for row in messages]
                )
                self._database.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?, ?)", position)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            self._shrink()

    def _shrink(self) -> None:
        """Remove the oldest messages, a tenth at a time, until the rest fits."""
        while self._used() > self._size:
            span = self._database.execute("SELECT min(n), max(n) FROM message").fetchone()
            if span[0] is None:
                return
            self._database.execute("DELETE FROM message WHERE n <= ?", (span[0] + (span[1] - span[0]) // 10,))

    def _used(self) -> int:
        pages, free, page = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page


_SELECT = "SELECT n, topic, id, body, headers, at FROM message"


def _logged(row: tuple[int, str, str, bytes, str, float]) -> Logged:
    number, topic, name, body, headers, at = row
    return Logged(number, topic, name, bytes(body), json.loads(headers), at)


def newest(folder: Path, topic: str = "") -> Iterator[Logged]:
    """Yield the messages of a log, also of one that runs, the newest first.

    Args:
        folder: data folder of the instance.
        topic: only those whose topic begins so.

    Raises:
        sqlite3.Error: there is no log.
    """
    connection = sqlite3.connect(f"{(folder / FILE).absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        where = "WHERE substr(topic, 1, ?) = ? ORDER BY at DESC, n DESC"
        for row in connection.execute(f"{_SELECT} {where}", (len(topic), topic)):
            yield _logged(row)
    finally:
        connection.close()


def line(entry: Logged) -> str:
    """Return a message as one line: when (UTC), topic, message-id and body."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.at))
    body = entry.body.decode("utf-8", "replace")
    return f"{at}Z {entry.topic} {entry.id} {json.dumps(body, ensure_ascii=False)[1:-1]}"


def _complain(error: sqlite3.Error) -> None:
    log.error("the message log cannot be written: %s; it is tried again", error)
