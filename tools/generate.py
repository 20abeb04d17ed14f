"""Writes all generated files. Tests fail if one is out of date.

db/schema.sql                      the tables, from a migrated database
wallet_api/http/functions.json     the functions, from the catalogue of that database
wallet_api/http/openapi.json       the OpenAPI document, from functions.json, operations.toml and db/functions/
wallet_api/http/docs.html          the same as a page
docs/errors.md                     the refusals, from refusals.toml and db/functions/_refuse.sql
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tools import catalog, schema
from wallet_api.database import embedded, migrations
from wallet_api.settings import PROJECT

# Yields the path and the text of each file.
Make = Callable[[], Iterator[tuple[str, str]]]


def from_database() -> Iterator[tuple[str, str]]:
    """The path and the text of each file that is made from a database."""
    with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder) / "data") as conninfo:
        migrations.migrate(conninfo)
        yield "db/schema.sql", schema.schema(conninfo)
        yield "wallet_api/http/functions.json", catalog.written(catalog.functions(conninfo))


def from_files() -> Iterator[tuple[str, str]]:
    """The path and the text of each file that is made from others."""
    # Imported here, because the table of operations reads functions.json.
    from tools import errors, openapi, page

    document = openapi.document()
    yield "wallet_api/http/openapi.json", openapi.written(document)
    yield "wallet_api/http/docs.html", page.written(document)
    yield "docs/errors.md", errors.document()


if __name__ == "__main__":
    for make in (from_database, from_files):
        for path, text in make():
            (PROJECT / path).write_text(text)
