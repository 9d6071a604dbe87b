"""The database: SQLite in the data folder, or PostgreSQL by its address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30
"""Seconds that SQLite waits for another process to end its write; ours take milliseconds."""


class Database:
    """Sessions on the manager's database.

    Args:
        url: SQLAlchemy's address, `sqlite:///FILE` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        address = sqlalchemy.make_url(url)
        if address.get_backend_name() == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        self.url = address
        self.is_sqlite = address.get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"timeout": BUSY_SECONDS} if self.is_sqlite else {}
        self.engine = sqlalchemy.create_engine(address, connect_args=arguments, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            _use_wal(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session for looking things up; nothing is kept of what is done with it."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session whose work is committed at its end, durably, or undone by an exception.

        On SQLite the transaction takes the write lock at once: a transaction that begins by
        reading could not be upgraded later while another process writes.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            if self.is_sqlite:
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to a revision, from any older one or from nothing."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["engine"] = self.engine
        command.upgrade(config, revision)

    def insert(self, table: type) -> Any:
        """Return an INSERT of the database's own dialect, which has `on_conflict_do_nothing`."""
        from sqlalchemy.dialects import postgresql, sqlite

        maker: Callable[[Any], Any] = sqlite.insert if self.is_sqlite else postgresql.insert
        return maker(table)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _use_wal(engine: sqlalchemy.Engine) -> None:
    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # sqlite3's own idea of when a transaction begins would come in the way of ours
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
