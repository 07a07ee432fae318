"""What the engine may ask of the outside world. Plain data, no behaviour."""

from __future__ import annotations

from enum import Enum

import msgspec

from reefknot.model import BranchOp, Status, direct_members


class Call(msgspec.Struct, frozen=True):
    """Call a branch; its answer comes back through ``Mode.answered``.

    ``index`` is the operation's position in the snapshot, -1 for a call whose result is not kept
    as an operation (a query-back, a workflow's wake-up).
    """

    op: BranchOp
    index: int = -1
    post: bool = False


class Settle(msgspec.Struct, frozen=True):
    """Record the final status of an operation."""

    index: int
    status: Status
    error: str = ""


class Move(msgspec.Struct, frozen=True):
    """Move the transaction to another status, if it is still where we saw it."""

    to: Status
    reason: str = ""


@direct_members
class Backoff(Enum):
    """How a retry changes the interval."""

    RESET = "reset"  #: back to the configured interval
    KEEP = "keep"  #: the participant asked for time: same interval again
    GROW = "grow"  #: trouble: twice the interval, up to the cap
    SOON = "soon"  #: the client limited the retries: call again in this same drive


class Retry(msgspec.Struct, frozen=True):
    """Come back later; not before ``not_before_ms`` if that is set (it then replaces the interval)."""

    backoff: Backoff
    not_before_ms: int = 0


class Park(msgspec.Struct, frozen=True):
    """Stop and wait for an operator: going on would be a guess."""

    reason: str


Command = Call | Settle | Move | Retry | Park
