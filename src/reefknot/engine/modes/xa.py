"""XA: the client prepares each resource, we commit or roll back, oldest branch first."""

from __future__ import annotations

from reefknot.engine.mode import TwoPhase
from reefknot.model import BranchOp, BranchRequest, Op


class Xa(TwoPhase):
    """Two-phase commit over databases; phase two is always a POST."""

    name = "xa"
    commit, rollback = Op.COMMIT, Op.ROLLBACK
    post = True

    def register(self, request: BranchRequest) -> tuple[BranchOp, ...]:
        """A rollback and a commit, both at the branch's phase-two URL."""
        url = request.fields.get("url", "")
        return tuple(BranchOp(request.branch_id, op, url, request.payload) for op in (self.rollback, self.commit))


mode = Xa()
