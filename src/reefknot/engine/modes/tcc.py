"""TCC: the client tries, we confirm or cancel, newest branch first."""

from __future__ import annotations

from reefknot.engine.mode import TwoPhase
from reefknot.model import BranchOp, BranchRequest, Op


class Tcc(TwoPhase):
    """Try, confirm, cancel."""

    name = "tcc"
    commit, rollback = Op.CONFIRM, Op.CANCEL
    newest_first = True

    def register(self, request: BranchRequest) -> tuple[BranchOp, ...]:
        """A cancel and a confirm, with the URLs the client gives for them."""
        return tuple(
            BranchOp(request.branch_id, op, request.fields.get(op, ""), request.payload)
            for op in (self.rollback, self.commit)
        )


mode = Tcc()
