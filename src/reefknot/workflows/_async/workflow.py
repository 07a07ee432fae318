"""The handle that a workflow's function works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from reefknot.barrier.core import checked_table
from reefknot.client._async.server import AsyncServer
from reefknot.client.branches import BranchIds
from reefknot.client.environment import AsyncTime
from reefknot.client.options import TransactionOptions
from reefknot.client.values import Answer
from reefknot.errors import Invalid
from reefknot.workflows._async.branch import AsyncWorkflowBranch
from reefknot.workflows._async.journal import AsyncJournal
from reefknot.workflows._async.stubs import AsyncStubChannel
from reefknot.workflows.awaiting import async_checked
from reefknot.xa._async.session import AsyncConnect

Result = TypeVar("Result")
#: What undoes or confirms a step: a URL, or a function of the program.
AsyncFinish = str | Callable[[], Awaitable[object]]

#: How often it is looked whether the last steps have ended, when the function has.
SETTLE_SECONDS = 0.01


class AsyncWorkflow:
    """One run of a workflow: each step is done once, recorded, and given back when the function runs again.

    Steps get their numbers in the order in which they are begun: begin them in the same order in every run.

    Attributes:
        gid: its id.
        name: the workflow's name.
    """

    def __init__(
        self,
        server: AsyncServer,
        journal: AsyncJournal,
        name: str,
        options: TransactionOptions,
        *,
        undo_failed: bool | None,
    ) -> None:
        self.gid: str = journal.known.gid
        self.name = name
        self._server = server
        self._journal = journal
        self._options = options
        self._undo_failed = undo_failed
        self._time = AsyncTime()
        self._ids = BranchIds()
        self._branches: list[AsyncWorkflowBranch] = []
        self._ended = False

    def branch(self, *, table: str = "") -> AsyncWorkflowBranch:
        """A step whose parts are said one by one; its functions get a barrier.

        Args:
            table: the barrier's table; the usual one if empty.

        Raises:
            Invalid: the 99 numbers are used up, or the function has ended; or the table's name cannot stand in a
                statement.
        """
        self._journal.check()
        if self._ended:
            raise Invalid("branch", "is made after the workflow's function has ended", "begin steps in the function")
        table = checked_table(table) if table else ""
        branch = AsyncWorkflowBranch(
            self._server, self._journal, self._ids.next(), self._options, undo_failed=self._undo_failed, table=table
        )
        self._branches.append(branch)
        return branch

    async def call(
        self,
        url: str,
        data: Any = None,
        *,
        undo: AsyncFinish | None = None,
        commit: AsyncFinish | None = None,
        name: str = "",
    ) -> Answer:
        """Call a service. Its answer is recorded.

        The service must be able to be called again with the same ``branch_id`` and ``op``, which a barrier does.

        Args:
            url: ``http(s)://…``, or ``host:port/package.Service/Method`` for gRPC; whatever the server is spoken to in.
            data: the payload, also of ``undo`` and ``commit`` where they are URLs; see ``reefknot.client.payload``.
            undo: called if the workflow is rolled back, newest step first, until it succeeds.
            commit: called likewise if the workflow succeeds.
            name: what the step is called in its record; its URL without the query if there is none. With a name,
                the URL may change while workflows are under way.

        Returns:
            What the service answered. A replay gives back the same body, always with status 200 over HTTP.

        Raises:
            Failure: it refused. Catch it to go another way, or let it roll back; the step is undone then too, as in
                a saga.
            Ongoing, OutcomeUnknown, ServerUnavailable: no answer yet, or no clear one. Let it leave the function:
                the server resumes the workflow, which calls again.
            WorkflowChanged: another step was recorded in this place.
            Invalid: a URL cannot be called, or the data cannot be encoded.
        """
        return await self._with(undo, commit).call(url, data, name=name)

    def channel(self, target: str) -> AsyncStubChannel:
        """What a generated gRPC stub takes for its channel, so that each of its calls is a step.

            bank = BankStub(w.channel("bank:9000"))
            reply = await bank.Out(request)

        A step with an undo: ``BankStub(w.branch().on_rollback(…).channel("bank:9000"))``.

        Args:
            target: the gRPC server, ``host:port``.
        """
        return AsyncStubChannel(target, self.call)

    async def do(
        self,
        work: Callable[[], Awaitable[Result]],
        *,
        undo: AsyncFinish | None = None,
        commit: AsyncFinish | None = None,
        returns: type[Result] | None = None,
        name: str = "",
    ) -> Result:
        """Do something in this program, and record what it returned.

        A crash between the work and its record repeats it: what it changes must bear that. A change in a
        database is made once by the barrier of ``branch().do``, or in ``xa``.

        Args:
            work: called without arguments. ``Failure`` refuses the step; any other exception interrupts the workflow.
            undo: as for ``call``.
            commit: as for ``call``.
            returns: the type of the result, where ``work`` has no annotation that says it and it is not plain JSON.
            name: what the step is called in its record; ``work``'s name if there is none.

        Returns:
            What ``work`` returned, read back from its record.

        Raises:
            Failure: ``work`` refused.
            WorkflowChanged: another step was recorded in this place.
            Invalid: a function is of the wrong kind, ``def`` or ``async def``, and was not called. Or the result
                cannot be recorded, or would come back as something else: so in every run, and ``work`` is not
                called again.
        """
        return await self._with(undo, commit).recorded(work, described=work, returns=returns, name=name)

    async def xa(
        self,
        connect: AsyncConnect,
        work: Callable[[Any], Awaitable[Result]],
        *,
        returns: type[Result] | None = None,
        name: str = "",
        table: str = "",
    ) -> Result:
        """Work in a database that prepares it, and commits or rolls it back with the workflow.

        Args:
            connect: opens a connection that nobody else uses, also in phase 2; it is closed here.
            work: called with the connection. It must neither commit nor roll back. ``Failure`` refuses the step.
            returns: as for ``do``.
            name: as for ``do``.
            table: the barrier's table; ``dtm_barrier.barrier`` if empty.

        Returns:
            What ``work`` returned, read back from its record.

        Raises:
            Failure: ``work`` refused.
            Ongoing: an earlier run is still at work in the database.
            BarrierMissing: the barrier's table does not exist.
            WorkflowChanged, Invalid: as for ``do``; or the database cannot prepare.
        """
        return await self.branch().xa(connect, work, returns=returns, name=name, table=table)

    def end(self) -> None:
        """Let no further step begin."""
        self._ended = True

    async def settle(self) -> None:
        """Wait for steps that are still at work: nothing may be undone while it is being done."""
        while self._journal.at_work:
            await self._time.sleep(SETTLE_SECONDS)

    async def finish(self, op: str) -> None:
        """Phase 2 of every step, newest first; what an earlier run did is left out."""
        for branch in reversed(self._branches):
            await branch.finish(op)

    @property
    def has_phase_two(self) -> bool:
        """Whether anything confirms or undoes one of the steps."""
        return any(branch.has_phase_two for branch in self._branches)

    def _with(self, undo: AsyncFinish | None, commit: AsyncFinish | None) -> AsyncWorkflowBranch:
        for field, function in (("undo", undo), ("commit", commit)):
            if function is not None and not isinstance(function, str):
                async_checked(function, field)
        branch = self.branch()
        if undo is not None:
            branch.on_rollback(undo if isinstance(undo, str) else _without_barrier(undo))
        if commit is not None:
            branch.on_commit(commit if isinstance(commit, str) else _without_barrier(commit))
        return branch


def _without_barrier(function: Callable[[], Awaitable[object]]) -> Callable[[object], Awaitable[object]]:
    return lambda _barrier: function()
