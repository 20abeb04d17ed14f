"""The rows that a function of the rulebook returns."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Rows(NamedTuple):
    """A function's result: `columns`, each a name and a type OID, and `values`, whose rows may be longer than that.

    Values are text as PostgreSQL writes it, in UTC. If this is a page with a next page, `goes_on` is the id after which
    that one begins.
    """

    columns: tuple[tuple[str, int], ...]
    values: Sequence[tuple[Any, ...]]
    goes_on: str | None = None

    def first(self, number: int) -> "Rows":
        """The same rows, showing only the first `number` columns."""
        return self._replace(columns=self.columns[:number])

    def page(self) -> "Rows":
        """The rows as a page. The first column is the id, the last is `more`: whether there is another page.

        If a page ends before it is full, its last row is a marker: all null but the id at which the page ended.
        """
        last = self.values[-1] if self.values else (None, None)
        is_marker = last[0] is not None and last[1:-1].count(None) == len(last) - 2
        values = self.values[:-1] if is_marker else self.values
        return Rows(self.columns[:-1], values, last[0] if last[-1] else None)
