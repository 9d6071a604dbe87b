"""The few statements about runs that a supervisor needs, over the database's own driver.

SQLAlchemy takes half a second of a processor to import, which a run with nothing to change
would notice; the manager says the same statements through its session.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BUSY_SECONDS = 30
"""As in `api.database`, which a supervisor does not import."""


class Statements(Protocol):
    """An open transaction."""

    is_sqlite: bool

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute a statement with `:name` parameters and return its rows, if it is a SELECT."""

    def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement for each row of parameters."""


class InSession:
    """The transaction of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.is_sqlite = session.get_bind().dialect.name == "sqlite"

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute a statement."""
        from sqlalchemy import text

        done: Any = self._session.execute(text(statement), dict(parameters))
        return list(done.all()) if done.returns_rows else []

    def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement for each row."""
        for row in rows:
            self.execute(statement, row)


class _Cursor:
    def __init__(self, cursor: Any, is_sqlite: bool) -> None:
        self._cursor = cursor
        self.is_sqlite = is_sqlite

    def _own(self, statement: str) -> str:
        return statement if self.is_sqlite else re.sub(r"(?<!:):(\w+)", r"%(\1)s", statement)

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
        self._cursor.execute(self._own(statement), dict(parameters))
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._cursor.executemany(self._own(statement), [dict(row) for row in rows])


class Driver:
    """A connection of one thread's own, made when it is needed and again after an error.

    Args:
        url: SQLAlchemy's address of the database.
    """

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self._address = (
            url.removeprefix("sqlite:///") if self.is_sqlite else re.sub(r"^postgresql\+\w+:", "postgresql:", url)
        )
        self._connection: Any = None

    @contextmanager
    def transaction(self) -> Iterator[Statements]:
        """Give an open transaction, committed at the end or undone by an exception."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN")
            try:
                yield _Cursor(cursor, self.is_sqlite)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
            cursor.close()
        except BaseException:
            self.close()
            raise

    def look(self, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the rows of a SELECT, without a transaction that writes."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            return _Cursor(self._connection.cursor(), self.is_sqlite).execute(statement, parameters)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        if self.is_sqlite:
            connection = sqlite3.connect(self._address, timeout=BUSY_SECONDS, isolation_level=None)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            return connection
        import psycopg

        return psycopg.connect(self._address, autocommit=True, connect_timeout=10)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
