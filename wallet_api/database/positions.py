"""How far the servers have the ledger, as numbers: wallet.ledger_position()."""

from collections import deque
from time import perf_counter

# Seconds for which no standby answers after one was found to lag, or not to answer.
_REST = 3.0


class Positions:
    """The positions that this process knows.

    `lag` is how many seconds the standbys may be behind the primary.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        # The highest position of the primary after a change that this process has made.
        self.changed = 0
        # Positions of the primary, oldest first, and when it was there or further. The first is older than `lag`, or
        # the oldest that is known.
        self._seen: deque[tuple[float, int]] = deque()
        self._rests_until = 0.0
        # The identity of the primary's database.
        self.identity = ""

    def note_change(self, position: int) -> None:
        """Notes the primary's position after a change."""
        self.changed = max(self.changed, position)

    def note(self, moment: float, position: int, identity: str) -> None:
        """Notes that the primary was at least at this position at this moment, a value of perf_counter()."""
        self.identity = identity
        self._seen.append((moment, position))
        while len(self._seen) > 1 and self._seen[1][0] <= moment - self._lag:
            self._seen.popleft()

    @property
    def least(self) -> int:
        """The position that a standby must have to answer."""
        return self._seen[0][1] if self._seen else 0

    def leave_out(self) -> None:
        """Lets no standby answer for a few seconds."""
        self._rests_until = perf_counter() + _REST

    def standbys_may_answer(self) -> bool:
        """Whether the primary's position is known, and no standby was found to lag a moment ago."""
        return bool(self._seen) and perf_counter() >= self._rests_until
