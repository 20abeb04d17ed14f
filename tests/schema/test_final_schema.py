"""db/schema.sql shows what the migrations make."""

from tests.schema.final_schema import final_schema
from tests.support import PROJECT


def test_schema_sql_is_what_the_migrations_make() -> None:
    assert (PROJECT / "db/schema.sql").read_text() == final_schema(), "run: make schema"
