# Written by scripts/twins.py from src/reefknot/xa/_async/branch.py: change that file, then `make twins`.
"""One call of an XA branch, as it reaches a participant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

from reefknot.barrier.core import Branch, checked_table
from reefknot.client import Client
from reefknot.client.values import BranchMessage
from reefknot.errors import Invalid
from reefknot.model import Op
from reefknot.xa import core
from reefknot.xa._sync.session import Connect, Session

Result = TypeVar("Result")


class XaBranch:
    """A participant's part of an xa transaction: one URL that serves its action, its commit and its rollback.

        @app.post("/out")
        def out(request: Request) -> None:
            branch = XaBranch.from_query(request.query_params, client)
            branch.call(connect, lambda connection: connection.execute("UPDATE …"))

    Args:
        branch: the operation that is called.
        phase2_url: where the server calls the commit or the rollback; needed by the action only.
        client: speaks to the server that leads the transaction.
        table: the barrier's table; ``dtm_barrier.barrier`` if empty.

    Raises:
        Invalid: the table's name cannot stand in a statement.
    """

    def __init__(self, branch: Branch, phase2_url: str, client: Client, *, table: str = "") -> None:
        self.branch = branch
        self._phase2_url = phase2_url
        self._client = client
        self._table = checked_table(table) if table else ""

    @classmethod
    def from_query(cls, query: Mapping[str, str], client: Client, *, table: str = "") -> Self:
        """The branch of a call over HTTP.

        Args:
            query: the query parameters of the call. Its ``dtm`` is not used: whoever can call the branch
                must not choose whom it reports to.
            client: as for the class.
            table: as for the class.

        Raises:
            Invalid: a parameter is missing or unfit.
        """
        return cls(Branch.from_query(query), query.get("phase2_url", ""), client, table=table)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any] | Iterable[tuple[str, Any]], client: Client, *, table: str = ""
    ) -> Self:
        """The branch of a call over gRPC.

        Args:
            metadata: ``context.invocation_metadata()``.
            client: as for the class.
            table: as for the class.

        Raises:
            Invalid: a key is missing or unfit.
        """
        pairs = dict(metadata)
        return cls(Branch.from_metadata(pairs), str(pairs.get("dtm-phase2_url", "")), client, table=table)

    def call(self, connect: Connect, work: Callable[[Any], Result]) -> Result | None:
        """Serve the call: do the work and prepare it, or commit it, or roll it back.

        Whatever this raises, let it become an answer other than success: 409 for ``Failure``, 425 for
        ``Ongoing``, 500 for the rest. The server calls a commit or a rollback until it succeeds.

        Args:
            connect: opens a connection that nobody else uses; it is closed here. Not one from a pool:
                MariaDB lets go of what is prepared only when its session ends.
            work: is called with the connection, for the action only and once. It must neither commit nor
                roll back.

        Returns:
            What ``work`` returned; None if it was not called.

        Raises:
            Failure: the action comes too late: the transaction is rolled back.
            Ongoing: an earlier call of the branch is still at work.
            InDoubt: what is to be committed is not there.
            BarrierMissing: the barrier's table does not exist.
            NoLocalTransaction: the work ended the branch's transaction.
            Refused, OutcomeUnknown, ServerUnavailable: the branch could not be registered; nothing is prepared.
            Invalid: the operation is none of an xa branch, its id is too long, or it has no phase-2 URL; or the
                work returned what has to be awaited first. Then it is rolled back.
        """
        session = Session(connect, self.branch, self._table)
        match self.branch.op:
            case Op.ACTION:
                if not self._phase2_url:
                    raise Invalid("phase2_url", "is missing in the call", "the client of the transaction sends it")
                done: Result | None = session.run(core.action, work, self._register)
                return done
            case Op.COMMIT:
                return session.run(core.commit)  # type: ignore[no-any-return] # the steps of phase 2 return None
            case Op.ROLLBACK:
                return session.run(core.rollback)  # type: ignore[no-any-return] # as above
        raise Invalid("op", f"is {self.branch.op!r}", "an xa branch has action, commit and rollback")

    def _register(self) -> None:
        branch = self.branch
        fields = {"url": self._phase2_url}
        self._client.server.register(BranchMessage(branch.gid, branch.trans_type, branch.branch_id, b"", fields))
