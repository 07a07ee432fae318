"""Business data of a participant in a test: guarded by the sub-transaction barrier, in memory.

The rule is the one that the SDKs follow with a table in the participant's database: an operation's
row, and the row of the operation it undoes, decide whether the business runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reefknot.testing.history import Effect

#: The operation that each undoing operation belongs to.
ORIGIN = {"cancel": "try", "compensate": "action", "rollback": "action"}


class Effects:
    """What operations really changed; safe to use from several threads.

    Args:
        now_ms: the clock of the effects' times, the wall clock if not given.
    """

    def __init__(self, now_ms: Callable[[], float] | None = None) -> None:
        self._now_ms = now_ms or _wall_ms
        self._lock = threading.Lock()
        self._rows: set[tuple[str, str, str]] = set()
        self._effects: list[Effect] = []

    @property
    def all(self) -> tuple[Effect, ...]:
        """Every effect so far, in order."""
        with self._lock:
            return tuple(self._effects)

    def apply(self, gid: str, branch_id: str, op: str) -> bool:
        """Run one operation behind the barrier.

        Returns:
            Whether it had an effect; False for a repetition, for an undo without its action, and
            for an action that comes after its undo.
        """
        origin = ORIGIN.get(op)
        with self._lock:
            nothing_to_undo = origin is not None and self._insert(gid, branch_id, origin)
            if not self._insert(gid, branch_id, op) or nothing_to_undo:
                return False
            self._effects.append(Effect(gid, branch_id, op, self._now_ms()))
            return True

    def _insert(self, gid: str, branch_id: str, op: str) -> bool:
        """Insert a barrier row; False if it exists."""
        row = (gid, branch_id, op)
        if row in self._rows:
            return False
        self._rows.add(row)
        return True


def _wall_ms() -> float:
    return time.time() * 1000
