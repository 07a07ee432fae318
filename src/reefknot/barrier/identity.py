"""What the sync and the async barrier have in common: which operation they are asked about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from reefknot.barrier.core import Branch, Reason, asking_failed, checked_table
from reefknot.barrier.statements import DEFAULT_TABLES, Database
from reefknot.model import Op


class BranchCall:
    """One call of one branch operation.

    Args:
        trans_type: the transaction's mode on the wire: saga, tcc, msg, xa or workflow.
        gid: the transaction.
        branch_id: the branch, for example ``01``.
        op: the operation, for example ``action``.
        table: the barrier's table; if empty, ``dtm_barrier.barrier``, and ``barrier`` on SQLite.

    Raises:
        Invalid: one of them is missing, longer than its column or has a character that some client of
            DTM deletes; or the table's name cannot stand in a statement.
    """

    def __init__(self, trans_type: str, gid: str, branch_id: str, op: str, *, table: str = "") -> None:
        self.branch: Branch = Branch.checked(trans_type, gid, branch_id, op)
        #: What the barrier said last; None before it was asked.
        self.reason: Reason | None = None
        self._table = checked_table(table) if table else ""
        self._calls = 0

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, table: str = "") -> Self:
        """The barrier of a call over HTTP.

        Args:
            query: the query parameters that the server appends to a branch's URL: ``trans_type``, ``gid``,
                ``branch_id`` and ``op``. Any mapping of a web framework will do.
            table: as for the class.

        Raises:
            Invalid: one is missing or unfit.
        """
        return cls._of(Branch.from_query(query), table)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | Iterable[tuple[str, Any]], *, table: str = "") -> Self:
        """The barrier of a call over gRPC.

        Args:
            metadata: ``context.invocation_metadata()``, which has ``dtm-gid`` and the others.
            table: as for the class.

        Raises:
            Invalid: one is missing or unfit.
        """
        return cls._of(Branch.from_metadata(metadata), table)

    @classmethod
    def _of(cls, branch: Branch, table: str) -> Self:
        return cls(branch.trans_type, branch.gid, branch.branch_id, branch.op, table=table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.branch}: {self.reason or 'not asked yet'}>"

    def _table_of(self, database: Database) -> str:
        return self._table or DEFAULT_TABLES[database]

    def _note(self, reason: Reason) -> None:
        """Note an answer to the server's question, which is no call of the operation."""
        self.reason = reason

    def _said(self, reason: Reason) -> bool:
        """Note an answer; whether the operation runs."""
        self._calls += 1
        self.reason = reason
        return reason is Reason.RUN

    def _refuse_late_message(self) -> None:
        """Refuse a message whose local work was declared dead by the server's question: it must not be sent.

        Raises:
            Failure: it was.
        """
        if self.branch.op == Op.MSG and self.reason is Reason.TOO_LATE:
            raise asking_failed(self.branch)
