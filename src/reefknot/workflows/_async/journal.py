"""What one run of a workflow records with the server."""

from __future__ import annotations

import msgspec

from reefknot.client._async.server import AsyncServer
from reefknot.client.values import BranchMessage, RecordedStep
from reefknot.errors import Failure, GidConflict, Invalid, Ongoing, Refused, WorkflowChanged
from reefknot.model import Op, Status
from reefknot.wire.outcome import reason_text
from reefknot.workflows import records
from reefknot.workflows.cancellation import async_finished
from reefknot.workflows.records import Decision, Records


class Overtaken(Ongoing):
    """Another run of the same workflow was faster: this one stops, and changes nothing any more."""


class AsyncJournal:
    """Reads and writes the rows of one workflow.

    An error here, and code that has changed, stop the run for good: whatever the workflow's function makes
    of the exception, nothing is recorded or decided after it.

    Args:
        server: keeps the rows.
        known: what it had when the run began.
    """

    def __init__(self, server: AsyncServer, known: Records) -> None:
        self.known = known
        #: The branch ids of the steps that are being done now.
        self.at_work: set[str] = set()
        self._begun: set[str] = set()
        self._server = server
        self._binary = server.address.protocol == "grpc"
        self._stopped: Exception | None = None

    def check(self) -> None:
        """Raise what stopped the run, if something did."""
        if self._stopped is not None:
            raise self._stopped

    def stop(self, error: Exception) -> None:
        """Let nothing be recorded from now on."""
        if self._stopped is None:
            self._stopped = error

    def check_complete(self) -> None:
        """Look, when the function has ended, whether this run came to every step that is recorded.

        What undoes and what confirms a step stands in the code alone: it is known only of steps that were begun.

        Raises:
            WorkflowChanged: there is another step, whose work would be neither undone nor confirmed.
        """
        for branch_id in self.known.unfinished():
            if branch_id not in self._begun:
                what = f"step {branch_id}{self.known.named(branch_id)} is recorded, and this run ended without it"
                raise records.changed(what, self.known.gid, branch_id)

    async def begin(self, branch_id: str, name: str) -> bytes | None:
        """Begin a step.

        Args:
            branch_id: its branch.
            name: what it does.

        Returns:
            What it returned in an earlier run; None if it is to be done now.

        Raises:
            Failure: it was refused in an earlier run.
            Invalid: it was done in an earlier run, and what it returned could not be recorded.
            WorkflowChanged: another step was in its place.
            Decided, OutcomeUnknown: it must not be done any more.
        """
        self.check()
        self._begun.add(branch_id)
        try:
            begun = self.known.is_begun(branch_id, name)
            done = self.known.get(branch_id, Op.ACTION)
            unrecordable = self.known.get(branch_id, records.UNRECORDABLE)
            if done is None and unrecordable is None:
                self.known.may_do(branch_id, begun=begun, name=name)
        except WorkflowChanged as error:
            self.stop(error)
            raise
        if done is None:
            if unrecordable is not None:
                raise self._unrecordable(unrecordable)
            if not begun:
                await self.add(branch_id, records.STEP, name.encode())
            return None
        if done.status is Status.FAILED:
            raise self._failure(branch_id, done.data)
        return self.known.result(done)

    async def succeeded(self, branch_id: str, data: bytes) -> None:
        """Record what a step returned, in parts if it does not fit into one row."""
        if self.known.get(branch_id, records.FORM) is None:
            if records.is_plain(data, binary=self._binary):
                await self.add(branch_id, Op.ACTION, data)
                return
            await self.add(branch_id, records.FORM, records.PARTS.encode())
        parts = list(records.parts_of(data))
        for op, part in parts:
            if self.known.get(branch_id, op) is None:
                await self.add(branch_id, op, part)
        await self.add(branch_id, Op.ACTION, msgspec.json.encode([op for op, _ in parts]))

    async def unrecordable(self, branch_id: str, error: Exception, what: str) -> Invalid:
        """Record that a step's work is done, and that what it returned cannot be recorded.

        Returns:
            The error that every later run of the workflow gets from the record, for this run too.
        """
        data = msgspec.json.encode(records.Unrecordable.of(error, what))
        await self.add(branch_id, records.UNRECORDABLE, data)
        return self._unrecordable(RecordedStep(branch_id, records.UNRECORDABLE, Status.SUCCEED, data))

    async def refused(self, branch_id: str, refusal: Failure) -> Failure:
        """Record that a step was refused, with the reason as it stands in the error.

        Returns:
            The error that every later run of the workflow gets from the record, for this run too.
        """
        if self.known.get(branch_id, Op.ACTION) is not None:
            return refusal
        data = reason_text(refusal.reason).encode()
        await self.add(branch_id, Op.ACTION, data, Status.FAILED)
        return self._failure(branch_id, data)

    async def decide(self, decision: Decision) -> None:
        """Record how the workflow ends, before the first call of phase 2."""
        if self.known.decision is None:
            await self.add(records.OWN_BRANCH, records.DECISION, msgspec.json.encode(decision))
            self.known.decision = decision

    async def add(self, branch_id: str, op: str, data: bytes, status: Status = Status.SUCCEED) -> None:
        """Record one row.

        Raises:
            Overtaken: another run has recorded something else there, or has ended the workflow.
            OutcomeUnknown, ServerUnavailable: nobody knows, or it was not recorded.
        """
        self.check()
        await async_finished(self._register, RecordedStep(branch_id, op, status, data))

    def _failure(self, branch_id: str, reason: bytes) -> Failure:
        return Failure(reason.decode(errors="replace"), gid=self.known.gid, branch_id=branch_id)

    def _unrecordable(self, row: RecordedStep) -> Invalid:
        return msgspec.json.decode(row.data, type=records.Unrecordable).error(self.known.gid, row.branch_id)

    async def _register(self, row: RecordedStep) -> None:
        gid, branch_id, op = self.known.gid, row.branch_id, row.op
        # A server of DTM's that is told nothing else answers before it writes, and forgets the data.
        fields = {"op": op, "status": str(row.status), "sync": "true"}
        try:
            await self._server.register(BranchMessage(gid, records.MODE, branch_id, row.data, fields))
        except Refused as error:
            what = f"another run of the workflow was faster at step {branch_id} {op}"
            if not isinstance(error, GidConflict):
                what = f"the workflow was ended by somebody else before step {branch_id} {op}"
            overtaken = Overtaken(what, gid=gid, branch_id=branch_id, advice=f"wait with client.wait({gid!r})")
            self.stop(overtaken)
            raise overtaken from error
        except Exception as error:
            self.stop(error)
            error.add_note(f"while {op} of step {branch_id} of the workflow {gid} was recorded")
            raise
        self.known.add(row)
