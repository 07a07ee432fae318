"""One step of a workflow, with what undoes and what confirms it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import msgspec

from reefknot.barrier import AsyncBarrier, Branch
from reefknot.barrier.core import checked_table
from reefknot.barrier.unawaited import async_done
from reefknot.client._async.server import AsyncServer
from reefknot.client.ambient import Ambient, current, entered, trace_headers
from reefknot.client.branches import checked_url, is_grpc
from reefknot.client.options import TransactionOptions
from reefknot.client.payload import encode
from reefknot.client.values import Answer
from reefknot.errors import Failure, Invalid, OutcomeUnknown
from reefknot.model import Op
from reefknot.workflows import records, values
from reefknot.workflows._async.journal import AsyncJournal
from reefknot.workflows._async.stubs import AsyncStubChannel
from reefknot.workflows.awaiting import async_checked, async_misfit
from reefknot.workflows.records import Decided
from reefknot.xa import core
from reefknot.xa._async.session import AsyncConnect, AsyncSession

Result = TypeVar("Result")

#: What a step answers over HTTP, as it is given back by a replay.
HTTP_OK = 200


class AsyncPhaseTwo(msgspec.Struct):
    """What confirms or undoes a step: a URL, called with a payload, or a function of the workflow's program.

    ``payload`` is None until it is known: the data of the step's own call.
    """

    url: str = ""
    payload: bytes | None = None
    function: Callable[[], Awaitable[object]] | None = None


class AsyncWorkflowBranch:
    """One step; made by ``AsyncWorkflow.branch``. It has one action: ``call``, ``do`` or ``xa``.

        branch = w.branch()
        branch.on_rollback(lambda barrier: barrier.call(connection, put_back))
        await branch.do(lambda barrier: barrier.call(connection, take))

    Attributes:
        gid: the workflow.
        branch_id: this step: ``01``, ``02``, …
    """

    def __init__(
        self,
        server: AsyncServer,
        journal: AsyncJournal,
        branch_id: str,
        options: TransactionOptions,
        *,
        undo_failed: bool | None,
        table: str = "",
    ) -> None:
        self.gid: str = journal.known.gid
        self.branch_id = branch_id
        self._server = server
        self._journal = journal
        self._options = options
        self._undo_failed = undo_failed
        self._table = table
        self._phase_two: dict[str, AsyncPhaseTwo] = {}
        self._acted = False

    def on_rollback(self, undo: str | Callable[[AsyncBarrier], Awaitable[object]], data: Any = None) -> Self:
        """Say what undoes the step if the workflow is rolled back.

        Args:
            undo: a URL, or a function that is called with the barrier of the rollback; it must succeed in the end.
            data: what the URL is called with; that of the step's own call if there is none.

        Returns:
            This branch.

        Raises:
            Invalid: it has such a thing already, or the URL cannot be called.
        """
        return self._finish_by(Op.ROLLBACK, "undo", undo, data)

    def on_commit(self, commit: str | Callable[[AsyncBarrier], Awaitable[object]], data: Any = None) -> Self:
        """Say what confirms the step if the workflow succeeds; as ``on_rollback``."""
        return self._finish_by(Op.COMMIT, "commit", commit, data)

    async def call(self, url: str, data: Any = None, *, name: str = "") -> Answer:
        """Call a branch; see ``AsyncWorkflow.call``."""
        checked_url("url", url, grpc_server=True)
        payload = encode(data, binary=is_grpc(url))
        for finish in self._phase_two.values():
            if finish.url and finish.payload is None:
                finish.payload = encode(data, binary=is_grpc(finish.url))
        body = await self._act(
            name or f"call {records.call_name(url)}", lambda: self._called(url, payload, Op.ACTION), guarded=True
        )
        return Answer(0 if is_grpc(url) else HTTP_OK, body)

    def channel(self, target: str) -> AsyncStubChannel:
        """What a generated gRPC stub takes for its channel, so that its one call is this step.

            await BankStub(branch.channel("bank:9000")).Hold(request)

        Args:
            target: the gRPC server, ``host:port``.
        """
        return AsyncStubChannel(target, self.call)

    async def do(
        self,
        work: Callable[[AsyncBarrier], Awaitable[Result]],
        *,
        returns: type[Result] | None = None,
        name: str = "",
    ) -> Result:
        """Do a local step; see ``AsyncWorkflow.do``.

        Args:
            work: is called with the step's barrier, by which a change in a database is made only once.
            returns: as for ``AsyncWorkflow.do``.
            name: as for ``AsyncWorkflow.do``.
        """
        barrier = AsyncBarrier(records.MODE, *self._identity(Op.ACTION), table=self._table)
        return await self.recorded(lambda: work(barrier), described=work, returns=returns, name=name, guarded=True)

    async def recorded(
        self,
        work: Callable[[], Awaitable[Result]],
        *,
        described: Callable[..., Any],
        returns: type[Result] | None = None,
        name: str = "",
        guarded: bool = False,
    ) -> Result:
        """Do work whose result is recorded.

        Args:
            work: is called unless an earlier run recorded its result.
            described: the caller's function, whose name and annotation count.
            returns: what it returns, where no annotation says it.
            name: of the step.
            guarded: whether the step's barrier stands before the work.
        """
        async_checked(described, "work")
        kind = values.returned_kind(described) if returns is None else returns

        async def encoded() -> bytes:
            made = work()
            problem: Exception | None = async_misfit(made, self._what)
            if problem is None:
                result = await made
                try:
                    return values.encode(result, kind, self._what)
                except Exception as error:  # noqa: BLE001 - a type of the caller's may raise anything
                    problem = error
            raise await self._journal.unrecordable(self.branch_id, problem, self._what) from problem

        name = name or f"do {getattr(described, '__name__', type(described).__name__)}"
        data = await self._act(name, encoded, guarded=guarded)
        result: Result = values.decode(data, kind, self._what)
        return result

    async def xa(
        self,
        connect: AsyncConnect,
        work: Callable[[Any], Awaitable[Result]],
        *,
        returns: type[Result] | None = None,
        name: str = "",
        table: str = "",
    ) -> Result:
        """Work in a database that prepares it; see ``AsyncWorkflow.xa``."""
        async_checked(work, "work")
        kind = values.returned_kind(work) if returns is None else returns
        table = checked_table(table) if table else ""
        for op, steps in ((Op.COMMIT, core.commit), (Op.ROLLBACK, core.rollback)):
            session = AsyncSession(connect, self._branch(op), table)
            self._add_finish(op, "xa", AsyncPhaseTwo(function=_running(session, steps)))

        async def recorded() -> bytes:
            return await self._prepared(AsyncSession(connect, self._branch(Op.ACTION), table), work, kind)

        data = await self._act(name or "xa", recorded, guarded=True)
        result: Result = values.decode(data, kind, self._what)
        return result

    async def finish(self, op: str) -> None:
        """Do phase 2 of the step, unless it has none or an earlier run did it.

        Args:
            op: ``commit`` or ``rollback``.

        Raises:
            Ongoing, OutcomeUnknown, ServerUnavailable: it is to be done again.
        """
        finish = self._phase_two.get(op)
        if finish is None or self._journal.known.get(self.branch_id, op) is not None:
            return
        try:
            with entered(self._ambient(op)):
                if finish.function is not None:
                    await async_done(finish.function())
                else:
                    await self._called(finish.url, finish.payload or encode(None, binary=is_grpc(finish.url)), op)
        except Failure as refusal:
            raise OutcomeUnknown(
                f"the {op} of step {self.branch_id} was refused: {refusal.reason}; it is repeated until it succeeds",
                gid=self.gid,
                branch_id=self.branch_id,
                url=finish.url,
                advice="what is called in phase 2 must not refuse: the workflow is decided",
            ) from refusal
        await self._journal.add(self.branch_id, op, b"")

    @property
    def has_phase_two(self) -> bool:
        """Whether anything confirms or undoes the step."""
        return bool(self._phase_two)

    async def _act(self, name: str, work: Callable[[], Awaitable[bytes]], *, guarded: bool) -> bytes:
        """Do the action, or give back what it returned in an earlier run.

        Args:
            name: of the step.
            work: the action.
            guarded: whether a barrier stands before it, a service's or the step's own. Then it is undone though
                it has refused, unless the workflow says otherwise: another copy of it may still be under way, and
                the undo lets the barrier keep that out.
        """
        if self._acted:
            raise Invalid("branch", f"{self.branch_id} has had its action", "make another one with w.branch()")
        around = current()
        inside = (around.gid, around.trans_type) == (self.gid, records.MODE)
        if inside and around.branch_id not in {"", records.OWN_BRANCH}:
            fix = "call it from the workflow's function itself"
            raise Invalid("branch", f"step {self.branch_id} begins inside step {around.branch_id}", fix)
        self._acted = True
        self._journal.at_work.add(self.branch_id)
        try:
            undone = guarded if self._undo_failed is None else self._undo_failed
            return await self._done(name, work, undone=undone)
        finally:
            self._journal.at_work.discard(self.branch_id)

    async def _done(self, name: str, work: Callable[[], Awaitable[bytes]], *, undone: bool) -> bytes:
        try:
            done = await self._journal.begin(self.branch_id, name)
            if done is not None:
                return done
            with entered(self._ambient(Op.ACTION)):
                data = await work()
        except Decided:
            if not self._journal.known.is_begun(self.branch_id, name):
                self._phase_two.clear()
            raise
        except Failure as refusal:
            self._phase_two.pop(Op.COMMIT, None)
            if not undone:
                self._phase_two.clear()
            told = await self._journal.refused(self.branch_id, refusal)
            if told is refusal:
                raise
            raise told from refusal
        await self._journal.succeeded(self.branch_id, data)
        return data

    async def _called(self, url: str, payload: bytes, op: str) -> bytes:
        identity = {"gid": self.gid, "branch_id": self.branch_id, "trans_type": records.MODE, "op": op}
        headers, seconds = self._options.headers, float(self._options.request_timeout)
        try:
            answer = await self._server.call_branch(url, payload, identity, headers=headers, seconds=seconds)
        except OutcomeUnknown as error:
            error.advice = "let it leave the workflow's function: the server resumes the workflow, which calls again"
            raise
        return answer.body

    async def _prepared(
        self, session: AsyncSession, work: Callable[[Any], Awaitable[Result]], kind: type[Result]
    ) -> bytes:
        """What the work returned, once the database has prepared it.

        It is recorded before the database prepares: an attempt that finds the work prepared by an earlier
        one gives back what that one recorded.
        """
        attempts = self._journal.known.business_rows(self.branch_id)
        made: list[bytes] = []

        async def worked(connection: Any) -> None:
            made.append(values.encode(await work(connection), kind, self._what))

        async def recorded() -> None:
            op = records.business(len(attempts) + 1)
            await self._journal.add(self.branch_id, op, b64encode(made[0]))

        await session.run(core.action, worked, recorded)
        if made:
            return made[0]
        if not attempts:
            what = "the database has work of this step, and no record says what it returned"
            raise OutcomeUnknown(what, gid=self.gid, branch_id=self.branch_id, advice="run the workflow again")
        return b64decode(attempts[-1].data)

    def _finish_by(
        self, op: str, field: str, how: str | Callable[[AsyncBarrier], Awaitable[object]], data: Any
    ) -> Self:
        if isinstance(how, str):
            url = checked_url(field, how, grpc_server=True)
            payload = None if data is None else encode(data, binary=is_grpc(url))
            self._add_finish(op, field, AsyncPhaseTwo(url, payload))
        else:
            async_checked(how, field)
            called = how
            self._add_finish(
                op,
                field,
                AsyncPhaseTwo(
                    function=lambda: called(AsyncBarrier(records.MODE, *self._identity(op), table=self._table))
                ),
            )
        return self

    def _add_finish(self, op: str, field: str, finish: AsyncPhaseTwo) -> None:
        if op in self._phase_two:
            raise Invalid(field, f"is given twice for step {self.branch_id}", "a step has one undo and one commit")
        self._phase_two[op] = finish

    def _identity(self, op: str) -> tuple[str, str, str]:
        return self.gid, self.branch_id, op

    def _branch(self, op: str) -> Branch:
        return Branch(records.MODE, *self._identity(op))

    def _ambient(self, op: str) -> Ambient:
        return Ambient(self.gid, records.MODE, self.branch_id, op, trace_headers())

    @property
    def _what(self) -> str:
        return f"the result of step {self.branch_id}"


def _running(session: AsyncSession, steps: Any) -> Callable[[], Awaitable[object]]:
    return lambda: session.run(steps)
