"""What a function of the rulebook returns."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Rows(NamedTuple):
    """What a function returned: columns, each a name and the OID of its type, and rows, which may have more values.

    All values are text as PostgreSQL writes it, in UTC. `goes_on`: this is a page, and the next one begins after the
    row with this id.
    """

    columns: tuple[tuple[str, int], ...]
    values: Sequence[tuple[Any, ...]]
    goes_on: str | None = None

    def first(self, number: int) -> "Rows":
        """The same rows, of which so many columns are shown."""
        return self._replace(columns=self.columns[:number])

    def page(self) -> "Rows":
        """The rows as a page, of columns that begin with the id and end with `more`: whether there is another page.

        Where a page ends before it is full, its last row is none: it has nothing but the id at which it ended.
        """
        last = self.values[-1] if self.values else (None, None)
        is_marker = last[0] is not None and last[1:-1].count(None) == len(last) - 2
        values = self.values[:-1] if is_marker else self.values
        return Rows(self.columns[:-1], values, last[0] if last[-1] else None)
