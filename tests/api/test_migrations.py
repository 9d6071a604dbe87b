"""The database of any earlier version becomes this one's, with what is in it; and the models are what it then is."""

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from api.database import MIGRATIONS, Database
from api.settings import Settings
from api.tables import Base
from tests.api.conftest import Api

REVISIONS = [one.revision for one in reversed(list(ScriptDirectory(MIGRATIONS).walk_revisions()))]
SAMPLES = {
    sqlalchemy.JSON: {"a": ["ä", 1]}, sqlalchemy.Boolean: True, sqlalchemy.Integer: 1, sqlalchemy.Float: 1.5,
    sqlalchemy.String: "x",
}  # fmt: skip
"""A value for each type of column; texts that are all the same, so that they also refer to one another."""


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/manager.db")
    yield made
    made.close()


def fill(database) -> dict[str, dict]:
    """Put one row into each table as it is now; return them."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(database.engine)
    metadata.remove(metadata.tables["alembic_version"])
    rows = {}
    with database.engine.begin() as connection:
        for table in metadata.sorted_tables:
            rows[table.name] = {column.name: sample(column.type) for column in table.columns}
            connection.execute(table.insert(), rows[table.name])
    return rows


def sample(kind):
    return next(value for known, value in SAMPLES.items() if isinstance(kind, known))


def rows_of(database) -> dict[str, dict]:
    found = {}
    with database.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(table.select()):
                found[table.name] = dict(row._mapping)
    return found


def test_the_revisions_are_one_line():
    assert len(ScriptDirectory(MIGRATIONS).get_heads()) == 1
    assert REVISIONS[0] == "0001"


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_is_upgraded_with_its_rows(database, revision):
    database.migrate(revision)
    before = fill(database)
    database.migrate()
    after = rows_of(database)
    for table, row in before.items():
        if table in after:
            kept = {name: value for name, value in row.items() if name in after[table]}
            assert kept == {name: after[table][name] for name in kept}
    database.migrate()
    assert rows_of(database) == after


def test_the_models_are_what_the_migrations_make(database):
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_an_older_database_is_upgraded_at_the_managers_start(tmp_path):
    (tmp_path / "data").mkdir()
    old = Database(f"sqlite:///{tmp_path}/data/manager.db")
    old.migrate(REVISIONS[0])
    filled = set(fill(old))
    old.close()
    made = Api(Settings(data=tmp_path / "data"))
    assert set(rows_of(made.manager.database)) == filled
    assert set(sqlalchemy.inspect(made.manager.database.engine).get_table_names()) >= set(Base.metadata.tables)
    made.manager.database.close()
