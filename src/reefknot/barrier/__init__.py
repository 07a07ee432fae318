"""How a branch stays idempotent: the sub-transaction barrier.

The server repeats a call whenever it did not hear the answer, and compensates calls that may
never have arrived. A barrier row, written in the business's own local transaction, makes each
operation take effect at most once and in the right order.

The rule is in ``core``, what is done step by step in ``procedure``; neither knows a database. ``barrier``
and ``async_barrier`` drive the steps through a driver, one module in ``drivers`` for each library, which
is found by the type of the connection. ``redis`` has the same rule as a script.
"""

from reefknot.barrier.async_barrier import AsyncBarrier
from reefknot.barrier.barrier import Barrier
from reefknot.barrier.core import (
    BarrierCollision,
    Branch,
    LocalTransactionOpen,
    NoLocalTransaction,
    Reason,
    TransactionLost,
)

__all__ = [
    "AsyncBarrier",
    "Barrier",
    "BarrierCollision",
    "Branch",
    "LocalTransactionOpen",
    "NoLocalTransaction",
    "Reason",
    "TransactionLost",
]
