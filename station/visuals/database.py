"""SQLite files of an instance: one writer, and a broken file never keeps the instance from starting."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

from station import files

log = logging.getLogger(__name__)


def connect(path: Path, schema: str, *, durable: bool) -> sqlite3.Connection:
    """Open a database, made where it is missing; it may be used in any thread, by one at a time.

    A file that cannot be read is set aside under a name that ends in `.broken-<time>`.

    Args:
        path: of the file.
        schema: statements that may be repeated.
        durable: whether what is committed survives a power cut (an fsync each); else only the file's soundness does.

    Raises:
        sqlite3.Error: even a new file cannot be made.
    """
    try:
        return _open(path, schema, durable)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) or not path.exists():
            raise
        aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
        log.error("%s cannot be read (%s): it is set aside as %s", path, error, aside.name)
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open(path, schema, durable)


def _open(path: Path, schema: str, durable: bool) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # sqlite.org/pragma.html: with WAL only FULL syncs at each commit
        database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        database.executescript(schema)
        files.sync_folder(path.parent)
    except BaseException:
        database.close()
        raise
    return database
