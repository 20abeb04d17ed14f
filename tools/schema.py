"""db/schema.sql: the schema `ledger` as all migrations leave it.

The text is the output of the wheel's pg_dump, without the lines that do not describe the schema.
"""

import re
import subprocess

from wallet_api.database import embedded

HEADER = """-- The tables, constraints, triggers and indexes of the ledger, as all migrations leave them.
-- `make generate` writes this file; do not edit it. To change a table, add a file to db/migrations/.

"""
# The settings of a restore, the banners of objects, and pg_dump's own remarks.
_NOISE = re.compile(
    r"^(?:SET .*;|SELECT pg_catalog\.set_config.*;|\\(?:un)?restrict .*|--.*|ALTER .* OWNER TO .*;)$", re.MULTILINE
)


def schema(conninfo: str) -> str:
    """The text of db/schema.sql, from a migrated database of the wheel's PostgreSQL."""
    dump = [str(embedded.wheel_programs() / "pg_dump"), "--schema-only", "--schema=ledger", conninfo]
    text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    return HEADER + re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", text)).strip() + "\n"
